"""What KaryoNet's interaction of a case learns by."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from zoo.layers.karyonet.cases import check_case_mask
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
        polarity: 0 or 1, -1 where it is not known: these say nothing. None leaves that part out.
        mask: True where there is a chromosome; types and polarities of the rest may be anything.
        pair_weight: of the second part.

    Raises:
        ValueError: the output lacks logits that a part needs; labels of another number of chromosomes, or, on a CPU,
            out of range.
        TypeError: labels that are no whole numbers, or a mask that is none of truth values.
    """
    if output.type is None or (polarity is not None and output.polarity is None):
        missing = "type" if output.type is None else "polarity"
        raise ValueError(f"the output has no logits of {missing}: make CaseInteraction with num_classes=(24, 2)")
    mask = check_case_mask(mask, output.type.shape[:-1])
    kept = torch.ones_like(output.type[..., 0], dtype=torch.bool) if mask is None else mask
    _check_labels(types, "types", kept, 0, output.type)
    loss = functional.cross_entropy(output.type[kept], types[kept].long())
    loss = loss + pair_weight * pair_loss(output.pair_logits, chromosome_groups(types), mask)
    if polarity is not None and output.polarity is not None:
        _check_labels(polarity, "polarity", kept, -1, output.polarity)
        known = polarity[kept].long()
        # The mean over those that are known; 0 where none is.
        total = functional.cross_entropy(output.polarity[kept], known, ignore_index=-1, reduction="sum")
        loss = loss + total / (known >= 0).sum().clamp(min=1)
    return loss


def _check_labels(labels: Any, name: str, kept: Tensor, least: int, logits: Tensor) -> None:
    """Refuse labels that do not fit the logits; values are looked at on a CPU, for a GPU would be waited for."""
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"{name} must be a tensor of whole numbers, got {got}")
    if labels.shape != kept.shape:
        raise ValueError(f"{name} must be {list(kept.shape)}, a label per chromosome, got {list(labels.shape)}")
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    outside = kept & ((labels < least) | (labels >= logits.shape[-1]))
    if outside.any():
        place = outside.nonzero()[0].tolist()
        unknown = " (-1: not known)" if least < 0 else ""
        raise ValueError(
            f"{name} must be {least} to {logits.shape[-1] - 1}{unknown}, got {labels[tuple(place)].item()} at {place}"
        )
