"""What convolutions over expanded channels share."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from zoo.layers.eager import must_compose


def by_group(maps: list[Tensor], groups: int) -> Tensor:
    # type: (List[Tensor], int) -> Tensor
    """Maps (B, channels of it, H, W) one after another within every group of a grouped convolution."""
    if groups == 1:
        return torch.cat(maps, 1)
    return torch.cat([each.unflatten(1, [groups, each.shape[1] // groups]) for each in maps], 2).flatten(1, 2)


def recomputed(function: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
    """`function(*tensors)`, of which only the tensors are kept: the rest is computed again in the backward pass.

    The expanded channels are several times as large as what they are made of. A convolution that comes last is not
    repeated: its inputs are all that the backward pass asks for.
    """
    if not torch.is_grad_enabled() or must_compose(*(tensor for tensor in tensors if tensor is not None)):
        return function(*tensors)
    return checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)  # pyright: ignore[reportReturnType]


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
