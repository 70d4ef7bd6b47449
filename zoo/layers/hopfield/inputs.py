"""The inputs of an association: their shapes, and both kinds of masks as one that is added to the scores."""

import torch
import torch.nn.functional as F
from torch import Tensor


def check_inputs(widths: dict[str, tuple[Tensor, int | None]]) -> None:
    """Refuse inputs of other widths, ranks or types.

    Args:
        widths: name -> (batch, length, width) tensor and the width that it must have, None for any.

    Raises:
        ValueError, TypeError: with what was given.
    """
    for name, (value, width) in widths.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor (batch, length, width), got {type(value).__name__}")
        if not value.is_floating_point():
            raise TypeError(f"{name} must be of a floating type, got {value.dtype}")
        if value.ndim != 3:
            raise ValueError(f"{name} must have three axes (batch, length, width), got {tuple(value.shape)}")
        if width is not None and value.shape[-1] != width:
            raise ValueError(f"{name} must be {width} wide, got {tuple(value.shape)}")


def check_batches(batches: dict[str, int]) -> None:
    """Refuse inputs of different batches.

    Raises:
        ValueError: with the batch of each.
    """
    first, *others = batches.values()
    if any(batch != first for batch in others):
        given = ", ".join(f"{name} {batch}" for name, batch in batches.items())
        raise ValueError(f"all inputs must have the same batch, got {given}")


def score_mask(
    padding_mask: Tensor | None,
    association_mask: Tensor | None,
    shape: tuple[int, int, int, int],
    extra: int,
    dtype: torch.dtype,
) -> Tensor | None:
    """What is added to the scores, -inf where it is forbidden to associate; None if nothing is.

    Args:
        padding_mask: (batch, stored), True = ignore this stored pattern.
        association_mask: (states, stored), (batch * heads, states, stored) with row b * heads + h, or four axes that
            broadcast to shape; True = forbid, or a float that is added.
        shape: (batch, heads, states, stored).
        extra: stored patterns that follow those given, which no mask touches.
        dtype: of the scores.

    Raises:
        ValueError, TypeError: masks of other shapes or types.
    """
    batch, _, _, stored = shape
    total = None
    if padding_mask is not None:
        if padding_mask.dtype != torch.bool:
            raise TypeError(f"padding_mask must be of torch.bool, True = ignore, got {padding_mask.dtype}")
        if tuple(padding_mask.shape) != (batch, stored):
            given = tuple(padding_mask.shape)
            raise ValueError(f"padding_mask must be (batch, stored) = {(batch, stored)}, got {given}")
        total = _additive(padding_mask, dtype).view(batch, 1, 1, stored)
    if association_mask is not None:
        four = _four_axes(association_mask, shape)
        added = _additive(four, dtype)
        total = added if total is None else total + added
    return total if total is None or not extra else F.pad(total, (0, extra))


def _four_axes(mask: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    batch, heads, states, stored = shape
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(
            f"association_mask must be of torch.bool, True = forbid, or of a floating type, got {mask.dtype}"
        )
    if tuple(mask.shape) == (states, stored):
        return mask
    if tuple(mask.shape) == (batch * heads, states, stored):
        return mask.view(shape)
    if mask.ndim == 4 and all(size in (1, full) for size, full in zip(mask.shape, shape, strict=True)):
        return mask.expand(-1, -1, -1, stored)
    raise ValueError(
        f"association_mask must be (states, stored) = {(states, stored)}, (batch * heads, states, stored) = "
        f"{(batch * heads, states, stored)}, or broadcast to {shape}, got {tuple(mask.shape)}"
    )


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -torch.inf)


def nowhere(mask: Tensor) -> Tensor:
    """Which states may associate with nothing in any head, (batch or 1, states or 1, 1), from a mask of the scores."""
    forbidden = torch.isneginf(mask).all(-1)
    return (forbidden if forbidden.ndim == 1 else forbidden.all(1)).unsqueeze(-1)
