"""Layer norm and projections of an input as one linear map of the rows normed without scale and shift."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.layers.hopfield.hopfield import Hopfield
from zoo.layers.hopfield.projections import is_plain


class Folded(NamedTuple):
    """heads = weight x^ + shift of each head, where x^ is a normed row: weight (H or 1, D, d), shift (H or 1, D)."""

    weight: Tensor
    shift: Tensor

    def scores(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """What heads of states (B, H, L, D) are to be compared with in place of heads of rows: q . head =
        direction . x^ + constant, (B, H, L, d) and (B, H, L, 1)."""
        return _of_heads(q, self.weight), (q * self.shift.unsqueeze(1)).sum(-1, keepdim=True)

    def heads(self, means: Tensor) -> Tensor:
        """The heads of mean normed rows, (B, H, L, d) -> (B, H, L, D)."""
        return _of_heads(means, self.weight.transpose(1, 2)) + self.shift.unsqueeze(1)


def can_fold(layer: Hopfield) -> bool:
    """Stored patterns and values, of the same rows, are linear maps of the same normed rows, and nobody listens in."""
    norms = (layer.norm_stored, layer.norm_value)
    parts = (*norms, layer.proj_stored, layer.proj_value)
    plain = all(part is None or is_plain(part) for part in parts)
    return plain and layer.norm_association is None and len({None if norm is None else norm.eps for norm in norms}) == 1


def fold_stored(layer: Hopfield) -> Folded:
    """The heads of the stored patterns."""
    return _fold(layer.norm_stored, layer.proj_stored, layer)


def fold_values(layer: Hopfield) -> Folded:
    """The heads of the values."""
    if not layer.connect_values or layer.proj_stored is None:
        return _fold(layer.norm_value, layer.proj_value, layer)
    first, second = _fold(layer.norm_value, layer.proj_stored, layer), layer.proj_value
    if second is None:
        return first
    shift = second.weight @ first.shift.flatten()
    shift = shift if second.bias is None else shift + second.bias
    return _by_head(second.weight @ first.weight.flatten(0, 1), shift, layer)


def _fold(norm: nn.LayerNorm | None, projection: nn.Linear | None, layer: Hopfield) -> Folded:
    scale = None if norm is None else norm.weight
    offset = None if norm is None else norm.bias
    if projection is None:
        width = layer.sizes.stored or 0
        like = layer.beta
        scale = like.new_ones(width) if scale is None else scale
        offset = like.new_zeros(width) if offset is None else offset
        return Folded(torch.diag(scale).unsqueeze(0), offset.unsqueeze(0))
    weight, shift = projection.weight, projection.bias
    if offset is not None:
        shift = weight @ offset if shift is None else shift + weight @ offset
    if shift is None:
        shift = weight.new_zeros(weight.shape[0])
    return _by_head(weight if scale is None else weight * scale, shift, layer)


def _of_heads(x: Tensor, maps: Tensor) -> Tensor:
    """x (B, H, Q, n) by each head's map, (H or 1, n, m) -> (B, H, Q, m), without a copy of the maps for each bag."""
    if maps.shape[0] == 1:
        return x @ maps[0]
    return (x.transpose(0, 1).flatten(1, 2) @ maps).unflatten(1, (x.shape[0], x.shape[2])).transpose(0, 1)


def _by_head(weight: Tensor, shift: Tensor, layer: Hopfield) -> Folded:
    return Folded(weight.unflatten(0, (layer.num_heads, -1)), shift.unflatten(0, (layer.num_heads, -1)))
