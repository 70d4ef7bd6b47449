"""The compiled functions on tensors. All are contiguous, on the CPU, of one type: float32 or float64."""

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.layers.kan.native.build import library

_SUFFIX = {torch.float32: "float", torch.float64: "double"}


def fill(
    x: Float[Tensor, "rows features"],
    knots: Float[Tensor, "own knots"],
    order: int,
    tile: Float[Tensor, "_ _ width"],
) -> None:
    """Write the B-splines of every input into the first K places of the tile's last dimension.

    Args:
        x: inputs.
        knots: evenly spaced, a row for all features or one for each.
        order: degree of the pieces, 1 to 9; K = knots - 1 - order.
        tile: where they go, with K places or more.
    """
    _check(tile.shape[:2] == x.shape and tile.shape[2] >= _bases(knots, order), tile)
    _call("bspline_fill", x, knots, order, tile.shape[-1], tile)


def gather(
    x: Float[Tensor, "rows features"],
    knots: Float[Tensor, "own knots"],
    order: int,
    grad_tile: Float[Tensor, "_ _ width"],
    grad_x: Float[Tensor, "_ _"],
) -> None:
    """Write sum_j grad_tile_j B_j'(x) into grad_x; arguments as `fill`."""
    _check(grad_tile.shape[:2] == x.shape and grad_tile.shape[2] >= _bases(knots, order), grad_tile)
    _check(grad_x.shape == x.shape, grad_x)
    _call("bspline_gather", x, knots, order, grad_tile.shape[-1], grad_tile, grad_x)


def weighted_sum(
    x: Float[Tensor, "rows features"],
    knots: Float[Tensor, "own knots"],
    order: int,
    weight: Float[Tensor, "_ _ outs"],
    out: Float[Tensor, "_ outs"],
) -> None:
    """Add sum_ij B_j(x_i) weight_ij to out, reading only the order + 1 rows of the weight that count for an input.

    Arguments as `fill`; weight: (features, K, outs).
    """
    _check(weight.shape[:2] == (x.shape[1], _bases(knots, order)), weight)
    _check(out.shape == (x.shape[0], weight.shape[2]), out)
    _call("bspline_sum", x, knots, order, weight.shape[-1], weight, out)


def _bases(knots: Tensor, order: int) -> int:
    return knots.shape[1] - 1 - order


def _check(fits: bool, tensor: Tensor) -> None:
    if not fits:  # what follows reads and writes bare memory
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} does not fit the inputs and knots")


def _call(name: str, x: Tensor, knots: Tensor, order: int, width: int, *tensors: Tensor) -> None:
    _check(knots.shape[0] in {1, x.shape[1]}, knots)
    for tensor in (x, knots, *tensors):
        if tensor.dtype != x.dtype or tensor.device.type != "cpu" or not tensor.is_contiguous():
            raise ValueError(
                f"{name} takes contiguous CPU tensors of one type, got {tensor.dtype} beside {x.dtype} on "
                f"{tensor.device}, strides {tensor.stride()}"
            )
    (rows, features), (own, count) = x.shape, knots.shape
    function = getattr(library(), f"{name}_{_SUFFIX[x.dtype]}")
    sizes = (features, _pointer(knots), ctypes.c_int64(own > 1), count - 1, order, width)
    function(_pointer(x), ctypes.c_int64(rows), *map(_word, sizes), *map(_pointer, tensors))


def _word(value: Any) -> Any:
    return ctypes.c_int64(value) if isinstance(value, int) else value


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
