"""What becomes of the similarities: the maps of `associate`, and those of older associative memories."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.layers.hopfield.maps import ASSOCIATIONS, DEFAULTS, associate
from zoo.layers.hopfield.options import check_choice, positive_int

SEPARATIONS = (*ASSOCIATIONS, "identity", "polynomial", "max")
_DEGREE = 10


@dataclass(frozen=True)
class Separation:
    """Weights of the stored patterns from their scaled similarities z.

    A map of `associate`; or "identity", z_i / sum |z|, the linear memory; "polynomial", z_i^degree / sum |z|^degree,
    the dense associative memory; "max", the pattern of the largest similarity alone.

    Attributes:
        association: one of `SEPARATIONS`.
        alpha: of "entmax" and "normmax".
        k: of "budget" and "topk".
        degree: of "polynomial", 10 if None.

    Raises:
        ValueError, TypeError: an unknown name, an option that it does not have or one out of range.
    """

    association: str = "softmax"
    alpha: float | None = None
    k: int | None = None
    degree: int | None = None

    def __post_init__(self) -> None:
        check_choice("association", self.association, SEPARATIONS)
        known = {**DEFAULTS, "polynomial": {"degree": _DEGREE}}.get(self.association, {})
        for name in ("alpha", "k", "degree"):
            given = getattr(self, name)
            if given is not None and name not in known:
                having = [other for other, options in DEFAULTS.items() if name in options] or ["polynomial"]
                owners = ", ".join(map(repr, having))
                raise ValueError(f"{name} is an option of association {owners}, not of {self.association!r}")
            if given is None and name in known:
                object.__setattr__(self, name, known[name])
            elif given is not None and name != "alpha":
                positive_int(name, given)
        if self.alpha is not None and not (self.alpha > 1 or (self.association == "entmax" and self.alpha == 1)):
            least = "at least" if self.association == "entmax" else "greater than"
            raise ValueError(f"alpha of {self.association} must be {least} 1, got {self.alpha}")

    @property
    def is_softmax(self) -> bool:
        """The map is the softmax, by name or by an alpha of 1."""
        return self.association == "softmax" or (self.association == "entmax" and self.alpha == 1)

    @property
    def is_sum(self) -> bool:
        """A weight is a function of its own score, over their sum."""
        return self.association in ("identity", "polynomial")

    @property
    def largest(self) -> int | None:
        """Only so many of the largest scores have a weight; None where another number may."""
        return {"topk": self.k, "max": 1}.get(self.association)

    @property
    def recalls_one(self) -> bool:
        """A beta that is high enough leaves a single pattern its weight."""
        return not self.is_sum and not (self.association == "budget" and (self.k or 1) > 1)

    @property
    def margin(self) -> float:
        """A sparse map gives weight 0 to scores further than this below the largest ("budget": the k-th largest)."""
        if self.association == "entmax" and self.alpha is not None and self.alpha > 1:
            return 1 / (self.alpha - 1)
        return 1.0 if self.association in ("sparsemax", "normmax", "budget") else torch.inf

    def unscaled(self, scores: Tensor) -> Tensor:
        """What "identity" and "polynomial" make of each score by itself."""
        return scores if self.association == "identity" else scores ** (self.degree or _DEGREE)

    def weights(self, scores: Tensor) -> Tensor:
        """Weights of all patterns, along the last axis."""
        if self.is_sum:
            raw = self.unscaled(scores / largest_size(scores))
            return raw / raw.abs().sum(-1, keepdim=True).clamp_min(torch.finfo(raw.dtype).tiny)
        if self.association == "max":
            best = scores.argmax(-1, keepdim=True)
            return torch.zeros_like(scores).scatter(-1, best, 1.0)
        return associate(scores, self.association, alpha=self.alpha, k=self.k)

    def potential(self, scores: Tensor, weights: Tensor) -> Tensor:
        """max over p of <p, z> minus the map's regulariser; the log-sum-exp of softmax. NaN for a sum map.

        Args:
            scores: (*, n); -inf where there is no pattern.
            weights: those of the scores.

        Returns:
            (*).
        """
        if self.is_softmax:
            return scores.logsumexp(-1)
        if self.is_sum:
            return torch.full_like(scores[..., 0], torch.nan)
        if self.largest is not None:
            return scores.topk(self.largest, -1).values.logsumexp(-1)
        gain = torch.where(weights > 0, weights * scores, torch.zeros_like(scores)).sum(-1)
        return gain - self._regulariser(weights)

    def _regulariser(self, weights: Tensor) -> Tensor:
        if self.association == "normmax":
            return weights.norm(self.alpha, -1)
        if self.association == "budget":
            return weights.square().sum(-1) / 2
        alpha = 2.0 if self.association == "sparsemax" or self.alpha is None else self.alpha
        return (weights.pow(alpha) - weights).sum(-1) / (alpha * (alpha - 1))

    def uniform_regulariser(self, count: int) -> float:
        """The regulariser where `count` patterns have the same weight ("topk", "max": where k of them have)."""
        if self.is_softmax:
            return -math.log(count)
        if self.largest is not None:
            return -math.log(min(self.largest, count))
        total = float(self.k or 1) if self.association == "budget" else 1.0
        share = total / count
        if self.association == "normmax":
            assert self.alpha is not None
            return share * count ** (1 / self.alpha)
        if self.association == "budget":
            return count * share**2 / 2
        alpha = 2.0 if self.association == "sparsemax" or self.alpha is None else self.alpha
        return count * (share**alpha - share) / (alpha * (alpha - 1))


def largest_size(scores: Tensor) -> Tensor:
    """Largest absolute score of each row, (*, 1), without gradient: weights of a sum map do not change when all scores
    are divided by one number, and powers of what is at most 1 do not overflow."""
    return scores.detach().abs().amax(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)
