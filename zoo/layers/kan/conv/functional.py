"""What convolutions over expanded channels share."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.eager import must_compose

_FEW_PIXELS = 256


def by_group(maps: list[Tensor], groups: int) -> Tensor:
    # type: (List[Tensor], int) -> Tensor
    """Maps (B, channels of it, H, W) one after another within every group of a grouped convolution."""
    if groups == 1:
        return torch.cat(maps, 1)
    return torch.cat([each.unflatten(1, [groups, each.shape[1] // groups]) for each in maps], 2).flatten(1, 2)


def recomputed(
    expand: Callable[..., tuple[Tensor, Tensor]], bias: Tensor | None, geometry: dict[str, Any], *tensors: Tensor | None
) -> Tensor:
    """`conv2d(*expand(*tensors), bias)`, of which only the tensors are kept, not what they are expanded to.

    The expanded channels are several times as large as what they are made of; they are made again in the backward pass.

    Args:
        expand: from the tensors to features and kernel.
        bias: of the convolution.
        geometry: stride, padding, dilation and groups of it, as `nn.Conv2d` has them.
        tensors: None for those that are not there. What else has a gradient, such as parameters of a module that
            expands, gets none.
    """
    given = [tensor for tensor in (*tensors, bias) if tensor is not None]
    if not torch.is_grad_enabled() or must_compose(*given):
        features, kernel = expand(*tensors)
        return F.conv2d(features, kernel, bias, **geometry)
    return _Recomputed.apply(expand, geometry, bias, *tensors)  # pyright: ignore[reportReturnType]


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, expand: Any, geometry: dict[str, Any], bias: Tensor | None, *tensors: Tensor | None
    ) -> Tensor:
        ctx.expand, ctx.geometry = expand, geometry
        ctx.save_for_backward(bias, *tensors)
        features, kernel = expand(*tensors)
        return F.conv2d(features, kernel, bias, **geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        needed = ctx.needs_input_grad[2:]
        twice = torch.is_grad_enabled()
        # As inputs of their own: one may be a function of another. Attached, where a second derivative is asked for.
        inputs = [
            t if t is None else t.view_as(t) if twice and need else t.detach().requires_grad_(need)
            for t, need in zip(ctx.saved_tensors, needed, strict=True)
        ]
        with torch.enable_grad():
            features, kernel = ctx.expand(*inputs[1:])
            if twice:
                outputs, weights = [F.conv2d(features, kernel, inputs[0], **ctx.geometry)], [g]
        if not twice:
            outputs = [t for t in (features, kernel) if t.requires_grad]
            weights, shift = _convolution_backward(g, features, kernel, inputs[0], ctx.geometry)
        wanted = [t for t, need in zip(inputs, needed, strict=True) if need and (twice or t is not inputs[0])]
        found: list[Any] = []
        if wanted:
            found += torch.autograd.grad(outputs, wanted, weights, create_graph=twice, allow_unused=True)  # pyright: ignore[reportArgumentType, reportCallIssue]
        if not twice and needed[0]:
            found.insert(0, shift)
        given = iter(found)
        return None, None, *(next(given) if need else None for need in needed)


def _convolution_backward(
    g: Tensor, features: Tensor, kernel: Tensor, bias: Tensor | None, geometry: dict[str, Any]
) -> tuple[list[Tensor], Tensor | None]:
    """Gradients of those of features and kernel that have one, and of the bias."""
    parts = features, kernel
    mask = [*(part.requires_grad for part in parts), bias is not None and bias.requires_grad]
    *found, shift = torch.ops.aten.convolution_backward(
        g,
        *(part.detach().to(g.dtype) for part in parts),  # autocast may have lowered them
        [kernel.shape[0]],
        *(geometry[name] for name in ("stride", "padding", "dilation")),
        False,
        [0, 0],
        geometry["groups"],
        mask,
    )
    return [f.to(part.dtype) for f, part in zip(found, parts, strict=True) if part.requires_grad], shift


def few_pixels(x: Tensor) -> bool:
    """Maps so small that neither merging kernels nor expanding twice pays."""
    return not must_compose(x) and x.shape[0] * x.shape[2] * x.shape[3] < _FEW_PIXELS


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """A size for both directions."""
    return (size, size) if isinstance(size, int) else size


def check_maps(x: Tensor, in_channels: int) -> None:
    """Refuse what a layer of so many channels cannot expand.

    Raises:
        TypeError: no floating type.
        ValueError: another rank or number of channels.
    """
    if not x.is_floating_point():
        raise TypeError(f"x must be of a floating type, got {x.dtype}; x.float() makes it one")
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise ValueError(f"x must be maps (batch, {in_channels}, height, width), got the shape {tuple(x.shape)}")
