"""Ragged bags as they may be given: flat rows with offsets, or a nested tensor."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.layers.hopfield.bags import RaggedBags

Offsets = Tensor | Sequence[int] | None


def is_ragged(x: Tensor, offsets: Offsets) -> bool:
    """x is a nested tensor, or comes with offsets."""
    return offsets is not None or x.is_nested


def ragged_bags(x: Tensor, offsets: Offsets, width: int | None) -> tuple[Tensor, RaggedBags]:
    """The rows of all bags, (N, width), and whose they are.

    Args:
        x: rows (N, width), bag behind bag; or a jagged nested tensor (bags, rows, width).
        offsets: of rows, where every bag starts and the last one ends, (bags + 1,), a NumPy array too; None of a
            nested tensor.
        width: that the rows must have, None for any.

    Raises:
        ValueError, TypeError: rows of another width, rank or type; offsets that do not go from 0 to N, or go back.
    """
    if not x.is_floating_point():
        raise TypeError(f"x must be of a floating type, got {x.dtype}")
    if x.is_nested:
        if offsets is not None:
            raise ValueError("a nested tensor says itself where its bags end; give it without offsets")
        rows, offsets = _nested_rows(x)
    else:
        rows = x
    if rows.ndim != 2 or (width is not None and rows.shape[1] != width):
        raise ValueError(f"rows of ragged bags must be (rows, {width or 'width'}), got {tuple(rows.shape)}")
    return rows, RaggedBags(_sizes(offsets, rows.shape[0]), rows.device)


def _nested_rows(x: Any) -> tuple[Tensor, Tensor]:
    """Rows and offsets of a nested tensor."""
    if x.layout != torch.jagged:
        raise TypeError(f"a nested tensor must have the layout torch.jagged, got {x.layout}")
    if x.ndim != 3 or not isinstance(x.shape[2], int):
        raise ValueError(f"a nested tensor must be (bags, rows, width), ragged in the rows, got {tuple(x.shape)}")
    if x.lengths() is None:
        return x.values(), x.offsets()
    return torch.cat(x.unbind()), F.pad(x.lengths().cumsum(0), (1, 0))


def _sizes(offsets: Any, rows: int) -> list[int]:
    if hasattr(offsets, "__array__") and not isinstance(offsets, Tensor):
        offsets = torch.as_tensor(offsets)
    if isinstance(offsets, Tensor):
        if offsets.ndim != 1 or offsets.is_floating_point() or offsets.dtype == torch.bool:
            given = f"{tuple(offsets.shape)} of {offsets.dtype}"
            raise TypeError(f"offsets must be integers of one axis, (bags + 1,), got {given}")
        offsets = offsets.tolist()
    ends: list[Any] = list(offsets or ())
    if any(isinstance(end, float) for end in ends):
        raise TypeError(f"offsets must be integers of one axis, (bags + 1,), got {_short(ends)}")
    if not ends or ends[0] != 0 or ends[-1] != rows:
        raise ValueError(f"offsets must go from 0 to the {rows} rows, got {_short(ends)}")
    sizes = [end - start for start, end in pairwise(ends)]
    if sizes and min(sizes) < 0:
        bag = sizes.index(min(sizes))
        raise ValueError(f"offsets must not go back, got {ends[bag]} and then {ends[bag + 1]} for bag {bag}")
    return sizes


def _short(ends: list[int]) -> str:
    return str(ends) if len(ends) <= 6 else f"{str(ends[:3])[:-1]}, ..., {str(ends[-2:])[1:]}"
