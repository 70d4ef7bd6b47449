"""The product of a basis and a weight, tile by tile, without ever holding the whole basis.

    y_o = sum_ij s_oi c_oij phi_j(u_i)        for inputs u (rows, in), c (out, in, K) and scales s (out, in) or none

A tile holds the K functions of some rows and some inputs and is small enough to stay in the cache. Its memory is laid
out function by function, (rows, K, inputs), so that what is done to it runs over long stretches; the weight is copied
into the same order once for each block of inputs. The way back makes every tile again, from u alone.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_TILE = 2**18  # values on a CPU: a megabyte in float32, and three or four tiles are in use at a time
_SLOPES = 2**19  # slopes of curves at a time
_DEVICE_TILE = 2**24  # elsewhere: a tile is a launch
_INPUTS = 128
_LEAST_ROWS = 128  # in a product of fewer, memory is the limit
_NARROW = 128  # outputs, up to which looking up the few functions that are not 0 is quicker than multiplying by all


class Tiles:
    """What the blocks ask of a basis: to fill a tile with its functions, and with what their slopes need.

    `value_factor` times the tile is phi; `slope_factor(u)` times the tile of slopes is d phi / d u.
    """

    num_bases: int
    value_factor = 1.0
    spares = 1

    def inputs(self, block: slice) -> "Tiles":
        """The same for some of the inputs."""
        return self

    def fill(self, u: Tensor, phi: Tensor, spare: list[Tensor]) -> None:
        """Write the functions of u (rows, inputs) to phi (rows, K, inputs); the spare tiles may be written to."""
        raise NotImplementedError(f"{type(self).__name__} does not fill tiles")

    def fill_both(self, u: Tensor, phi: Tensor, slope: Tensor, spare: list[Tensor]) -> None:
        """The same, and their slopes to `slope`."""
        raise NotImplementedError(f"{type(self).__name__} does not fill slopes")

    def slope_factor(self, u: Tensor) -> Tensor | float:
        """See the class: a number, or one for each input (rows, inputs)."""
        return 1.0

    def gather(self, u: Tensor, pulled: Tensor, slope: Tensor, grad_u: Tensor) -> None:
        """Write to grad_u (rows, inputs) what the gradients `pulled` of the functions are for u.

        Args:
            u, slope: as for `fill_both`, which has been called before.
            pulled: (rows, K, inputs).
            grad_u: (rows, inputs), part of a matrix.
        """
        torch.mul(slope.mul_(pulled).sum(1), self.slope_factor(u), out=grad_u)

    def pack(self, weight: Tensor, scale: Tensor | None) -> Tensor:
        """The weights of some inputs, scaled, in the order of a tile.

        Args:
            weight: (out, inputs, K), part of a larger one.
            scale: (out, inputs) or None.

        Returns:
            (out, K, inputs).
        """
        packed = weight.transpose(1, 2).clone(memory_format=torch.contiguous_format)  # contiguous() may be no copy
        return packed if scale is None else packed.mul_(scale.unsqueeze(1))

    def unpack(
        self,
        total: Tensor,
        weight: Tensor,
        scale: Tensor | None,
        grad_weight: Tensor | None,
        grad_scale: Tensor | None,
    ) -> None:
        """Write what the gradient of the packed weight is for weight and scale; its memory may be written to.

        Args:
            total: (out, K, inputs).
            weight, scale: as for `pack`.
            grad_weight, grad_scale: parts of gradients in the shape of weight and scale, those that are needed.
        """
        if grad_scale is not None:
            grad_scale.copy_((total * weight.transpose(1, 2).contiguous()).sum(1))
        if grad_weight is not None:
            grad_weight.copy_((total if scale is None else total.mul_(scale.unsqueeze(1))).transpose(1, 2))

    def looks_up(self, out_features: int) -> bool:
        """The weights of the functions that are not 0 are better read one by one, by `sums`, than all multiplied."""
        return False

    def sums(self, u: Tensor, table: Tensor) -> Tensor:
        """The product, over `value_factor`, by the weights of the functions that are not 0.

        Args:
            u: (rows, inputs).
            table: weights (inputs * K, out).
        """
        raise NotImplementedError(f"{type(self).__name__} does not know which functions are 0")


class SparseTiles(Tiles):
    """Tiles of a basis of which only some functions are not 0 at any u: as many for each."""

    def inputs(self, block: slice) -> "SparseTiles":
        return self

    def local(self, u: Tensor, firsts: Tensor | int = 0) -> tuple[Tensor, Tensor]:
        """Which functions, and their values over `value_factor`: (rows, some, inputs) each.

        Args:
            u: (rows, inputs).
            firsts: (inputs,), what number the first function of every input has.
        """
        raise NotImplementedError(f"{type(self).__name__} does not know which functions are 0")

    def local_both(self, u: Tensor, firsts: Tensor | int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and their slopes."""
        raise NotImplementedError(f"{type(self).__name__} does not know which functions are 0")

    def looks_up(self, out_features: int) -> bool:
        return out_features <= _NARROW

    def sums(self, u: Tensor, table: Tensor) -> Tensor:
        firsts = torch.arange(u.shape[1], device=u.device) * self.num_bases
        parts = []
        for block in u.split(max(1, _TILE // u.shape[1])):
            places, values = self.local(block, firsts)
            parts.append(F.embedding_bag(places.flatten(1), table, per_sample_weights=values.flatten(1), mode="sum"))
        return torch.cat(parts)

    def fill(self, u: Tensor, phi: Tensor, spare: list[Tensor]) -> None:
        places, values = self.local(u)
        phi.zero_().scatter_(1, places, values)

    def fill_both(self, u: Tensor, phi: Tensor, slope: Tensor, spare: list[Tensor]) -> None:
        places, values, slopes = self.local_both(u)
        phi.zero_().scatter_(1, places, values)
        slope.zero_().scatter_(1, places, slopes)


class _Blocks:
    """The blocks of rows and inputs, and the memory of the tiles, made once and filled again and again."""

    def __init__(self, u: Tensor, num_bases: int, count: int) -> None:
        self.rows, self.inputs = u.shape
        cpu = u.device.type == "cpu"
        self.width = min(_INPUTS if cpu else self.inputs, max(self.inputs, 1))
        budget = _TILE if cpu else _DEVICE_TILE
        self.height = max(1, min(self.rows, max(budget // (self.width * num_bases), _LEAST_ROWS)))
        size = self.height * num_bases * self.width
        self.memory = [u.new_empty(size) for _ in range(count)]
        self.num_bases = num_bases

    def columns(self) -> Iterator[slice]:
        for start in range(0, self.inputs, self.width):
            yield slice(start, min(start + self.width, self.inputs))

    def spans(self) -> Iterator[slice]:
        for start in range(0, self.rows, self.height):
            yield slice(start, min(start + self.height, self.rows))

    def tiles(self, u: Tensor) -> list[Tensor]:
        """The tiles for a block of u, each (rows, K, inputs)."""
        rows, inputs = u.shape
        size = rows * self.num_bases * inputs
        return [memory[:size].view(rows, self.num_bases, inputs) for memory in self.memory]


def multiply(u: Tensor, weight: Tensor, scale: Tensor | None, tiles: Tiles, dtype: torch.dtype) -> Tensor:
    """The product, (rows, out) in `dtype`, the type of the matrix products.

    Args:
        u: (rows, in) in float32 or float64.
        weight: (out, in, K).
        scale: (out, in), or None for 1.
        tiles: of the basis.
        dtype: of the products; sums over blocks of inputs are kept in the type of u.
    """
    if dtype == u.dtype and tiles.looks_up(weight.shape[0]):
        return tiles.sums(u, _table(weight, scale, slice(None))).mul_(tiles.value_factor)
    out = u.new_zeros(u.shape[0], weight.shape[0])
    blocks = _Blocks(u, tiles.num_bases, 1 + tiles.spares)
    for columns in blocks.columns():
        part = tiles.inputs(columns)
        packed = part.pack(weight[:, columns], _columns(scale, columns)).to(dtype).flatten(1).t()
        for span in blocks.spans():
            block = u[span, columns]
            phi, *spare = blocks.tiles(block)
            part.fill(block, phi, spare)
            _add_product(out[span], phi.flatten(1), packed, tiles.value_factor)
    return out.to(dtype)


def pull_back(
    grad: Tensor,
    u: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    tiles: Tiles,
    needed: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of u, weight and scale, those that are needed.

    Args:
        grad: gradient of the product, in the type of the products.
        u, weight, scale, tiles: see `multiply`.
        needed: of u, weight and scale.
    """
    of_u, of_weight, of_scale = needed
    if of_u and isinstance(tiles, SparseTiles) and tiles.looks_up(weight.shape[0]) and grad.dtype == u.dtype:
        others = pull_back(grad, u, weight, scale, tiles, (False, of_weight, of_scale))
        return _slopes_of_rows(grad, u, weight, scale, tiles), *others[1:]
    of_packed = of_weight or of_scale
    grad_u = torch.empty_like(u) if of_u else None
    grad_weight = torch.empty_like(weight, memory_format=torch.contiguous_format) if of_weight else None
    grad_scale = torch.empty_like(scale) if of_scale and scale is not None else None
    blocks = _Blocks(u, tiles.num_bases, 2 + tiles.spares)
    for columns in blocks.columns():
        part = tiles.inputs(columns)
        packed = part.pack(weight[:, columns], _columns(scale, columns))
        factor = packed.to(grad.dtype).flatten(1)
        # Sums over tiles are kept in the working precision: a bfloat16 sum would lose the small tiles.
        total = torch.zeros_like(packed, dtype=u.dtype) if of_packed else None
        for span in blocks.spans():
            block, rows = u[span, columns], grad[span]
            phi, slope, *spare = blocks.tiles(block)
            if grad_u is None:
                part.fill(block, phi, [slope, *spare])
            else:
                part.fill_both(block, phi, slope, spare)
            if total is not None:
                _add_product(total.flatten(1), rows.t(), phi.flatten(1), tiles.value_factor)
            if grad_u is not None:
                # phi has been read for the last time: its memory takes the gradient of the functions.
                part.gather(block, _product(rows, factor, phi), slope, grad_u[span, columns])
        if total is None:
            continue
        of_scale_here = None if grad_scale is None else grad_scale[:, columns]
        of_weight_here = None if grad_weight is None else grad_weight[:, columns]
        part.unpack(total, weight[:, columns], _columns(scale, columns), of_weight_here, of_scale_here)
    return grad_u, grad_weight, grad_scale


def _slopes_of_rows(grad: Tensor, u: Tensor, weight: Tensor, scale: Tensor | None, tiles: SparseTiles) -> Tensor:
    """The gradient of u, by the weights of the functions that are not 0: how every curve of an input rises there."""
    grad_u = torch.empty_like(u)
    step = max(1, _SLOPES // (_INPUTS * weight.shape[0]))
    for columns in _Blocks(u, tiles.num_bases, 0).columns():
        table, part = _table(weight, scale, columns), tiles.inputs(columns)
        firsts = torch.arange(len(table) // tiles.num_bases, device=u.device) * tiles.num_bases
        for start in range(0, u.shape[0], step):
            block = u[start : start + step, columns]
            places, _, slopes = part.local_both(block, firsts)
            index = places.transpose(1, 2).reshape(-1, places.shape[1])
            weights = slopes.transpose(1, 2).reshape(index.shape)
            rises = F.embedding_bag(index, table, per_sample_weights=weights, mode="sum")
            rises = rises.view(*block.shape, -1).mul_(grad[start : start + step].unsqueeze(1))
            torch.mul(rises.sum(-1), part.slope_factor(block), out=grad_u[start : start + step, columns])
    return grad_u


def _table(weight: Tensor, scale: Tensor | None, columns: slice) -> Tensor:
    """The scaled weights of some inputs as (inputs * K, out)."""
    some = weight[:, columns] if scale is None else weight[:, columns] * scale[:, columns].unsqueeze(-1)
    # Without the copy this is a view whose rows lie apart, and looking them up takes ten times as long.
    return some.permute(1, 2, 0).contiguous().flatten(0, 1)


def _columns(scale: Tensor | None, columns: slice) -> Tensor | None:
    return None if scale is None else scale[:, columns]


def _add_product(total: Tensor, left: Tensor, right: Tensor, alpha: float) -> None:
    """total += alpha left @ right, where one of the two is in the type of the tiles, the other in that of products."""
    if left.dtype == right.dtype == total.dtype:
        total.addmm_(left, right, alpha=alpha)
        return
    dtype = left.dtype if left.dtype != total.dtype else right.dtype
    total.add_(torch.mm(left.to(dtype), right.to(dtype)), alpha=alpha)


def _product(left: Tensor, right: Tensor, memory: Tensor) -> Tensor:
    """left @ right in the shape of `memory`, and in it if it is of the same type."""
    if left.dtype == memory.dtype:
        torch.mm(left, right, out=memory.flatten(1))
        return memory
    return torch.mm(left, right).to(memory.dtype).view_as(memory)
