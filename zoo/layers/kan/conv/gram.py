"""Convolution over Gram polynomials of every channel."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import no_autocast
from zoo.layers.kan.conv.expanded import ExpandedConv2d, Size, fold_batch_norm, made_norm
from zoo.layers.kan.conv.functional import by_group, check_maps, few_pixels, pair, recomputed
from zoo.layers.kan.options import check_choice, check_count

_BACKENDS = ("auto", "reference")


def gram_polynomials(t: Float[Tensor, "*shape"], beta: Float[Tensor, " functions"]) -> list[Tensor]:
    # type: (Tensor, Tensor) -> List[Tensor]
    """The polynomials P_0 to P_D of t, each of its shape.

        P_0 = 1,    P_1 = t,    P_i = t P_{i-1} - b_i P_{i-2}    with n = i - 1 and
        b_i = (2i - 1) n^2 (4n^2 - 1) / i^2 beta_n

    The factor of beta is that of the released code, not that of the orthogonal polynomials; it is learned anyway. The
    first and the last number of beta have no effect.

    Args:
        t: numbers, of [-1, 1] in the layers here.
        beta: (D + 1), D of 1 or more.
    """
    found = [torch.ones_like(t), t]
    for i in range(2, beta.shape[0]):
        n = i - 1
        factor = (i + n) * n * n * (4 * n * n - 1) / (i * i)
        found.append(t * found[-1] - factor * beta[n] * found[-2])
    return found


def gram_conv2d(
    x: Float[Tensor, "batch in_channels height width"],
    weight: Float[Tensor, "out_channels columns kh kw"],
    beta: Float[Tensor, " functions"],
    base_weight: Float[Tensor, "out_channels group_channels kh kw"] | None = None,
    bias: Float[Tensor, " out_channels"] | None = None,
    *,
    kept: Float[Tensor, "batch in_channels height width"] | None = None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    backend: str = "auto",
) -> Float[Tensor, "batch out_channels out_height out_width"]:
    """conv(SiLU([P_0(t), ..., P_D(t)]); weight) + conv(SiLU(x); base_weight) + bias, with t = kept tanh(x).

    Args:
        x: maps.
        weight: columns (function, channel) within each group.
        beta: see `gram_polynomials`.
        base_weight: None for no base branch.
        bias: None for none.
        kept: factors of t, those of a dropout; None for 1.
        stride, padding, dilation, groups: of the convolutions.
        backend: "auto": one convolution over all maps, unless there are few pixels. P_0 is the same in every channel,
            so that one channel of it serves. For the backward pass only the arguments are kept. "reference": as the
            formula says.

    Raises:
        ValueError: an unknown backend.

    Half precision and autocast: the polynomials are computed in float32, the convolution in the lower type.
    """
    check_choice("backend", backend, _BACKENDS)
    geometry = {"stride": pair(stride), "padding": pair(padding), "dilation": pair(dilation), "groups": groups}
    if backend == "reference" or few_pixels(x):
        with no_autocast(x):
            features = F.silu(by_group(gram_polynomials(_squashed(x, kept), beta.to(_work(x))), groups)).to(x.dtype)
        y = F.conv2d(features, weight, bias, **geometry)
        return y if base_weight is None else y + F.conv2d(F.silu(x), base_weight, **geometry)

    def merged(
        x: Tensor, weight: Tensor, beta: Tensor, base_weight: Tensor | None, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        with no_autocast(x):
            _, *maps = gram_polynomials(_squashed(x, kept), beta.to(_work(x)))
            maps = [torch.ones_like(maps[0][:, :groups]), *maps]
            if base_weight is not None:
                maps = [x.to(maps[0].dtype), *maps]
            features = F.silu(by_group(maps, groups), inplace=not torch.is_grad_enabled()).to(x.dtype)
            width = x.shape[1] // groups
            constant, others = weight.split([width, weight.shape[1] - width], 1)
            kernel = [constant.sum(1, keepdim=True), others]
            return features, torch.cat(kernel if base_weight is None else [base_weight, *kernel], 1)

    return recomputed(merged, bias, geometry, x, weight, beta, base_weight, kept)


def _work(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _squashed(x: Tensor, kept: Tensor | None) -> Tensor:
    t = torch.tanh(x.to(_work(x)))
    return t if kept is None else t * kept


class GramLayer(ExpandedConv2d):
    """What `GramConv2d` and its bottleneck have in common: convolutions, beta, dropout, norm.

    Args:
        width: channels that are expanded, and how many are made of them.
        options: see `GramConv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        width: tuple[int, int],
        degree: int,
        dropout: float,
        norm: str | nn.Module | None,
        affine: bool,
        backend: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        **geometry: Any,
    ) -> None:
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        columns = width[0] * (check_count("degree", degree) + 1)
        super().__init__(in_channels, out_channels, kernel_size, basis_channels=(columns, width[1]), **geometry, **dd)
        self.degree = degree
        self.backend = check_choice("backend", backend, _BACKENDS)
        self.beta = nn.Parameter(torch.empty(degree + 1, **dd))
        self.dropout = nn.Dropout(dropout)
        self.norm = made_norm("norm", norm, out_channels, affine, **dd)

    def reset_parameters(self) -> None:
        """As of the base; beta normal, of the standard deviation 1 / (columns of a kernel)."""
        super().reset_parameters()
        nn.init.normal_(self.beta, std=1 / math.prod(self.basis_conv.weight.shape[1:]))

    def _activated(self, y):
        # type: (Tensor) -> Tensor
        if self.norm is not None:
            y = self.norm(y)
        return F.silu(y)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, degree={self.degree}, backend={self.backend!r}"


class GramConv2d(GramLayer):
    """A convolution over Gram polynomials of the squashed channels: y = SiLU(norm(gram_conv2d(x))).

    Shapes: (B, in_channels, H, W) -> (B, out_channels, H', W'). State dict: `basis_conv.weight` (out_channels,
    in_channels / groups * (degree + 1), kh, kw), `base_conv.weight`, `beta` (degree + 1), `norm.*`.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups: as of `nn.Conv2d`.
        degree: of the polynomials, D.
        dropout: of tanh(x).
        norm: "instance", "batch", None or a module.
        affine: the norm learns a scale and a shift.
        backend: see `gram_conv2d`.

    Raises:
        ValueError: a value out of range, an unknown name; in the call, maps of other channels.
        TypeError: in the call, integer maps.

    Source: "Kolmogorov-Arnold Convolutions: Design Principles and Empirical Studies" (2024, arXiv 2407.01092).
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
        degree: int = 3,
        dropout: float = 0.0,
        norm: str | nn.Module | None = "instance",
        affine: bool = True,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            width=(in_channels, out_channels),
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
        self.reset_parameters()

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        # type: (Tensor) -> Tensor
        if torch.jit.is_scripting():
            maps = gram_polynomials(self.dropout(torch.tanh(x)), self.beta)
            y = self.basis_conv(F.silu(by_group(maps, self.groups))) + self.base_conv(F.silu(x))
        else:
            y = self._convolved(x)
        return self._activated(y)

    def _convolved(self, x: Tensor) -> Tensor:
        check_maps(x, self.in_channels)
        return gram_conv2d(
            x,
            self.basis_conv.weight,
            self.beta,
            self.base_conv.weight,
            self.base_conv.bias,
            kept=kept_share(self.dropout, x),
            backend=self.backend,
            **self._geometry(),
        )

    def fuse(self) -> "GramConv2d":
        """Fold a batch norm into the kernels, in place, and switch to evaluation; the state dict has other names."""
        self.eval()
        self.norm = fold_batch_norm(self.norm, (self.base_conv, self.basis_conv))
        return self


def kept_share(dropout: nn.Dropout, x: Tensor) -> Tensor | None:
    """The factors of a dropout in training; None where it does nothing."""
    return dropout(torch.ones_like(x)) if dropout.training and dropout.p > 0 else None
