"""Start a neighbourhood attention as a copy of the attention that it replaces."""

from typing import Any

import torch
from torch import Tensor, nn

_BETWEEN = ("q_norm", "k_norm", "norm", "gate", "logit_scale")  # what the layer has no counterpart of


def copy_projections(layer: Any, reference: Any) -> bool:
    """What the layers' `imitate` does."""
    heads, proj = getattr(reference, "num_heads", None), getattr(reference, "proj", None)
    if heads != layer.num_heads or not isinstance(proj, nn.Linear):
        return False
    if any(not isinstance(getattr(reference, name, None), nn.Identity | None) for name in _BETWEEN):
        return False
    found = _fused_projection(reference)
    if found is None:
        return False
    weight, bias = found
    if weight.shape != layer.qkv.weight.shape or proj.weight.shape != layer.proj.weight.shape:
        return False
    new = [(layer.qkv.weight, weight), (layer.qkv.bias, bias), (layer.proj.weight, proj.weight)]
    new.append((layer.proj.bias, proj.bias))
    if layer.rpb is not None:
        new.append((layer.rpb, _position_bias(reference, layer.rpb)))
    given = [value for _, value in new if value is not None]
    if layer.qkv.weight.is_meta or any(value.is_meta or not value.isfinite().all() for value in given):
        return False
    if any(place is None and value is not None and value.any() for place, value in new):
        return False
    with torch.no_grad():
        for place, value in new:
            if place is not None:
                place.copy_(torch.zeros_like(place) if value is None else value)
        # Another scale of the scores is another length of the queries.
        ratio = getattr(reference, "scale", None)
        if isinstance(ratio, float) and ratio != layer.scale:
            for place in (layer.qkv.weight, layer.qkv.bias):
                if place is not None:
                    place[: layer.dim] *= ratio / layer.scale
    return True


def _fused_projection(reference: Any) -> tuple[Tensor, Tensor | None] | None:
    """Weight and bias of q, k and v in one, whichever way the reference keeps them."""
    qkv = getattr(reference, "qkv", None)
    if isinstance(qkv, nn.Linear):
        if qkv.bias is not None:
            return qkv.weight, qkv.bias
        weights, biases = [qkv.weight], [getattr(reference, f"{name}_bias", None) for name in "qkv"]
        widths = [qkv.out_features // 3] * 3
    else:
        parts = [getattr(reference, f"{name}_proj", None) for name in "qkv"]
        weights, biases, widths = [], [], []
        for part in parts:
            if not isinstance(part, nn.Linear):
                return None
            weights.append(part.weight)
            biases.append(part.bias)
            widths.append(part.out_features)
    weight = torch.cat([each.detach() for each in weights])
    if all(bias is None for bias in biases):
        return weight, None
    filled = [weight.new_zeros(w) if b is None else b.detach() for b, w in zip(biases, widths, strict=True)]
    return weight, torch.cat(filled)


def _position_bias(reference: Any, rpb: Tensor) -> Tensor | None:
    """Swin's table in the order of `rpb`: it counts from the key to the query, this layer from query to key."""
    table = getattr(reference, "relative_position_bias_table", None)
    if not isinstance(table, Tensor) or rpb.ndim != 3 or table.shape != (rpb[0].numel(), rpb.shape[0]):
        return None
    return table.detach().t().reshape(rpb.shape).flip(1, 2)
