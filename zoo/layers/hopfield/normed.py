"""Rows as a layer norm without scale and shift makes them, without a normed copy: moments once, blocks when needed."""

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.eager import no_autocast
from zoo.layers.hopfield.bags import Block, rows_of_block


class Moments(NamedTuple):
    """Mean of each row, and the inverse of its spread, (N,) each."""

    mean: Tensor
    inverse_std: Tensor

    def of(self, index: slice | Tensor) -> "Moments":
        """Those of some rows."""
        return Moments(*(take(x, index) for x in self))


class NormedRows:
    """Rows, and how to norm them.

    Args:
        rows: (N, d).
        eps: of the layer norm; None for no norm.
    """

    def __init__(self, rows: Tensor, eps: float | None) -> None:
        self.rows, self.eps = rows, eps

    @cached_property
    def moments(self) -> Moments | None:
        """Of all rows, in the working dtype, found when first asked for."""
        return None if self.eps is None else _moments(self.rows.detach(), self.eps)


def centred(rows: Tensor, moments: Moments | None, block: Block) -> tuple[Tensor, Tensor | None]:
    """The rows of a block less their means, (bags, length, d), and what makes them normed, (bags, 1, length).

    Without moments the rows as they are, and None.
    """
    x = take(rows, block.rows).to(working_dtype(rows)).unflatten(0, block.shape)
    if moments is None:
        return x, None
    mean, inverse_std = (of.unflatten(0, block.shape) for of in moments.of(block.rows))
    return x - mean.unsqueeze(-1), inverse_std.unsqueeze(1)


def take(x: Tensor, index: slice | Tensor) -> Tensor:
    """Some of the rows of x."""
    return x[index] if isinstance(index, slice) else x.index_select(0, index)


def working_dtype(rows: Tensor) -> torch.dtype:
    """In which moments, scores and sums are computed."""
    return torch.float64 if rows.dtype == torch.float64 else torch.float32


@torch.no_grad()
def _moments(rows: Tensor, eps: float) -> Moments:
    count, width = rows.shape
    mean, inverse_std = (rows.new_empty(count, dtype=working_dtype(rows)) for _ in range(2))
    with no_autocast(rows):
        step = rows_of_block(rows, 1)
        for start in range(0, count, step):
            x = rows[start : start + step].to(mean.dtype)
            here = mean[start : start + step].copy_(x.mean(-1))
            inverse_std[start : start + step] = torch.linalg.vector_norm(x - here.unsqueeze(-1), dim=-1)
        return Moments(mean, inverse_std.square_().div_(width).add_(eps).rsqrt_())
