"""Thresholds of sparse maps by Newton's method, some rows at a time.

With z the scores minus the largest of their row, a threshold t solves

    sum_i (z_i - t)_+^e = 1        sparsemax e = 1,  entmax e = 1 / (alpha - 1),  normmax e = alpha / (alpha - 1).

For e >= 1 the sum is convex and falls with t, so that Newton's steps from t = -1, where the largest score alone gives
1, climb to the root and never pass it. A step is one pass over the scores: nothing is sorted.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from zoo.eager import must_compose

# Scores at a time: on a CPU they stay in its cache from step to step.
_BLOCK = 2**18
_BLOCK_ELSEWHERE = 2**28
#: Steps at most; ten are usual, and rows of n scores want about log n more when e is large.
_STEPS = 60


def may_iterate(scores: Tensor) -> bool:
    """Steps may be made until they are small: there are numbers, and no graph that must not depend on them."""
    return not must_compose(scores) and scores.device.type != "meta"


def by_rows(scores: Tensor, fill: Callable[[Tensor, Tensor | None], Tensor], exponent: Tensor | None = None) -> Tensor:
    """`fill` of the rows of scores, (rows, n) -> (rows, n), a few at a time.

    Args:
        scores: (*, n).
        fill: takes rows and, if given, their exponents (rows, 1).
        exponent: broadcasts to (*, 1).
    """
    size = scores.shape[-1]
    rows = scores.reshape(-1, size)
    if exponent is not None:
        exponent = exponent.expand(*scores.shape[:-1], 1).reshape(-1, 1)
    step = max((_BLOCK if scores.device.type == "cpu" else _BLOCK_ELSEWHERE) // size, 1)
    out = torch.empty_like(rows)
    for start in range(0, rows.shape[0], step):
        part = slice(start, start + step)
        out[part] = fill(rows[part], None if exponent is None else exponent[part])
    return out.view(scores.shape)


def power_excess(z: Tensor, exponent: float | Tensor) -> tuple[Tensor, Tensor]:
    """u = (z - t)_+ at the threshold t of each row, and u^(e - 1), with sum u^e = 1.

    Args:
        z: (rows, n), the largest of each row 0; rows of -inf give 0.
        exponent: e, at least 1, one for all or (rows, 1).

    Returns:
        Two tensors (rows, n); one and the same for e = 2, and for e = 1 the second is 1 where u is above 0.
    """
    threshold = z.new_full((z.shape[0], 1), -1.0)
    u, power = torch.empty_like(z), torch.empty_like(z)
    smallest = 4 * torch.finfo(z.dtype).eps
    for _ in range(_STEPS):
        torch.sub(z, threshold, out=u).clamp_min_(0.0)
        power = _power(u, exponent, power)
        total = (u * power).sum(-1, keepdim=True)
        slope = exponent * power.sum(-1, keepdim=True)
        step = ((total - 1) / slope).nan_to_num_(0.0, 0.0, 0.0)
        threshold = threshold + step
        if not bool((step.abs() > smallest).any()):
            break
    torch.sub(z, threshold, out=u).clamp_min_(0.0)
    return u, _power(u, exponent, power)


def _power(u: Tensor, exponent: float | Tensor, out: Tensor) -> Tensor:
    """u^(e - 1), and 0 where u is 0 for e = 1 too."""
    if isinstance(exponent, Tensor):
        return torch.pow(u, exponent - 1, out=out).mul_(u > 0)
    if exponent == 2:
        return u
    return torch.sign(u, out=out) if exponent == 1 else torch.pow(u, exponent - 1, out=out)
