"""Chromosomes of a case that look at one another, most at those of their own group."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from zoo.layers.karyonet.cases import check_case, check_case_mask
from zoo.layers.karyonet.encoder import Encoder
from zoo.layers.karyonet.pair_map import PairMap


class CaseInteractionOutput(NamedTuple):
    """What `CaseInteraction` gives."""

    #: Features after the encoder; 0 for padding.
    features: Tensor
    #: Logits of every pair (i, j), [..., N, N, 2]: of the same group, of another.
    pair_logits: Tensor
    #: Logits of types and of polarity, where the module has classifiers.
    type: Tensor | None = None
    polarity: Tensor | None = None

    @property
    def pair(self) -> Tensor:
        """Probabilities of every pair, as the official code gives them."""
        return self.pair_logits.softmax(-1)


class CaseInteraction(nn.Module):
    """The masked feature interaction module (MFIM) of KaryoNet: features of all chromosomes of a case, together.

    For every pair of chromosomes a small network says how probable it is that both are of one group, {1..12, X} or
    {13..22, Y}; an encoder then lets every chromosome attend to all others, weighed by these probabilities. There is
    no code of positions: chromosomes in another order give the same, in that order. Any number of them will do.

        interact = zoo.layers.CaseInteraction(256, num_classes=(24, 2))
        out = interact(features)                               # [N, 256], or [cases, N, 256] with mask=
        loss = zoo.layers.karyonet_loss(out, types, polarity)

    Everything is exact, and the map of pairs is never made: see `PairMap`. Attention that is weighed and divided by
    its sum is attention with log P added.

    Xia et al., "KaryoNet: Chromosome Recognition With End-to-End Combinatorial Optimization Network", IEEE TMI 2023.

    Args:
        dim: of the features, a multiple of 8 and of num_heads.
        num_heads, ff_dim, num_layers, dropout: of the encoder.
        num_classes: of types, or (types, polarities), for linear classifiers behind it; 0: none.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        dim: int = 256,
        *,
        num_heads: int = 8,
        ff_dim: int = 2048,
        num_layers: int = 3,
        dropout: float | int = 0.1,
        num_classes: int | tuple[int, int] = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        types, polarities = (num_classes, 0) if isinstance(num_classes, int) else num_classes
        if min(types, polarities) < 0 or (polarities and not types):
            raise ValueError(f"num_classes must be a number of types, or (types, polarities), got {num_classes}")
        self.pair_map = PairMap(dim, **options)
        self.encoder = Encoder(dim, num_heads, ff_dim, num_layers, dropout, **options)
        self.fc_type = nn.Linear(dim, types, **options) if types else None
        self.fc_polarity = nn.Linear(dim, polarities, **options) if polarities else None

    def reset_parameters(self) -> None:
        """Draw new parameters of all parts."""
        for part in (self.pair_map, *self.encoder.layers, self.fc_type, self.fc_polarity):
            if part is not None:
                part.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(
        self,
        features: Float[Tensor, "*cases chromosomes dim"],
        mask: Bool[Tensor, "*cases chromosomes"] | None = None,
    ) -> CaseInteractionOutput:
        """Features, logits of pairs, and of types and polarity where there are classifiers.

        Args:
            features: of a case [N, dim], or of several [B, N, dim].
            mask: True where there is a chromosome; the rest is padding.

        Raises:
            TypeError: no tensors of floating point, or of truth values for the mask.
            ValueError: no case or more than one axis of them, a mask of another shape, or a case without chromosomes.
        """
        check_case(features, "features", self.pair_map.dim)
        mask = check_case_mask(mask, features.shape[:-1])
        cases = features.reshape(-1, *features.shape[-2:])
        there = None if mask is None else mask.reshape(-1, mask.shape[-1])
        logits = self.pair_map(cases, there)
        log_weights = logits.log_softmax(-1)[..., 0]
        if there is not None:
            log_weights = log_weights.masked_fill(~there[:, None], -torch.inf)
        found = self.encoder(cases, log_weights)
        if there is not None:
            found = found.where(there[..., None], 0.0)
        found = found.reshape(features.shape)
        return CaseInteractionOutput(
            found,
            logits.reshape(*features.shape[:-1], *logits.shape[-2:]),
            None if self.fc_type is None else self.fc_type(found),
            None if self.fc_polarity is None else self.fc_polarity(found),
        )
