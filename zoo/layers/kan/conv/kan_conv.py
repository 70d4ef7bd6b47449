"""Convolution over bells or splines of every channel."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import no_autocast
from zoo.layers.kan.basis import named_basis
from zoo.layers.kan.conv.expanded import ExpandedConv2d, Size, made_norm
from zoo.layers.kan.conv.functional import by_group, check_maps, recomputed
from zoo.layers.kan.functional import checked_bases
from zoo.layers.kan.options import as_activation, check_choice

_BACKENDS = ("auto", "reference")


class KANConv2d(ExpandedConv2d):
    """A convolutional KAN layer: y = act(out_norm(conv(sigma(x)) + conv([B_1(norm(x)), ..., B_K(norm(x))]))).

    Shapes: (B, in_channels, H, W) -> (B, out_channels, H', W'). State dict: `basis_conv.weight` (out_channels,
    K * in_channels / groups, kh, kw), `base_conv.weight`, `basis.knots` or `basis.centers`, `norm.*`, `out_norm.*`.

    `fast` and `efficient` are the two layers of torch-conv-kan: Gaussians, and B-splines.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups: as of `nn.Conv2d`. Padding is 0 in
            the maps of the functions, not their values at 0.
        basis, grid_size, spline_order: see `KANLinear`; a module takes channels as its inputs.
        grid_range: see `KANLinear`; None for -2 to 2, where the basis has a range.
        base_activation: sigma, a name or a module.
        norm: of what the functions see: "instance", "batch", None or a module. Those of a name learn nothing.
        out_norm: of the sum.
        activation: of what `out_norm` gives: a name, a module or None.
        backend: "auto" keeps for the backward pass what goes in, and computes the functions again, unless basis or
            sigma have parameters; "reference" keeps the functions.

    Raises:
        ValueError: a value out of range, an unknown name; in the call, maps of other channels, a basis that gives
            another shape than it should.
        TypeError: in the call, integer maps.

    Half precision and autocast: the functions are computed in float32, the convolutions in the lower type.

    Source: torch-conv-kan (2024, arXiv 2407.01092).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = 3,
        *,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        basis: str | nn.Module = "gaussian",
        grid_size: int = 8,
        spline_order: int = 3,
        grid_range: tuple[float, float] | None = None,
        base_activation: str | nn.Module = "silu",
        norm: str | nn.Module | None = "instance",
        out_norm: str | nn.Module | None = None,
        activation: str | nn.Module | None = None,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        if isinstance(basis, str):
            basis = named_basis(basis, in_channels, grid_size, spline_order, grid_range, **dd)
        num_bases = int(basis.num_bases)  # pyright: ignore[reportArgumentType, reportCallIssue]
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            basis_channels=(in_channels * num_bases, out_channels),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            **dd,
        )
        self.basis = basis
        self.base_activation = as_activation("base_activation", base_activation) or nn.Identity()
        self.norm = made_norm("norm", norm, in_channels, affine=False, **dd)
        self.out_norm = made_norm("out_norm", out_norm, out_channels, affine=False, **dd)
        self.activation = as_activation("activation", activation)
        self.backend = check_choice("backend", backend, _BACKENDS)
        self.reset_parameters()

    @classmethod
    def fast(cls, in_channels: int, out_channels: int, kernel_size: Size = 3, **options: Any) -> "KANConv2d":
        """As the layer of Gaussians: 8 of them on [-2, 2] after an instance norm, SiLU base.

        Args:
            in_channels, out_channels, kernel_size, options: see the class, whose defaults these are.
        """
        return cls(in_channels, out_channels, kernel_size, **options)

    @classmethod
    def efficient(cls, in_channels: int, out_channels: int, kernel_size: Size = 3, **options: Any) -> "KANConv2d":
        """As the layer of B-splines: cubic over 5 intervals of [-1, 1], GELU base, instance norm and PReLU at the end.

        Args:
            in_channels, out_channels, kernel_size, options: see the class.
        """
        slopes = 1 if options.get("groups", 1) == 1 else out_channels
        place: dict[str, Any] = {name: options.get(name) for name in ("device", "dtype")}
        defaults = {
            "basis": "bspline",
            "grid_size": 5,
            "grid_range": (-1.0, 1.0),
            "base_activation": "gelu",
            "norm": None,
            "out_norm": "instance",
            "activation": nn.PReLU(slopes, **place),
        }
        return cls(in_channels, out_channels, kernel_size, **{**defaults, **options})

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        check_maps(x, self.in_channels)
        u = x if self.norm is None else self.norm(x)
        weights = self.base_conv.weight, self.basis_conv.weight
        learned = (p.requires_grad for part in (self.basis, self.base_activation) for p in part.parameters())
        if self.backend == "reference" or any(learned):
            y = F.conv2d(self.base_activation(x), weights[0], **self._geometry())
            y = y + F.conv2d(by_group(self._maps(u), self.groups).to(x.dtype), weights[1], **self._geometry())
        else:
            y = recomputed(self._merged, None, self._geometry(), x, u, *weights)
        y = y if self.out_norm is None else self.out_norm(y)
        return y if self.activation is None else self.activation(y)

    def _maps(self, u: Tensor) -> list[Tensor]:
        """The K functions of all channels, a map (B, in_channels, H, W) each."""
        work = torch.float64 if u.dtype == torch.float64 else torch.float32
        num_bases = self.basis_conv.in_channels // self.in_channels
        with no_autocast(u):
            bases = checked_bases(self.basis, u.to(work).movedim(1, -1), num_bases)
            return list(bases.movedim(-2, 1).unbind(-1))

    def _merged(self, x: Tensor, u: Tensor, base_weight: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The activated maps and all functions of them, and the kernel of both convolutions."""
        maps = [self.base_activation(x), *self._maps(u)]
        return by_group(maps, self.groups).to(x.dtype), torch.cat([base_weight, weight], 1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, backend={self.backend!r}"
