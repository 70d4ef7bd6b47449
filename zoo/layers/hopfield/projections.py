"""Norms and projections of the inputs; inputs that are one tensor are normed once and projected by one product."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.eager import must_compose


class Projected(NamedTuple):
    """An input, its layer norm and its projection; None for none."""

    x: Tensor
    norm: nn.LayerNorm | None
    linear: nn.Linear | None


def project_inputs(inputs: Sequence[Projected]) -> list[Tensor]:
    """linear(norm(x)) of each input.

    Where some are the same tensor, with norms of the same epsilon, and there are at least as many rows as features, the
    scale g and shift d of a norm are taken into the projection W x + b behind it: (W g) x^ + (b + W d), where x^ is
    normed without them.
    """
    found: dict[int, Tensor] = {}
    for place, part in enumerate(inputs):
        if place in found:
            continue
        same = [other for other in range(place, len(inputs)) if _goes_with(part, inputs[other])]
        if len(same) > 1 and _may_join(part.x):
            found.update(zip(same, _joined([inputs[other] for other in same]), strict=True))
        else:
            x = part.x if part.norm is None else part.norm(part.x)
            found[place] = x if part.linear is None else part.linear(x)
    return [found[place] for place in range(len(inputs))]


def is_plain(part: nn.Module) -> bool:
    """A linear layer or layer norm as torch has it, not one that somebody put in its place or listens to."""
    return type(part) in (nn.Linear, nn.LayerNorm) and not (part._forward_hooks or part._forward_pre_hooks)


def _goes_with(first: Projected, other: Projected) -> bool:
    """By identity: to compare values would cost more than is saved."""
    parts = (first.norm, first.linear, other.norm, other.linear)
    if first.x is not other.x or first.linear is None or other.linear is None:
        return False
    return all(part is None or is_plain(part) for part in parts) and _eps(first) == _eps(other)


def _eps(part: Projected) -> float | None:
    return None if part.norm is None else part.norm.eps


def _may_join(x: Tensor) -> bool:
    return not must_compose(x) and x.numel() >= x.shape[-1] ** 2


def _joined(parts: Sequence[Projected]) -> Sequence[Tensor]:
    x, eps = parts[0].x, _eps(parts[0])
    normed = x if eps is None else F.layer_norm(x, x.shape[-1:], eps=eps)
    folded = [_fold(part) for part in parts]
    weight = torch.cat([weight for weight, _ in folded])
    biases = [bias for _, bias in folded if bias is not None]
    if biases and len(biases) < len(folded):
        biases = [weight.new_zeros(weight.shape[0]) if bias is None else bias for weight, bias in folded]
    out = F.linear(normed, weight, torch.cat(biases) if biases else None)
    return out.split([weight.shape[0] for weight, _ in folded], -1)


def _fold(part: Projected) -> tuple[Tensor, Tensor | None]:
    norm, linear = part.norm, part.linear
    assert linear is not None
    weight, bias = linear.weight, linear.bias
    if norm is None or norm.weight is None:
        return weight, bias
    if norm.bias is not None:
        shift = F.linear(norm.bias, linear.weight)
        bias = shift if bias is None else bias + shift
    return weight * norm.weight, bias
