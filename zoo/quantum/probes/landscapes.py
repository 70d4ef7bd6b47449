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
    batched: bool = False,
) -> Landscape:
    """A loss or an expectation around some weights, over two of them.

    Args:
        function: weights of the shape of `weights` -> one number, such as a loss over some data.
        weights: the middle.
        places: which two weights change.
        span: they change by up to that much in both directions.
        steps: in each direction, at least 2.
        batched: `function` is of (n, W) weights and gives (n,) numbers, which is faster: for circuits, such as
            `lambda w: circuit.expval("Z0", w)`.

    Raises:
        ValueError: a place that is not there, twice the same, too few steps, a function of several values.
    """
    count = weights.numel()
    first, second = places
    if not (0 <= first < count and 0 <= second < count and first != second):
        raise ValueError(f"places must be two different weights of 0..{count - 1}, got {places}")
    if steps < 2:
        raise ValueError(f"steps must be at least 2, got {steps}")
    offsets = torch.linspace(-span, span, steps, dtype=weights.dtype, device=weights.device)
    middle = weights.detach().flatten()
    rows = []
    with torch.no_grad():
        for a in offsets:
            moved = middle.repeat(steps, 1)
            moved[:, first] += a
            moved[:, second] += offsets
            found = function(moved) if batched else torch.stack([function(one.view_as(weights)) for one in moved])
            if tuple(found.shape) != (steps,):
                raise ValueError(f"function must give one number, got the shape {tuple(found.shape[1 - batched :])}")
            rows.append(found.double())
    values = torch.stack(rows).cpu()
    return Landscape(values, offsets.cpu(), offsets.cpu(), (first, second))
