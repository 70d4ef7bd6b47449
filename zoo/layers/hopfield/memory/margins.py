"""How far the patterns of a memory are from being mistaken for each other, and the inverse temperature that needs."""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from zoo.layers.hopfield.memory.composed import working_dtype
from zoo.layers.hopfield.memory.separation import Separation
from zoo.layers.hopfield.memory.similarity import Comparison
from zoo.layers.hopfield.memory.streaming import chunks
from zoo.layers.hopfield.options import check_tensors

_BLOCK = 1024
#: What beta of a sparse map is greater by than it must be.
_SPARE = 1e-4


@torch.no_grad()
def separations(
    stored: Shaped[Tensor, "patterns dim"],
    *,
    similarity: str = "dot",
    feature_map: Float[Tensor, "features dim"] | None = None,
    rows: Shaped[Tensor, " rows"] | None = None,
) -> Float[Tensor, " rows"]:
    """Separation of patterns: similarity with itself minus the largest with another,  s(x_i, x_i) - max_j s(x_i, x_j).

    A pattern whose separation is 0 or less is no fixed point: another one answers for it.

    Args:
        stored: (N, dim), at least two patterns.
        similarity, feature_map: as `retrieve`.
        rows: indices of the patterns to tell about; all if None. The work is rows times N.

    Raises:
        ValueError: fewer than two patterns, an unknown similarity.
        TypeError: no tensors.
    """
    check_tensors(stored=stored, feature_map=feature_map, rows=rows)
    comparison = Comparison(similarity, feature_map)
    if len(stored) < 2:
        raise ValueError(f"separations need at least two stored patterns, got {len(stored)}")
    comparison = comparison.around(stored, stored.new_empty(0, dtype=working_dtype(stored)))
    rows = torch.arange(len(stored), device=stored.device) if rows is None else rows
    found = []
    for block in rows.split(_BLOCK):
        patterns = comparison.prepare(stored[block].to(working_dtype(stored)))
        nearest = patterns.new_full((len(block),), -torch.inf)
        for start, chunk in chunks(stored, patterns):
            scores = comparison.scores(patterns, comparison.prepare(chunk))
            here = ((block >= start) & (block < start + len(chunk))).nonzero().squeeze(-1)
            scores[here, block[here] - start] = -torch.inf
            nearest = torch.maximum(nearest, scores.amax(-1))
        found.append(comparison.own(patterns) - nearest)
    return torch.cat(found)


def norm_range(stored: Shaped[Tensor, "patterns dim"], comparison: Comparison | None = None) -> tuple[Tensor, Tensor]:
    """Length of the shortest and of the longest pattern, chunk by chunk; of what a feature map makes of them."""
    comparison = Comparison("dot", None if comparison is None else comparison.feature_map)
    like = stored.new_empty(0, dtype=working_dtype(stored))
    norms = [comparison.prepare(chunk).norm(dim=-1).aminmax() for _, chunk in chunks(stored, like)]
    lows, highs = zip(*norms, strict=True)
    return torch.stack(lows).amin(), torch.stack(highs).amax()


def sure_margins(
    separation: Float[Tensor, " rows"], stored: Shaped[Tensor, "patterns dim"], eps: float, comparison: Comparison
) -> Float[Tensor, " rows"]:
    """Least lead in similarity of each pattern over all others, wherever within eps of it the state is.

        dot         Delta - 2 M eps,      M the length of the longest pattern
        cosine      Delta - 4 eps / m,    m that of the shortest (a direction moves by at most 2 eps / m)
        neg_sq_l2   D (D - 2 eps),        D the distance of the nearest other pattern
        neg_l1      Delta - 2 sqrt(dim) eps

    After a feature map all lengths are those of its outputs, and eps grows by its largest singular value.

    Args:
        separation: of patterns, see `separations`.
        stored: the memory.
        eps: greatest distance of a state from the pattern.
        comparison: of the separation.
    """
    width = stored.shape[1]
    if comparison.feature_map is not None:
        width = len(comparison.feature_map)
        eps = eps * float(torch.linalg.matrix_norm(comparison.feature_map, 2))
    if eps == 0:  # also of a pattern of length 0
        return separation
    if comparison.similarity == "neg_l1":
        return separation - 2 * math.sqrt(width) * eps
    if comparison.similarity == "neg_sq_l2":
        distance = separation.clamp_min(0.0).sqrt()
        return distance * (distance - 2 * eps)
    shortest, longest = map(float, norm_range(stored, comparison))
    return separation - (2 * longest * eps if comparison.similarity == "dot" else 4 * eps / shortest)


def error_bound(margin: Float[Tensor, " rows"], stored: Shaped[Tensor, "patterns dim"], beta: float) -> Tensor:
    """Bound of the distance to a pattern after one update by softmax:  2 M (N - 1) exp(-beta margin), at most 2 M."""
    longest = float(norm_range(stored)[1])
    return (2 * longest * ((len(stored) - 1) * (-beta * margin).exp())).clamp_max(2 * longest)


def spread_rows(count: int, sample: int | None) -> Tensor | None:
    """Indices of `sample` rows evenly spread over `count`; None for all."""
    if sample is None or sample >= count:
        return None
    return torch.arange(sample) * count // sample


def beta_for(
    error: float,
    stored: Shaped[Tensor, "patterns dim"],
    *,
    eps: float = 0.0,
    similarity: str = "dot",
    feature_map: Float[Tensor, "features dim"] | None = None,
    association: str = "softmax",
    alpha: float | None = None,
    k: int | None = None,
    share: float = 1.0,
    sample: int | None = None,
) -> float:
    """Smallest inverse temperature for which one update surely ends within `error` of the pattern.

        softmax, topk        beta = log(2 M (N - 1) / error) / margin
        sparsemax, normmax   beta = 1 / margin, and the update gives the pattern itself, whatever the error
        entmax               beta = 1 / ((alpha - 1) margin), as sparsemax

    The margin is the least lead of a pattern over the others (`sure_margins`), M the length of the longest. Of a sparse
    map it is a ten-thousandth more, so that rounding does not cost a pattern.

    Args:
        error: greatest distance from the pattern after the update.
        stored: (N, dim) patterns.
        eps: greatest distance of the state from the pattern before it.
        similarity, feature_map, association, alpha, k: as `retrieve`.
        share: of the patterns that this must hold for, more than 0, at most 1.
        sample: look at so many patterns, evenly spread, each against all; all if None: N^2 similarities.

    Returns:
        beta; 1 where any will do: in a memory of one pattern, by "max", and for an error of 2 M or more.

    Raises:
        ValueError: no beta is enough, as the patterns are too near to each other, or are not finite, or as the map
            recalls several patterns whatever beta is; or an option out of range.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217), theorem 5, for the dot
    product.
    """
    if not error > 0:
        raise ValueError(f"error must be greater than 0, got {error}")
    if eps < 0:
        raise ValueError(f"eps must be at least 0, got {eps}")
    if not 0 < share <= 1:
        raise ValueError(f"share must be greater than 0 and at most 1, got {share}")
    separation_map = Separation(association, alpha, k)
    check_recalls_one(separation_map)
    longest = finite_length(stored)
    if len(stored) == 1:
        return 1.0
    rows = spread_rows(len(stored), sample)
    separation = separations(stored, similarity=similarity, feature_map=feature_map, rows=rows)
    margins = sure_margins(separation, stored, eps, Comparison(similarity, feature_map)).sort(descending=True).values
    margin = float(margins[math.ceil(share * len(margins)) - 1])
    if margin <= 0:
        good = int((margins > 0).sum())
        remedy = "a smaller eps, " if eps and bool((separation > 0).all()) else ""
        remedy += "" if similarity == "cosine" else "similarity='cosine' after subtracting the mean, "
        raise ValueError(
            f"no beta recalls {share:.0%} of the patterns: {len(margins) - good} of {len(margins)} may be taken for "
            f"another one from within eps={eps:g}, by similarity {similarity!r}. Try {remedy}removing near duplicates, "
            f"or share={good / len(margins):.2g}" + (" at most" if good else ", which none is left for")
        )
    if association == "max":
        return 1.0
    if math.isfinite(separation_map.margin):
        return (1 + _SPARE) * separation_map.margin / margin
    return 1.0 if error >= 2 * longest else math.log(2 * longest * (len(stored) - 1) / error) / margin


def check_recalls_one(separation: Separation) -> None:
    """Refuse maps that recall several patterns whatever beta is.

    Raises:
        ValueError: one of "identity", "polynomial", or "budget" of k above 1.
    """
    if not separation.recalls_one:
        what = f"{separation.association!r}" + (f" of k={separation.k}" if separation.k else "")
        raise ValueError(f"by association {what} no beta recalls a single pattern: take another association")


def finite_length(stored: Shaped[Tensor, "patterns dim"]) -> float:
    """Length of the longest pattern.

    Raises:
        ValueError: NaN, infinity, or numbers so large that their squares are.
    """
    longest = float(norm_range(stored)[1])
    if not math.isfinite(longest):
        raise ValueError(f"patterns and their lengths must be finite, the longest is {longest} long")
    return longest
