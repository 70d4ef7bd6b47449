"""Tversky's similarity with reductions feature by feature, without an n x m x F tensor.

With a, q the measures where present (0 elsewhere), every sum over features that the equations name is a combination
of a few of them:

    of_a     sum of a where both are present             of_q    sum of q where both are present
    only_a   sum of a where q is absent                  only_q  sum of q where a is absent
    all_a    sum of a                                    all_q   sum of q
    product  sum of a q                                  gmean   sum of sqrt(a q)
    min      sum of min(a, q)                            softmin sum of the soft minimum
    zero_a   sum of the soft minimum of a and 0 where q is absent; zero_q alike

All but min and softmin are matrix products, at most one for each side. `min_sum` has those two.
"""

import torch
from torch import Tensor

from zoo.layers.tversky.min_sum import check_backend, min_sum, softmin_sum, working_dtype
from zoo.layers.tversky.reference import reference_similarity, safe_sqrt
from zoo.layers.tversky.set_level import set_similarity

_Coefficients = dict[str, Tensor]

_COMMON: dict[str, dict[str, float]] = {
    "product": {"product": 1.0},
    "min": {"min": 1.0},
    "max": {"of_a": 1.0, "of_q": 1.0, "min": -1.0},
    "mean": {"of_a": 0.5, "of_q": 0.5},
    "gmean": {"gmean": 1.0},
    "softmin": {"softmin": 1.0, "zero_a": -1.0, "zero_q": -1.0},
}
_OURS: dict[str, dict[str, float]] = {
    "ignorematch": {"only_a": 1.0},
    "substractmatch": {"all_a": 1.0, "min": -1.0},
    "substractmatch_common": {"of_a": 1.0, "min": -1.0},
}
_THEIRS: dict[str, dict[str, float]] = {
    "ignorematch": {"only_q": 1.0},
    "substractmatch": {"all_q": 1.0, "min": -1.0},
    "substractmatch_common": {"of_q": 1.0, "min": -1.0},
}
_KERNELS = {"min": min_sum, "softmin": softmin_sum}


def feature_similarity(
    A: Tensor,
    Q: Tensor,
    theta: Tensor,
    alpha: Tensor,
    beta: Tensor,
    similarity: str = "contrast",
    intersection: str = "product",
    difference: str = "ignorematch",
    backend: str = "auto",
) -> Tensor:
    """Similarity of every input to every prototype, features compared one by one; hard membership.

    Equals `reference_similarity(..., per_feature=True)`, except that at a tie of two measures another subgradient may
    be taken. Half precision is summed in float32.

    Shapes: A (*lead, n, F), Q (*lead, m, F) -> (*lead, n, m).

    Args:
        A, Q: measures.
        theta, alpha, beta: weights, 0-dimensional.
        similarity, intersection, difference: as in `tversky_similarity`; not checked here.
        backend: as in `min_sum`; "reference" composes the equations as they stand.

    Raises:
        ValueError: an unknown backend, or one that cannot work here.
    """
    check_backend(backend, A)
    if backend == "reference":
        return reference_similarity(A, Q, theta, alpha, beta, similarity, intersection, difference, per_feature=True)
    if difference == "ignorematch" and intersection in ("product", "mean"):  # the same at both levels
        return set_similarity(A, Q, theta, alpha, beta, similarity, intersection, difference)
    sums = _Sums(A, Q, backend)
    common, ours, theirs = _COMMON[intersection], _OURS[difference], _THEIRS[difference]
    if similarity == "ratio":
        one = alpha.new_ones(())
        in_common = sums.weighted(_combined((one, common)))
        out = in_common / (in_common + sums.weighted(_combined((alpha, ours), (beta, theirs))) + 1)
    else:
        out = sums.weighted(_combined((theta, common), (-alpha, ours), (-beta, theirs)))
    return out.to(A.dtype)


def _combined(*parts: tuple[Tensor, dict[str, float]]) -> _Coefficients:
    """Coefficients of the sum of all parts, each a weight and a combination."""
    total: _Coefficients = {}
    for weight, combination in parts:
        for name, number in combination.items():
            term = weight * number
            total[name] = total[name] + term if name in total else term
    return total


class _Sums:
    """The sums over features of one pair of measures; what takes a kernel is computed once."""

    def __init__(self, A: Tensor, Q: Tensor, backend: str) -> None:
        self.dtype, self.work = A.dtype, working_dtype(A.dtype)
        # Above the products, so that gradients add up in the working type.
        self.a, self.q = torch.relu(A.to(self.work)), torch.relu(Q.to(self.work))
        self.backend = backend
        self.known: dict[str, Tensor] = {}

    def kernel(self, name: str) -> Tensor:
        if name not in self.known:
            self.known[name] = _KERNELS[name](self.a, self.q, backend=self.backend)
        return self.known[name]

    def weighted(self, by: _Coefficients) -> Tensor:
        """The combination of sums with these coefficients, (*lead, n, m) in the working type."""
        by = {name: coefficient.to(self.work) for name, coefficient in by.items()}
        parts = [by[name] * self.kernel(name) for name in _KERNELS if name in by]
        if "all_a" in by:
            parts.append(by["all_a"] * self.a.sum(-1, keepdim=True))
        if "all_q" in by:
            parts.append(by["all_q"] * self.q.sum(-1).unsqueeze(-2))
        if "gmean" in by:
            parts.append(self.product(by["gmean"] * safe_sqrt(self.a), safe_sqrt(self.q)))
        in_a, in_q = self.a > 0, self.q > 0
        for x, y in _operands(
            self.a, self.q, in_q, by.get("of_a"), by.get("only_a"), by.get("zero_a"), by.get("product")
        ):
            parts.append(self.product(x, y))
        for y, x in _operands(self.q, self.a, in_a, by.get("of_q"), by.get("only_q"), by.get("zero_q"), None):
            parts.append(self.product(x, y))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def product(self, x: Tensor, y: Tensor) -> Tensor:
        """(*lead, n, F), (*lead, m, F) -> (*lead, n, m) by a product in the type of the measures."""
        return (x.to(self.dtype) @ y.to(self.dtype).mT).to(self.work)


def _operands(
    x: Tensor,
    y: Tensor,
    present: Tensor,
    of: Tensor | None,
    only: Tensor | None,
    zero: Tensor | None,
    product: Tensor | None,
) -> list[tuple[Tensor, Tensor]]:
    """Of one side, the factors of the products that add up to

    `of` times the sum of x where y is present, `only` and `zero` times the sums of x and of the soft minimum of x and
    0 where y is absent, and `product` times the sum of x y.
    """
    found = []
    if zero is not None:
        alone = zero * (x * torch.sigmoid(-x))
        found.append((alone if only is None else alone + only * x, (~present).to(x.dtype)))
        only = None
    weights = None if product is None else product * y
    if of is not None or only is not None:
        chosen = torch.where(present, x.new_zeros(()) if of is None else of, x.new_zeros(()) if only is None else only)
        weights = chosen if weights is None else weights + chosen
    if weights is not None:
        found.append((x, weights))
    return found
