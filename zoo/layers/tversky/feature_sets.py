"""Sets of features: which are present in an input or a prototype, and what of them is common."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """A set of features, or one for every row of a batch.

    `&`, `|`, `-`, `^` and `~` give other sets, between two batches of one shape or a batch and a single set:
    `a & b - c` are the features of a and b that c has not (`-` binds first, to the same end).

    Args:
        present: (*batch, F), True where the feature is in the set.
    """

    present: Bool[Tensor, "*batch features"]

    def __and__(self, other: "FeatureSet") -> "FeatureSet":
        return self._with(other, torch.logical_and)

    def __or__(self, other: "FeatureSet") -> "FeatureSet":
        return self._with(other, torch.logical_or)

    def __xor__(self, other: "FeatureSet") -> "FeatureSet":
        return self._with(other, torch.logical_xor)

    def __sub__(self, other: "FeatureSet") -> "FeatureSet":
        return self._with(other, torch.gt)

    def __invert__(self) -> "FeatureSet":
        return FeatureSet(~self.present)

    def __getitem__(self, row: int) -> "FeatureSet":
        """The set of one row of a batch."""
        if self.present.ndim == 1:
            raise TypeError("this is one set; .indices() lists its features")
        return FeatureSet(self.present[row])

    def __len__(self) -> int:
        """Features of the set; of a batch, its sets."""
        return int(self.count()) if self.present.ndim == 1 else self.present.shape[0]

    def __contains__(self, feature: int) -> bool:
        return bool(self._one("in").present[feature])

    def count(self) -> Int[Tensor, "*batch"]:
        """Features of every set."""
        return self.present.sum(-1)

    def indices(self) -> list[int]:
        """Numbers of the features, in order.

        Raises:
            ValueError: a batch of sets.
        """
        return self._one("indices()").present.nonzero().flatten().tolist()

    def jaccard(self, other: "FeatureSet") -> Float[Tensor, "*batch"]:
        """Features of both as a share of those of either; 1 where both sets are empty."""
        common, either = (self & other).count(), (self | other).count()
        return torch.where(either > 0, common / either.clamp(min=1), 1.0)

    def __str__(self) -> str:
        total = self.present.shape[-1]
        if self.present.ndim > 1:
            count = self.count().float().mean().item()
            return f"{tuple(self.present.shape[:-1])} sets of {count:.1f} of {total} features on average"
        return f"{{{', '.join(map(str, self.indices()))}}} of {total} features"

    def _one(self, what: str) -> "FeatureSet":
        if self.present.ndim > 1:
            raise ValueError(
                f"{what} is of one set, these are {tuple(self.present.shape[:-1])}; take one by its number"
            )
        return self

    def _with(self, other: "FeatureSet", operation: Callable[[Tensor, Tensor], Tensor]) -> "FeatureSet":
        if not isinstance(other, FeatureSet):
            return NotImplemented
        if self.present.shape[-1] != other.present.shape[-1]:
            raise ValueError(
                f"sets of {self.present.shape[-1]} and of {other.present.shape[-1]} features are of different layers"
            )
        return FeatureSet(operation(self.present, other.present))
