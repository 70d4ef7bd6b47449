"""What KaryoNet's interaction of a case learns by."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from zoo.layers.karyonet.interaction import CaseInteractionOutput

#: Classes of the first group: chromosomes 1 to 12, and X.
_FIRST = (*range(12), 22)


def chromosome_groups(types: Int[Tensor, "*chromosomes"]) -> Int[Tensor, "*chromosomes"]:
    """0 for classes of chromosomes 1..12 and X, 1 for 13..22 and Y; classes are 1..22, X, Y in order."""
    return (~torch.isin(types, torch.tensor(_FIRST, device=types.device))).long()


def pair_loss(
    pair_logits: Float[Tensor, "*cases n n 2"],
    groups: Int[Tensor, "*cases n"],
    mask: Bool[Tensor, "*cases n"] | None = None,
) -> Float[Tensor, ""]:
    """Mean binary cross-entropy of "same group", P(i, j), over all pairs of chromosomes."""
    another = (groups[..., None] != groups[..., None, :]).long()
    losses = functional.cross_entropy(pair_logits.flatten(0, -2), another.flatten(), reduction="none")
    if mask is None:
        return losses.mean()
    return losses[(mask[..., None] & mask[..., None, :]).flatten()].mean()


def karyonet_loss(
    output: CaseInteractionOutput,
    types: Int[Tensor, "*cases n"],
    polarity: Int[Tensor, "*cases n"] | None = None,
    mask: Bool[Tensor, "*cases n"] | None = None,
    pair_weight: float | int = 0.5,
) -> Float[Tensor, ""]:
    """CE(type) + 1/2 BCE(P) + CE(polarity), means over chromosomes and over pairs.

    Args:
        output: of `CaseInteraction` with classifiers.
        types: classes 0..23.
        polarity: 0 or 1; None leaves that part out.
        mask: True where there is a chromosome.
        pair_weight: of the second part.

    Raises:
        ValueError: the output lacks logits that a part needs.
    """
    if output.type is None or (polarity is not None and output.polarity is None):
        missing = "type" if output.type is None else "polarity"
        raise ValueError(f"the output has no logits of {missing}: make CaseInteraction with num_classes=(24, 2)")
    kept = torch.ones_like(types, dtype=torch.bool) if mask is None else mask
    loss = functional.cross_entropy(output.type[kept], types[kept])
    loss = loss + pair_weight * pair_loss(output.pair_logits, chromosome_groups(types), mask)
    if polarity is not None and output.polarity is not None:
        loss = loss + functional.cross_entropy(output.polarity[kept], polarity[kept])
    return loss
