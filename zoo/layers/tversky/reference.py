"""Tversky's similarity as its equations say, in composed torch operations.

`A` are the measures of the inputs in every feature, `Q` those of the prototypes. A feature is present where its
measure is above zero. With a+ = A where present, and `f` a sum over features,

    contrast:  S = theta f(A and Q) - alpha f(A - Q) - beta f(Q - A)
    ratio:     S = f(A and Q) / (f(A and Q) + alpha f(A - Q) + beta f(Q - A) + 1)

Set level: sums over features first, reductions of the sums afterwards. Feature level: reductions first.
"""

import torch
from torch import Tensor

#: Steepness of the soft membership and of the straight-through gradient.
KAPPA = 13.0


def presence(measure: Tensor, membership: str, kappa: float = KAPPA) -> Tensor:
    """Membership of each feature: 1 where the measure is above 0, else 0.

    "ste" has those values and the gradient of sigmoid(kappa x); "soft" is (1 + tanh(kappa x)) / 2.
    """
    # type: (Tensor, str, float) -> Tensor
    if membership == "soft":
        return (1 + torch.tanh(kappa * measure)) / 2
    hard = (measure > 0).to(measure.dtype)
    if membership == "ste":
        smooth = torch.sigmoid(kappa * measure)
        hard = hard + (smooth - smooth.detach())
    return hard


def positive(measure: Tensor, present: Tensor, membership: str) -> Tensor:
    """Measures of the features that are present, 0 for the others."""
    # type: (Tensor, Tensor, str) -> Tensor
    return torch.relu(measure) if membership == "hard" else measure * present


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root with gradient 0 where x is not above 0."""
    # type: (Tensor) -> Tensor
    above = x > 0
    return torch.where(above, torch.sqrt(torch.where(above, x, torch.ones_like(x))), torch.zeros_like(x))


def combine(
    similarity: str, common: Tensor, ours: Tensor, theirs: Tensor, theta: Tensor, alpha: Tensor, beta: Tensor
) -> Tensor:
    """The contrast or ratio model of the three sums f(A and Q), f(A - Q), f(Q - A)."""
    # type: (str, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor) -> Tensor
    if similarity == "ratio":
        return common / (common + alpha * ours + beta * theirs + 1)
    return theta * common - alpha * ours - beta * theirs


def reference_similarity(
    A: Tensor,
    Q: Tensor,
    theta: Tensor,
    alpha: Tensor,
    beta: Tensor,
    similarity: str = "contrast",
    intersection: str = "product",
    difference: str = "ignorematch",
    per_feature: bool = False,
    membership: str = "hard",
) -> Tensor:
    """Similarity of every input to every prototype.

    Shapes: A (*lead, n, F), Q (*lead, m, F) -> (*lead, n, m); the feature level takes memory for n * m * F numbers.

    Args:
        A, Q: measures.
        theta, alpha, beta: weights, 0-dimensional.
        similarity, intersection, difference, per_feature, membership: as in `tversky_similarity`; not checked here.
    """
    # type: (Tensor, Tensor, Tensor, Tensor, Tensor, str, str, str, bool, str) -> Tensor
    in_a, in_q = presence(A, membership), presence(Q, membership)
    a, q = positive(A, in_a, membership), positive(Q, in_q, membership)
    qt, in_qt = q.transpose(-1, -2), in_q.transpose(-1, -2)
    if difference == "ignorematch" or not per_feature:
        ours, theirs = a @ (1 - in_qt), (1 - in_a) @ qt
    else:
        ours, theirs = _feature_differences(A, Q, a, q, in_a, in_q, difference)
    if intersection == "product":
        common = a @ qt
    elif per_feature:
        common = _feature_intersection(A, Q, in_a, in_q, intersection)
    else:
        common = set_intersection(a @ in_qt, in_a @ qt, intersection)
    if difference == "substractmatch" and not per_feature:
        of_a, of_q = a @ in_qt, in_a @ qt
        ours = ours + torch.relu(of_a - of_q)
        theirs = theirs + torch.relu(of_q - of_a)
    return combine(similarity, common, ours, theirs, theta, alpha, beta)


def set_intersection(of_a: Tensor, of_q: Tensor, intersection: str) -> Tensor:
    """From the measures of the inputs and of the prototypes on their common features."""
    # type: (Tensor, Tensor, str) -> Tensor
    if intersection == "min":
        return torch.minimum(of_a, of_q)
    if intersection == "max":
        return torch.maximum(of_a, of_q)
    if intersection == "mean":
        return (of_a + of_q) / 2
    if intersection == "gmean":
        return safe_sqrt(of_a) * safe_sqrt(of_q)
    return -torch.logaddexp(-of_a, -of_q)


def _feature_intersection(A: Tensor, Q: Tensor, in_a: Tensor, in_q: Tensor, intersection: str) -> Tensor:
    # type: (Tensor, Tensor, Tensor, Tensor, str) -> Tensor
    x, y = A.unsqueeze(-2), Q.unsqueeze(-3)
    both = in_a.unsqueeze(-2) * in_q.unsqueeze(-3)
    if intersection == "min":
        each = torch.minimum(x, y)
    elif intersection == "max":
        each = torch.maximum(x, y)
    elif intersection == "mean":
        each = (x + y) / 2
    elif intersection == "gmean":
        each = safe_sqrt(x) * safe_sqrt(y)
    else:  # the mean with weights exp(-x) and exp(-y)
        each = x * torch.sigmoid(y - x) + y * torch.sigmoid(x - y)
    return (both * each).sum(-1)


def _feature_differences(
    A: Tensor, Q: Tensor, a: Tensor, q: Tensor, in_a: Tensor, in_q: Tensor, difference: str
) -> tuple[Tensor, Tensor]:
    # type: (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, str) -> Tuple[Tensor, Tensor]
    if difference == "substractmatch":
        gap = a.unsqueeze(-2) - q.unsqueeze(-3)
        return torch.relu(gap).sum(-1), torch.relu(-gap).sum(-1)
    both = in_a.unsqueeze(-2) * in_q.unsqueeze(-3)
    gap = A.unsqueeze(-2) - Q.unsqueeze(-3)
    return (both * torch.relu(gap)).sum(-1), (both * torch.relu(-gap)).sum(-1)
