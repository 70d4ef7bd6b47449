"""Tversky's similarity between the rows of two inputs."""

from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.layers.tversky.base import TverskyBase
from zoo.layers.tversky.functional import Scalar, tversky_similarity


class TverskySimilarity(TverskyBase):
    """Tversky's similarity of every row of x to every row of y, over F learned features.

    Shapes: x (*lead, n, d), y (*lead, m, d) -> (*lead, n, m). It is not symmetric unless alpha = beta. State dict:
    `feature_bank.weight` (F, d), `theta`, `alpha`, `beta`.

    Args:
        in_features: width of the rows, d.
        num_features: features, F; min(d, 256) if None, or as many as a given bank has.
        similarity, intersection, difference, normalize, per_feature, membership, backend: see `tversky_similarity`.
        init, learn_scalars, nonnegative, scale, feature_bank: see `TverskyProjection`.

    Raises:
        ValueError: a size below 1, an unknown name, a shared bank of another shape, dtype or device; in the call,
            rows of another width.
        TypeError: something that is no bank; in the call, integer rows.

    Source: "Tversky Neural Networks: Psychologically Plausible Deep Learning with Differentiable Tversky Similarity"
    (2025, arXiv 2506.11035).
    """

    def __init__(
        self,
        in_features: int,
        num_features: int | None = None,
        *,
        similarity: str = "contrast",
        intersection: str = "product",
        difference: str = "ignorematch",
        normalize: bool = False,
        per_feature: bool = False,
        init: str = "scaled_uniform",
        learn_scalars: bool | Collection[str] = True,
        nonnegative: bool = False,
        scale: float | str | None = None,
        membership: str = "hard",
        backend: str = "auto",
        feature_bank: Any = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_features,
            num_features,
            similarity=similarity,
            intersection=intersection,
            difference=difference,
            normalize=normalize,
            per_feature=per_feature,
            init=init,
            learn_scalars=learn_scalars,
            nonnegative=nonnegative,
            scale=scale,
            membership=membership,
            backend=backend,
            feature_bank=feature_bank,
            device=device,
            dtype=dtype,
        )

    def forward(
        self,
        x: Float[Tensor, "*lead n in_features"],
        y: Float[Tensor, "*others m in_features"],
        alpha: Scalar | None = None,
        beta: Scalar | None = None,
        theta: Scalar | None = None,
    ) -> Float[Tensor, "*all n m"]:
        """Similarities of the rows of x to those of y.

        Args:
            x, y: rows.
            alpha, beta, theta: for this call, instead of the layer's own.
        """
        given = {"alpha": alpha, "beta": beta, "theta": theta}
        options = {**self.similarity_options(), **{k: v for k, v in given.items() if v is not None}}
        result = tversky_similarity(x, y, self.feature_bank.weight, **options)
        return result if self.scale == 1.0 else result * self.scale

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.num_features}, {super().extra_repr()}"
