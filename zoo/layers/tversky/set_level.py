"""The set level: sums over features first, reductions of the sums afterwards, by the leanest way for the sizes."""

from torch import Tensor

from zoo.eager import must_compose
from zoo.layers.tversky.composed import composed_similarity
from zoo.layers.tversky.lifted import linear_similarity
from zoo.layers.tversky.matched import matched_similarity

# Inputs times prototypes times features from which a hand-written backward pass is worth its fixed cost.
_LARGE = 10_000_000


def set_similarity(
    A: Tensor,
    Q: Tensor,
    theta: Tensor,
    alpha: Tensor,
    beta: Tensor,
    similarity: str = "contrast",
    intersection: str = "product",
    difference: str = "ignorematch",
) -> Tensor:
    """Similarity of every input to every prototype at the set level, features present where their measure is above 0.

    As `reference_similarity`, with fewer matrix products. Two families of the contrast model keep little more than
    A and Q for the backward pass once the sizes are worth it: product with ignorematch, and product or min with
    substractmatch. Everything else, leading dimensions, and what such a pass cannot follow is composed.

    Shapes: A (*lead, n, F), Q (*lead, m, F) -> (*lead, n, m).

    Args:
        A, Q: measures of the inputs and of the prototypes.
        theta, alpha, beta: weights, 0-dimensional.
        similarity, intersection, difference: as in `tversky_similarity`; not checked here.
    """
    # The sizes are asked last: under export they are symbols, on which an answer would be a limit.
    if must_compose(A, Q, theta, alpha, beta) or A.numel() * Q.shape[-2] < _LARGE:
        return composed_similarity(A, Q, theta, alpha, beta, similarity, intersection, difference)
    if similarity == "contrast" and A.dim() == Q.dim() == 2:
        if intersection == "product" and difference == "ignorematch":
            return linear_similarity(A, Q, theta, alpha, beta)
        if intersection in ("product", "min") and difference == "substractmatch":
            return matched_similarity(A, Q, theta, alpha, beta, intersection)
    return composed_similarity(A, Q, theta, alpha, beta, similarity, intersection, difference, lean=True)
