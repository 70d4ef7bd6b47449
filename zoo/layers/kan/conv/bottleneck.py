"""Convolution over Gram polynomials of a few mixtures of the channels."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.conv.expanded import Size, fold_batch_norm
from zoo.layers.kan.conv.functional import by_group, check_maps, few_pixels, recomputed
from zoo.layers.kan.conv.gram import GramLayer, gram_conv2d, gram_polynomials
from zoo.layers.kan.options import check_count, check_positive

_NARROW = 16


def bottleneck_width(in_channels: int, out_channels: int, reduction: int | float) -> int:
    """Channels of the bottleneck: the larger number / reduction, but 16 (or the smaller number) if that is less."""
    width = int(max(in_channels, out_channels) / check_positive("reduction", float(reduction)))
    return width if width >= _NARROW else min(_NARROW, in_channels, out_channels)


class BottleneckGramConv2d(GramLayer):
    """A Gram convolution between two 1x1 convolutions: y = SiLU(norm(out_proj(gram(inner_proj(x))) + conv(SiLU(x)))).

    Shapes: (B, in_channels, H, W) -> (B, out_channels, H', W'). State dict: as of `GramConv2d`, with `basis_conv` from
    width to width channels, and `inner_proj.weight`, `out_proj.weight`.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, degree, norm, affine, backend: see
            `GramConv2d`.
        reduction: see `bottleneck_width`.
        width: channels of the bottleneck; None for what `reduction` gives.
        dropout: in training, with this probability every number of x is changed by 0.05 times a normal number times
            the standard deviation of its channel.

    Raises:
        ValueError, TypeError: as `GramConv2d`.

    Source: "Kolmogorov-Arnold Convolutions: Design Principles and Empirical Studies" (2024, arXiv 2407.01092).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = 3,
        *,
        reduction: int | float = 4,
        width: int | None = None,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        degree: int = 3,
        dropout: float = 0.0,
        norm: str | nn.Module | None = "instance",
        affine: bool = True,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if width is None:
            width = bottleneck_width(in_channels, out_channels, reduction)
        if check_count("width", width) % check_count("groups", groups):
            raise ValueError(f"groups = {groups} must divide the {width} channels of the bottleneck")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            width=(width, width),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            degree=degree,
            dropout=dropout,
            norm=norm,
            affine=affine,
            backend=backend,
            device=device,
            dtype=dtype,
        )
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.inner_proj = nn.Conv2d(in_channels, width, 1, groups=groups, bias=False, **dd)
        self.out_proj = nn.Conv2d(width, out_channels, 1, groups=groups, bias=False, **dd)
        self.reset_parameters()

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        # type: (Tensor) -> Tensor
        if torch.jit.is_scripting():
            x = self._noisy(x)
            maps = gram_polynomials(torch.tanh(self.inner_proj(x)), self.beta)
            mixed, plain = self.basis_conv(F.silu(by_group(maps, self.groups))), self.base_conv(F.silu(x))
        else:
            check_maps(x, self.in_channels)
            x = self._noisy(x)
            mixed, plain = self._mixed(self.inner_proj(x)), self._base(x)
        return self._activated(self.out_proj(mixed) + plain)

    def _mixed(self, x: Tensor) -> Tensor:
        return gram_conv2d(x, self.basis_conv.weight, self.beta, backend=self.backend, **self._geometry())

    def _base(self, x: Tensor) -> Tensor:
        conv = self.base_conv
        if self.backend == "reference" or few_pixels(x):
            return F.conv2d(F.silu(x), conv.weight, conv.bias, **self._geometry())
        return recomputed(lambda x, weight: (F.silu(x), weight), conv.bias, self._geometry(), x, conv.weight)

    def _noisy(self, x):
        # type: (Tensor) -> Tensor
        p = self.dropout.p
        if not self.training or p == 0:
            return x
        spread = x.detach().std([0, 2, 3], correction=0, keepdim=True)
        return x + 0.05 * torch.bernoulli(torch.full_like(x, p)) * torch.randn_like(x) * spread

    def fuse(self) -> "BottleneckGramConv2d":
        """Fold a batch norm into the kernels, in place, and switch to evaluation; the state dict has other names."""
        self.eval()
        self.norm = fold_batch_norm(self.norm, (self.base_conv, self.out_proj))
        return self
