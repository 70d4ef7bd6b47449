"""Sums over pairs of rows (see `min_sum`) with the loop over features fused by torch.compile."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.layers.tversky import min_sum_eager


def sums(kind: str, a: Tensor, q: Tensor) -> Tensor:
    """(n, F), (m, F) -> (n, m)."""
    if _special(a, q):
        return min_sum_eager.sums(kind, a, q)
    return _compiled(_minima if kind == "min" else _soft_minima)(a, q)


def gradients(kind: str, a: Tensor, q: Tensor, grad: Tensor, needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """Gradients of a (n, F) and q (m, F), where needed, for that of the sums (n, m)."""
    # What is compiled of the soft minimum takes three times as long as the blocks.
    if kind != "min" or _special(a, q):
        return min_sum_eager.gradients(kind, a, q, grad, needed)
    of_first = _compiled(_minima_backward)
    # The minimum is symmetric, so that one function serves both.
    return of_first(a, q, grad) if needed[0] else None, of_first(q, a, grad.t().contiguous()) if needed[1] else None


def _special(a: Tensor, q: Tensor) -> bool:
    """Sizes of 1, each of which would be compiled anew."""
    return min(a.shape[0], *q.shape) < 2


@cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # fullgraph: what cannot be compiled must not run as one expression of n * m * F numbers instead.
    return torch.compile(function, dynamic=True, fullgraph=True)


def _minima(a: Tensor, q: Tensor) -> Tensor:
    return torch.minimum(a.unsqueeze(1), q.unsqueeze(0)).sum(-1)


def _soft_minima(a: Tensor, q: Tensor) -> Tensor:
    x, y = a.unsqueeze(1), q.unsqueeze(0)
    return (y - F.silu(y - x)).sum(-1)


def _minima_backward(a: Tensor, q: Tensor, grad: Tensor) -> Tensor:
    x, y, g = a.unsqueeze(1), q.unsqueeze(0), grad.unsqueeze(2)
    return (torch.where(x < y, g, 0.0) + torch.where(x <= y, g, 0.0)).sum(1) / 2
