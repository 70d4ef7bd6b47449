"""What a memory will recall, and what to do if that is not the stored patterns."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from zoo.layers.hopfield.memory.composed import working_dtype
from zoo.layers.hopfield.memory.margins import (
    beta_for,
    error_bound,
    finite_length,
    separations,
    spread_rows,
    sure_margins,
)
from zoo.layers.hopfield.memory.retrieval import association as association_of
from zoo.layers.hopfield.memory.retrieval import check_beta, check_store, retrieve
from zoo.layers.hopfield.memory.separation import Separation
from zoo.layers.hopfield.memory.similarity import Comparison
from zoo.layers.hopfield.options import check_tensors

KINDS = ("one pattern", "small", "medium", "large", "global average")
#: Weights that are in memory at once.
_ENTRIES = 1 << 22


@dataclass(frozen=True)
class RetrievalReport:
    """The state of a memory.

    Args:
        num_patterns, dim, beta, similarity, association: of the memory.
        longest: M, the length of the longest pattern.
        rows: indices of the patterns that were looked at.
        separation: of those patterns, see `separations`; infinite for a single pattern.
        bound: of those patterns, of the distance after one update by softmax from within `eps`, see `error_bound`.
        eps: of the bound.
        error: distance after one update from each of those patterns itself, in lengths of the pattern; of the longest
            one for a pattern of length 0.
        num_weights: for every state, how many of the largest weights sum to 0.9 of all.
        kinds: how many of the states are of each kind: one pattern; small, medium (more than N/32 patterns), large
            (N/8), global average (N/2).
        needed_beta: that `beta_for` gives for the map and 1% of the longest pattern, None where no beta is enough.
        recalls_one: a beta that is high enough leaves a single pattern its weight.
    """

    num_patterns: int
    dim: int
    beta: float
    similarity: str
    association: str
    longest: float
    rows: Tensor
    separation: Tensor
    bound: Tensor
    eps: float
    error: Tensor
    num_weights: Tensor
    kinds: dict[str, int]
    needed_beta: float | None
    recalls_one: bool

    @property
    def averages(self) -> bool:
        """Half of the states or more are averages of more than an eighth of all patterns."""
        return 2 * (self.kinds["large"] + self.kinds["global average"]) >= len(self.num_weights) > 0

    @property
    def mistaken(self) -> list[int]:
        """Patterns that another one answers for: their separation is 0 or less."""
        return self.rows[self.separation <= 0].tolist()

    def to_dict(self) -> dict[str, Any]:
        """Numbers, names and lists, ready for JSON."""
        listed = {name: v.tolist() if isinstance(v, Tensor) else v for name, v in vars(self).items()}
        return {**listed, "averages": self.averages, "mistaken": self.mistaken}

    def advice(self) -> list[str]:
        """What to do, the most pressing first; nothing if the patterns are recalled."""
        found = []
        if not self.recalls_one:
            found.append(
                f"Association {self.association!r} mixes several patterns whatever beta is: to recall single ones take "
                "another, such as 'softmax' or 'sparsemax'."
            )
        elif self.averages:
            higher = "" if self.needed_beta is None else f" to about {self.needed_beta:.3g}"
            found.append(
                f"beta={self.beta:.3g} averages: what is recalled mixes many patterns, and more updates mix more. "
                f"Raise beta{higher}."
            )
        if self.mistaken:
            other = "" if self.similarity == "cosine" else "compare by similarity='cosine' after subtracting the mean, "
            found.append(
                f"{len(self.mistaken)} of {len(self.rows)} patterns are nearer to another than to themselves by "
                f"{self.similarity!r}, and no beta recalls them: {other}or remove duplicates."
            )
        worst = float(self.error.amax())
        if self.recalls_one and not self.averages and not self.mistaken and worst > 0.01:
            better = self.needed_beta is not None and self.needed_beta > self.beta
            higher = f"beta={self.needed_beta:.3g}" if better else "a higher beta"
            found.append(f"Up to {worst:.0%} of a pattern is lost in one update; {higher} loses less.")
        return found

    def __str__(self) -> str:
        looked = "" if len(self.rows) == self.num_patterns else f" ({len(self.rows)} looked at)"
        mixes = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items() if count)
        lines = [
            f"Memory of {self.num_patterns} patterns{looked} of {self.dim} numbers: {self.association}, "
            f"{self.similarity}, beta={self.beta:.4g}",
            f"  separation of the patterns   least {float(self.separation.amin()):.4g}, "
            f"median {float(self.separation.median()):.4g}; longest pattern {self.longest:.4g}",
            f"  lost in one update           median {float(self.error.median()):.2g}, "
            f"most {float(self.error.amax()):.2g} of a pattern's length",
            f"  bound of the error (softmax) median {float(self.bound.median()):.2g}, most "
            f"{float(self.bound.amax()):.2g}, from within {self.eps:g}",
            f"  states                       {mixes or 'none'}",
        ]
        return "\n".join(lines + [f"  -> {line}" for line in self.advice()])


@torch.no_grad()
def retrieval_report(
    stored: Shaped[Tensor, "patterns dim"],
    states: Float[Tensor, "states dim"] | None = None,
    *,
    beta: float = 1.0,
    eps: float = 0.0,
    similarity: str = "dot",
    association: str = "softmax",
    feature_map: Float[Tensor, "features dim"] | None = None,
    sample: int = 256,
    **options: Any,
) -> RetrievalReport:
    """Look at a memory before, or after, it disappoints.

    Args:
        stored: (N, dim) patterns.
        states: (n, dim) states to tell the kind of; the patterns that are looked at if None.
        beta, similarity, association, feature_map: as `retrieve`.
        eps: distance of a state from its pattern, for the bound.
        sample: look at so many patterns, evenly spread, each against all.
        options: alpha, k, degree as `retrieve`.

    Returns:
        `RetrievalReport`; as text it says what to do.

    Raises:
        ValueError, TypeError: as `retrieve`; patterns or states that are not finite.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217).
    """
    check_tensors(stored=stored, states=states)
    check_beta(beta)
    separation_map = Separation(association, options.get("alpha"), options.get("k"), options.get("degree"))
    dtype = working_dtype(stored)
    rows = spread_rows(len(stored), sample)
    rows = torch.arange(len(stored)) if rows is None else rows
    patterns = stored[rows.to(stored.device)].to(dtype)
    states = patterns if states is None else states
    check_store(states, stored, feature_map=feature_map)
    longest = finite_length(stored)
    if not bool(states.isfinite().all()):
        raise ValueError("states must be finite, got NaN or infinity")
    how = {"similarity": similarity, "association": association, "feature_map": feature_map, **options}
    recalled = retrieve(patterns, stored, beta=beta, **how)
    if len(stored) == 1:
        separation = patterns.new_full((1,), torch.inf)
    else:
        separation = separations(stored, similarity=similarity, feature_map=feature_map, rows=rows)
    margin = sure_margins(separation, stored, eps, Comparison(similarity, feature_map))
    try:
        needed = beta_for(
            0.01 * max(longest, torch.finfo(torch.float32).tiny),
            stored,
            eps=eps,
            similarity=similarity,
            feature_map=feature_map,
            association=association,
            alpha=separation_map.alpha,
            k=separation_map.k,
            sample=sample,
        )
    except ValueError:
        needed = None
    blocks = states.split(max(_ENTRIES // len(stored), 1))
    lengths = patterns.norm(dim=-1)
    lengths = torch.where(lengths > 0, lengths, longest or 1.0)
    counts = [needed_weights(association_of(block, stored, beta=beta, **how)) for block in blocks]
    num_weights = torch.cat(counts)
    return RetrievalReport(
        num_patterns=len(stored),
        dim=stored.shape[1],
        beta=float(beta),
        similarity=similarity,
        association=association,
        longest=longest,
        rows=rows,
        separation=separation.cpu(),
        bound=error_bound(margin, stored, beta).cpu(),
        eps=eps,
        error=((recalled - patterns).norm(dim=-1) / lengths).cpu(),
        num_weights=num_weights,
        kinds=kinds_of(num_weights, len(stored)),
        needed_beta=needed,
        recalls_one=separation_map.recalls_one,
    )


def needed_weights(weights: Tensor) -> Tensor:
    """How many of the largest weights of each row sum to 0.9 of them all."""
    ordered = weights.abs().sort(-1, descending=True).values.cumsum(-1)
    return ((ordered < 0.9 * ordered[:, -1:]).sum(-1) + 1).clamp_max(weights.shape[-1]).cpu()


def kind_limits(count: int) -> dict[str, float]:
    """Largest number of patterns that a state of each kind mixes, in a memory of `count`."""
    shares = (1 / 32, 1 / 8, 1 / 2, 1)
    return dict(zip(KINDS, (1.0, *(max(count * share, 1.0) for share in shares)), strict=True))


def kinds_of(num_weights: Tensor, count: int) -> dict[str, int]:
    """How many states are of each kind, by their numbers of weights."""
    limits = list(kind_limits(count).values())[:-1]
    places = torch.bucketize(num_weights.double(), torch.tensor(limits, dtype=torch.float64))
    found = places.bincount(minlength=len(KINDS)).tolist()
    return dict(zip(KINDS, found, strict=True))
