"""Parts of timm's contract for image models that do not depend on the model."""

import torch
import torch.fx
from timm.models._features import feature_take_indices
from torch import Tensor


def taken_stages(
    indices: int | list[int] | tuple[int, ...] | None, count: int, what: str = "stages"
) -> tuple[list[int], int]:
    """The stages that `forward_intermediates` is asked for, and the last of them.

    Args:
        indices: the last n (int), these (list, negative from the end), or all (None).
        count: how many there are.
        what: what the model calls them.

    Raises:
        ValueError: an index out of range.
    """
    asked = [indices] if isinstance(indices, int) else list(indices or [])
    if isinstance(indices, int) and not 0 < indices <= count:
        raise ValueError(f"indices must be between 1 and {count} when it counts the last {what}, got {indices}")
    if not isinstance(indices, int) and any(not -count <= i < count for i in asked):
        raise ValueError(f"indices must be between {-count} and {count - 1} for {count} {what}, got {asked}")
    return feature_take_indices(count, list(indices) if isinstance(indices, tuple) else indices)


def is_traced(x: Tensor) -> bool:
    """No values or sizes to look at: the model is being traced or compiled."""
    return isinstance(x, torch.fx.Proxy) or torch.compiler.is_compiling()


def check_image(x: Tensor, in_chans: int) -> None:
    """Refuse what is no batch of images.

    Raises:
        ValueError: another rank or number of channels.
        TypeError: not floating point.
    """
    if x.ndim != 4 or x.shape[1] != in_chans:
        raise ValueError(
            f"expected images (batch, {in_chans}, height, width), got {tuple(x.shape)}"
            + (_missing_axis(x, in_chans) if x.ndim == 3 else "; in_chans= sets the channels")
        )
    if not x.is_floating_point():
        raise TypeError(f"images must be floating point in the normalised range, got {x.dtype}; x.float() / 255")


def _missing_axis(x: Tensor, in_chans: int) -> str:
    """What makes a batch of three axes: they are one image, or grey images without their channel."""
    grey = in_chans == 1 and x.shape[0] != 1
    return "; add the channel with x[:, None]" if grey else "; add the batch with x[None]"
