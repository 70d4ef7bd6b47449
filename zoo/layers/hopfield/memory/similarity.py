"""How a state is compared with a stored pattern."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.layers.hopfield.options import check_choice

SIMILARITIES = ("dot", "cosine", "neg_sq_l2", "neg_l1")


@dataclass(frozen=True)
class Comparison:
    """Similarities of states and stored patterns, after a linear map of both if one is given.

    Attributes:
        similarity: "dot", "cosine", "neg_sq_l2" (minus the squared distance) or "neg_l1" (minus the sum of absolute
            differences).
        feature_map: (features, dim) or None.

    Raises:
        ValueError: an unknown similarity.

    Source: Millidge et al., "Universal Hopfield Networks" (2022, arXiv 2202.04557).
    """

    similarity: str = "dot"
    feature_map: Tensor | None = None

    def __post_init__(self) -> None:
        check_choice("similarity", self.similarity, SIMILARITIES)

    def prepare(self, patterns: Tensor) -> Tensor:
        """What `scores` takes, of states or of stored patterns (*, n, dim)."""
        if self.feature_map is not None:
            patterns = patterns @ self.feature_map.to(patterns).t()
        return F.normalize(patterns, dim=-1) if self.similarity == "cosine" else patterns

    def scores(self, states: Tensor, stored: Tensor) -> Tensor:
        """Similarity of every state (n, d) with every pattern (m, d), both prepared: (n, m)."""
        if self.similarity == "neg_l1":
            return -torch.cdist(states, stored, p=1.0)
        products = states @ stored.t()
        if self.similarity != "neg_sq_l2":
            return products
        return 2 * products - stored.square().sum(-1) - states.square().sum(-1, keepdim=True)

    def own(self, stored: Tensor) -> Tensor:
        """Similarity of every prepared pattern with itself, (n,)."""
        if self.similarity in ("dot", "cosine"):
            return stored.square().sum(-1)
        return stored.new_zeros(len(stored))
