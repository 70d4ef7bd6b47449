"""A loss or an expectation as a function of two weights."""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor


@dataclass(frozen=True)
class Landscape:
    """A function of two weights.

    Attributes:
        values: (steps, steps), a row for each number of the first weight.
        first, second: (steps,) what is added to each weight.
        places: the two weights.
    """

    values: Tensor
    first: Tensor
    second: Tensor
    places: tuple[int, int]


def landscape(
    function: Callable[[Tensor], Tensor],
    weights: Tensor,
    places: tuple[int, int] = (0, 1),
    *,
    span: float = pi,
    steps: int = 31,
) -> Landscape:
    """A loss or an expectation around some weights, over two of them.

    Args:
        function: (W,) weights -> one number, such as `lambda w: circuit.expval("Z0", w)`.
        weights: (W,) the middle.
        places: which two weights change.
        span: they change by up to that much in both directions.
        steps: in each direction, at least 2.

    Raises:
        ValueError: a place that is not there, twice the same, too few steps, a function of several values.
    """
    count = weights.numel()
    first, second = places
    if not (0 <= first < count and 0 <= second < count and first != second):
        raise ValueError(f"places must be two different weights of 0..{count - 1}, got {places}")
    if steps < 2:
        raise ValueError(f"steps must be at least 2, got {steps}")
    offsets = torch.linspace(-span, span, steps, dtype=weights.dtype)
    middle = weights.detach().flatten()
    values = torch.empty(steps, steps, dtype=torch.float64)
    with torch.no_grad():
        for row, a in enumerate(offsets.tolist()):
            for column, b in enumerate(offsets.tolist()):
                moved = middle.clone()
                moved[first] += a
                moved[second] += b
                value = function(moved.view_as(weights))
                if value.numel() != 1:
                    raise ValueError(f"function must give one number, got the shape {tuple(value.shape)}")
                values[row, column] = float(value)
    return Landscape(values, offsets, offsets, (first, second))
