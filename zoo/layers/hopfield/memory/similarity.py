"""How a state is compared with a stored pattern."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.layers.hopfield.options import check_choice

SIMILARITIES = ("dot", "cosine", "neg_sq_l2", "neg_l1")
#: Patterns whose mean is the centre of squared distances.
_CENTRE = 1024


@dataclass(frozen=True)
class Comparison:
    """Similarities of states and stored patterns, after a linear map of both if one is given.

    Attributes:
        similarity: "dot", "cosine", "neg_sq_l2" (minus the squared distance) or "neg_l1" (minus the sum of absolute
            differences).
        feature_map: (features, dim) or None.
        centre: (dim,), taken off both sides before squared distances are made of products; see `around`.

    Raises:
        ValueError: an unknown similarity.

    Source: Millidge et al., "Universal Hopfield Networks" (2022, arXiv 2202.04557).
    """

    similarity: str = "dot"
    feature_map: Tensor | None = None
    centre: Tensor | None = None

    def __post_init__(self) -> None:
        check_choice("similarity", self.similarity, SIMILARITIES)

    def around(self, stored: Tensor, like: Tensor) -> "Comparison":
        """The same comparison of numbers near 0, where squared distances are made of products: |a|^2 - 2 ab + |b|^2 of
        patterns far from the origin is the small difference of large numbers.

        Args:
            stored: (N, dim), of any dtype, on any device; the centre is the mean of the first.
            like: has the dtype and the device of the states.
        """
        if self.similarity != "neg_sq_l2":
            return self
        centre = stored[:_CENTRE].detach().to(device=like.device, dtype=like.dtype).mean(0)
        return replace(self, centre=centre.nan_to_num(0.0, 0.0, 0.0))

    def prepare(self, patterns: Tensor) -> Tensor:
        """What `scores` takes, of states or of stored patterns (*, n, dim)."""
        if self.centre is not None:
            patterns = patterns - self.centre
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
