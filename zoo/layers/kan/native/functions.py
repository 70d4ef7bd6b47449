"""The compiled functions on tensors: on the CPU, of one type, float32 or float64, and contiguous.

Rows of x and of its gradient may lie apart.
"""

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
    tile: Float[Tensor, "_ _ _"],
) -> None:
    """Write the B-splines of every input into a tile (rows, K, features).

    Args:
        x: inputs.
        knots: evenly spaced, a row for all features or one for each.
        order: degree of the pieces, 1 to 9; K = knots - 1 - order.
        tile: where they go.
    """
    _check(tile.shape == (x.shape[0], _bases(knots, order), x.shape[1]), tile)
    _call("bspline_fill", x, knots, (order,), tile)


def gather(
    x: Float[Tensor, "rows features"],
    knots: Float[Tensor, "own knots"],
    order: int,
    pulled: Float[Tensor, "_ _ _"],
    grad_x: Float[Tensor, "_ _"],
) -> None:
    """Write sum_j pulled_j B_j'(x) into grad_x, pulled (rows, K, features); arguments as `fill`."""
    _check(pulled.shape == (x.shape[0], _bases(knots, order), x.shape[1]), pulled)
    _check(grad_x.shape == x.shape, grad_x)
    _call("bspline_gather", x, knots, (order, grad_x.stride(0)), pulled, grad_x, apart=grad_x)


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
    _call("bspline_sum", x, knots, (order, weight.shape[2]), weight, out)


def pack(weight: Float[Tensor, "outs features bases"], scale: Float[Tensor, "outs features"] | None) -> Tensor:
    """The scaled weight as (outs, bases, features); weight and scale may be columns of larger matrices."""
    outs, features, bases = weight.shape
    packed = torch.empty(outs, bases, features, dtype=weight.dtype)
    _check_columns("bspline_pack", weight, scale)
    sizes = (weight.stride(0), scale, 0 if scale is None else scale.stride(0), outs, features, bases, packed)
    _function("bspline_pack", weight.dtype)(*map(_argument, (weight, *sizes)))
    return packed


def unpack(
    total: Float[Tensor, "_ _ _"],
    weight: Float[Tensor, "outs features bases"],
    scale: Float[Tensor, "outs features"] | None,
    grad_weight: Float[Tensor, "outs features bases"] | None,
    grad_scale: Float[Tensor, "outs features"] | None,
) -> None:
    """Write the gradients of weight and scale, those that are not None, from that of the packed weight."""
    _check_columns("bspline_unpack", weight, scale, grad_weight, grad_scale)
    _check(total.shape == (weight.shape[0], weight.shape[2], weight.shape[1]) and total.is_contiguous(), total)
    arguments = [total, weight, weight.stride(0), scale, 0 if scale is None else scale.stride(0), *weight.shape]
    for grad in (grad_weight, grad_scale):
        arguments += [0 if grad is None else grad.stride(0), grad]
    _function("bspline_unpack", weight.dtype)(*map(_argument, arguments))


def _check_columns(name: str, weight: Tensor, *others: Tensor | None) -> None:
    for tensor in (weight, *others):
        if tensor is None:
            continue
        _check(tensor.shape == weight.shape[: tensor.ndim] and tensor[:1].is_contiguous(), tensor)
        if tensor.dtype != weight.dtype or tensor.device.type != "cpu":
            raise ValueError(f"{name} takes CPU tensors of one type, got {tensor.dtype} and {weight.dtype}")


def _bases(knots: Tensor, order: int) -> int:
    return knots.shape[1] - 1 - order


def _check(fits: bool, tensor: Tensor) -> None:
    if not fits:  # what follows reads and writes bare memory
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} does not fit the inputs and knots")


def _call(
    name: str, x: Tensor, knots: Tensor, sizes: tuple[int, ...], *tensors: Tensor, apart: Tensor | None = None
) -> None:
    _check(knots.shape[0] in {1, x.shape[1]}, knots)
    for tensor in (x, knots, *tensors):
        if tensor.dtype != x.dtype or x.dtype not in _SUFFIX or x.device.type != "cpu" or tensor.device != x.device:
            raise ValueError(f"{name} takes CPU tensors of one type, float32 or float64, got {tensor.dtype}, {x.dtype}")
        if not (tensor[:1] if tensor is x or tensor is apart else tensor).is_contiguous():
            raise ValueError(f"{name} takes contiguous tensors, got the strides {tensor.stride()}")
    (rows, features), (own, count) = x.shape, knots.shape
    arguments = (x, x.stride(0), rows, features, knots, own > 1, count - 1, *sizes, *tensors)
    _function(name, x.dtype)(*map(_argument, arguments))


def _function(name: str, dtype: torch.dtype) -> Any:
    return getattr(library(), f"{name}_{_SUFFIX[dtype]}")


def _argument(value: Tensor | int | None) -> Any:
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    return ctypes.c_int64(value)
