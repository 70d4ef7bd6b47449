"""The energy that retrieval descends."""

from jaxtyping import Float, Shaped
from torch import Tensor

from zoo.layers.hopfield.memory.composed import working_dtype
from zoo.layers.hopfield.memory.margins import norm_range
from zoo.layers.hopfield.memory.retrieval import recall
from zoo.layers.hopfield.memory.separation import Separation


def energy(
    state: Float[Tensor, "*states dim"],
    stored: Shaped[Tensor, "patterns dim"],
    *,
    beta: float | Tensor = 1.0,
    association: str = "softmax",
    alpha: float | None = None,
    k: int | None = None,
) -> Float[Tensor, "*states"]:
    """Energy of states, which an update of `retrieve` with the dot product never increases.

        E(state) = -(Omega*(beta X state) + Omega(uniform)) / beta + |state|^2 / 2 + max_i |x_i|^2 / 2

    Omega is the regulariser of the map, Omega*(z) = max_p <p, z> - Omega(p). For softmax
    E = -lse(beta, X state) + |state|^2 / 2 + log(N) / beta + max_i |x_i|^2 / 2, between 0 and 2 max_i |x_i|^2 in the
    convex hull of the patterns. For "topk" and "max", Omega of k equal weights takes the place of Omega(uniform).

    Reads a store as `retrieve` does. Shapes: (*, dim), (N, dim) -> (*).

    Args:
        state, stored, beta, alpha, k: as `retrieve`.
        association: a map of `associate`, or "max".

    Raises:
        ValueError, TypeError: as `retrieve`; an association that has no energy.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217); Santos et al.,
    "Hopfield-Fenchel-Young Networks" (2024, arXiv 2411.08590).
    """
    separation = Separation(association, alpha, k)
    if separation.is_sum:
        raise ValueError(f"association {association!r} has no energy: use 'max' or a map of associate")
    dtype = working_dtype(state)
    found = recall(state, stored, beta=beta, association=association, alpha=alpha, k=k)
    offset = separation.uniform_regulariser(len(stored))
    squared = state.to(dtype).square().sum(-1)
    return ((squared + norm_range(stored)[1].to(dtype) ** 2) / 2 - (found.potential + offset) / beta).to(state.dtype)
