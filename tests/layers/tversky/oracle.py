"""Tversky's similarity from its definition, feature by feature in plain loops, in float64: what the layers are held to.

Written from the equations without a look at the layers; slow, and differentiable by autograd.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

INTERSECTIONS = ("product", "min", "max", "mean", "gmean", "softmin")
SET_DIFFERENCES = ("ignorematch", "substractmatch")
FEATURE_DIFFERENCES = (*SET_DIFFERENCES, "substractmatch_common")
SIMILARITIES = ("contrast", "ratio")
#: (similarity, intersection, difference, per_feature): 24 at the level of sets, 36 at that of features.
EVERY = [
    (s, i, d, per_feature)
    for per_feature, differences in ((False, SET_DIFFERENCES), (True, FEATURE_DIFFERENCES))
    for s in SIMILARITIES
    for i in INTERSECTIONS
    for d in differences
]


def similarity(
    x: Tensor,
    prototypes: Tensor,
    bank: Tensor,
    theta: Tensor | float = 1.0,
    alpha: Tensor | float = 0.5,
    beta: Tensor | float = 0.5,
    how: tuple[str, str, str, bool] = EVERY[0],
    normalize: bool = False,
) -> Tensor:
    """x (..., d), prototypes (P, d), bank (F, d) -> (..., P)."""
    rows = x.reshape(-1, x.shape[-1])
    if normalize:
        rows, prototypes = _unit(rows), _unit(prototypes)
    model, intersection, difference, per_feature = how
    sums = _by_features if per_feature else _by_sets
    common, ours, theirs = sums(rows, prototypes, bank, intersection, difference)
    if model == "contrast":
        out = theta * common - alpha * ours - beta * theirs
    else:
        out = common / (common + alpha * ours + beta * theirs + 1)
    return out.reshape(*x.shape[:-1], len(prototypes))


def magnitude(x: Tensor, prototypes: Tensor, bank: Tensor, theta: float, alpha: float, beta: float) -> Tensor:
    """theta sum(a+ q+) + alpha sum(a+) + beta sum(q+), (n, P): the size of what a similarity is a difference of."""
    a, q = (x @ bank.T).clamp(min=0), (prototypes @ bank.T).clamp(min=0)
    return abs(theta) * (a @ q.T) + abs(alpha) * a.sum(-1)[:, None] + abs(beta) * q.sum(-1)[None]


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)


def _features(x: Tensor, prototypes: Tensor, bank: Tensor) -> Any:
    """For every feature: the measures of all pairs, (n, P) each, and where input and prototype have it."""
    for w in bank:
        a, q = torch.broadcast_tensors((x @ w)[:, None], (prototypes @ w)[None, :])
        yield a, q, a > 0, q > 0


def _zeros(x: Tensor, prototypes: Tensor) -> Tensor:
    return x.new_zeros(len(x), len(prototypes))


def _by_sets(x: Tensor, prototypes: Tensor, bank: Tensor, intersection: str, difference: str) -> Any:
    """First the measures of common and of own features are summed, then the sums are compared."""
    a_common, q_common, product, a_own, q_own = (_zeros(x, prototypes) for _ in range(5))
    for a, q, has_a, has_q in _features(x, prototypes, bank):
        both = has_a & has_q
        a_common = a_common + torch.where(both, a, 0.0)
        q_common = q_common + torch.where(both, q, 0.0)
        product = product + torch.where(both, a * q, 0.0)
        a_own = a_own + torch.where(has_a & ~has_q, a, 0.0)
        q_own = q_own + torch.where(has_q & ~has_a, q, 0.0)
    if difference == "substractmatch":
        a_own = a_own + (a_common - q_common).clamp(min=0)
        q_own = q_own + (q_common - a_common).clamp(min=0)
    if intersection == "product":
        return product, a_own, q_own
    if intersection == "softmin":
        return -torch.log(torch.exp(-a_common) + torch.exp(-q_common)), a_own, q_own
    return _reduce(a_common, q_common, intersection), a_own, q_own


def _by_features(x: Tensor, prototypes: Tensor, bank: Tensor, intersection: str, difference: str) -> Any:
    """The measures are compared in every feature, then summed."""
    common, ours, theirs = (_zeros(x, prototypes) for _ in range(3))
    for a, q, has_a, has_q in _features(x, prototypes, bank):
        both = has_a & has_q
        if intersection == "product":
            value = a * q
        elif intersection == "softmin":
            value = (a * torch.exp(-a) + q * torch.exp(-q)) / (torch.exp(-a) + torch.exp(-q))
        else:
            value = _reduce(torch.where(both, a, 1.0), torch.where(both, q, 1.0), intersection)
        common = common + torch.where(both, value, 0.0)
        if difference == "ignorematch":
            ours = ours + torch.where(has_a & ~has_q, a, 0.0)
            theirs = theirs + torch.where(has_q & ~has_a, q, 0.0)
            continue
        excess_a, excess_q = (a - q).clamp(min=0), (q - a).clamp(min=0)
        if difference == "substractmatch":  # a feature that is absent counts as a measure of 0
            excess_a = (a.clamp(min=0) - q.clamp(min=0)).clamp(min=0)
            excess_q = (q.clamp(min=0) - a.clamp(min=0)).clamp(min=0)
        here = both if difference == "substractmatch_common" else torch.ones_like(both)
        ours = ours + torch.where(here, excess_a, 0.0)
        theirs = theirs + torch.where(here, excess_q, 0.0)
    return common, ours, theirs


def _reduce(a: Tensor, q: Tensor, intersection: str) -> Tensor:
    """min, max, mean or geometric mean of two matrices that are nowhere negative."""
    if intersection == "min":
        return torch.where(a < q, a, q)
    if intersection == "max":
        return torch.where(a > q, a, q)
    if intersection == "mean":
        return 0.5 * a + 0.5 * q
    product = a * q
    return torch.where(product > 0, torch.where(product > 0, product, 1.0).sqrt(), 0.0)


def problem(
    n: int = 5, classes: int = 7, features: int = 10, dim: int = 12, *, seed: int = 0, lead: tuple[int, ...] = ()
) -> dict[str, Tensor]:
    """Random x, prototypes, bank, theta, alpha, beta, which require gradients, and a cotangent; in float64."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    values = {
        "x": normal(*lead, n, dim),
        "prototypes": normal(classes, dim),
        "bank": normal(features, dim) / math.sqrt(dim),
        "theta": torch.tensor(1.3, dtype=torch.float64),
        "alpha": torch.tensor(0.7, dtype=torch.float64),
        "beta": torch.tensor(0.4, dtype=torch.float64),
    }
    return {k: v.requires_grad_() for k, v in values.items()} | {"cotangent": normal(*lead, n, classes)}
