"""The set level in composed torch operations, with as few matrix products as its identities allow.

Let Ia = a+ q_present^T and Ib = a_present q+^T, the measures of the common features in the input and in the
prototype, and s_a, s_q the sums of a+ and q+. Then

    ignorematch:     f(A - Q) = s_a - Ia,               f(Q - A) = s_q - Ib,
    substractmatch:  f(A - Q) = s_a - min(Ia, Ib),      f(Q - A) = s_q - min(Ia, Ib).

Ia has a gradient through a+ alone and Ib through q+ alone, so each costs one product per pass. Product with
ignorematch needs neither: there the absent features are multiplied, and nothing cancels. Nor does it for the other
intersections as long as sizes are small.
"""

import torch
from torch import Tensor

from zoo.layers.tversky.reference import combine, set_intersection


def present(positive: Tensor) -> Tensor:
    """Indicators, without a gradient, from positive measures: their sign, many times faster than a comparison."""
    return positive.detach().sign()


def composed_similarity(
    A: Tensor,
    Q: Tensor,
    theta: Tensor,
    alpha: Tensor,
    beta: Tensor,
    similarity: str,
    intersection: str,
    difference: str,
    lean: bool = False,
) -> Tensor:
    """Similarity of every input to every prototype, differentiable any number of times; arguments are not checked.

    Shapes: A (*lead, n, F), Q (*lead, m, F) -> (*lead, n, m).

    Args:
        lean: take the differences of ignorematch from the sums, two products less. Where nearly all features match they
            are then small differences of large numbers.
    """
    a, q = torch.relu(A), torch.relu(Q)
    qt = q.transpose(-1, -2)
    if intersection == "product" and difference == "ignorematch":
        absent_a, absent_q = 1 - present(a), 1 - present(q)
        if similarity == "contrast":
            ours = theta * q - alpha * absent_q
            return a @ ours.transpose(-1, -2) - absent_a @ (beta * qt)
        return combine(similarity, a @ qt, a @ absent_q.transpose(-1, -2), absent_a @ qt, theta, alpha, beta)
    in_a, in_q = present(a), present(q)
    of_a, of_q = a @ in_q.transpose(-1, -2), in_a @ qt
    least = torch.minimum(of_a, of_q) if intersection == "min" or difference == "substractmatch" else of_a
    if intersection == "product":
        common = a @ qt
    elif intersection == "min":
        common = least
    else:
        common = set_intersection(of_a, of_q, intersection)
    sum_a = a.sum(-1, keepdim=True).to(A.dtype)
    sum_q = q.sum(-1).unsqueeze(-2).to(A.dtype)
    if difference == "ignorematch" and not lean:
        ours, theirs = a @ (1 - in_q).transpose(-1, -2), (1 - in_a) @ qt
        return combine(similarity, common, ours, theirs, theta, alpha, beta)
    match_a, match_q = (least, least) if difference == "substractmatch" else (of_a, of_q)
    if similarity == "ratio":
        return combine(similarity, common, sum_a - match_a, sum_q - match_q, theta, alpha, beta)
    if difference == "ignorematch":
        matched = theta * common + alpha * match_a + beta * match_q
    elif intersection == "min":
        matched = (theta + alpha + beta) * least
    else:
        matched = theta * common + (alpha + beta) * least
    return matched - alpha * sum_a - beta * sum_q
