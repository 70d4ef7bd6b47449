"""Tiles of B-splines over even knots, filled in C."""

import torch
from torch import Tensor

from zoo.layers.kan.native.functions import fill, gather, pack, unpack, weighted_sum
from zoo.layers.kan.tiles import Tiles

_COARSE = 16  # functions, up to which the product with all of them is quicker than reading those that are not 0
_NARROW = 128  # outputs


class CompiledTiles(Tiles):
    """All functions of even knots, with slopes made from the inputs when they are needed."""

    spares = 0

    def __init__(self, knots: Tensor, order: int) -> None:
        self.knots = knots.contiguous()
        self.order = order
        self.num_bases = knots.shape[1] - 1 - order

    def inputs(self, block: slice) -> "CompiledTiles":
        return self if self.knots.shape[0] == 1 else CompiledTiles(self.knots[block], self.order)

    def fill(self, u: Tensor, phi: Tensor, spare: list[Tensor]) -> None:
        fill(_in_rows(u), self.knots, self.order, phi)

    def fill_both(self, u: Tensor, phi: Tensor, slope: Tensor, spare: list[Tensor]) -> None:
        self.fill(u, phi, spare)

    def gather(self, u: Tensor, pulled: Tensor, slope: Tensor, grad_u: Tensor) -> None:
        if grad_u.stride(1) == 1:
            gather(_in_rows(u), self.knots, self.order, pulled, grad_u)
        else:
            whole = torch.empty(grad_u.shape, dtype=grad_u.dtype)
            gather(_in_rows(u), self.knots, self.order, pulled, whole)
            grad_u.copy_(whole)

    def pack(self, weight: Tensor, scale: Tensor | None) -> Tensor:
        return pack(weight, scale) if self._reads(weight, scale) else super().pack(weight, scale)

    def unpack(
        self,
        total: Tensor,
        weight: Tensor,
        scale: Tensor | None,
        grad_weight: Tensor | None,
        grad_scale: Tensor | None,
    ) -> None:
        way = unpack if self._reads(total, weight, scale) else super().unpack
        way(total, weight, scale, grad_weight, grad_scale)

    def _reads(self, *tensors: Tensor | None) -> bool:
        """Weights may be of another type than the inputs, or lie otherwise."""
        given = [tensor for tensor in tensors if tensor is not None]
        return all(tensor.dtype == self.knots.dtype and tensor[:1].is_contiguous() for tensor in given)

    def looks_up(self, out_features: int) -> bool:
        return self.num_bases > _COARSE and out_features <= _NARROW

    def sums(self, u: Tensor, table: Tensor) -> Tensor:
        out = torch.zeros(u.shape[0], table.shape[1], dtype=u.dtype)
        weighted_sum(_in_rows(u), self.knots, self.order, table.view(u.shape[1], self.num_bases, -1), out)
        return out


def _in_rows(u: Tensor) -> Tensor:
    """The same numbers, those of a row beside each other."""
    return u if u.stride(1) == 1 else u.contiguous()
