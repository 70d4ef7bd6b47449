"""What the hand-written passes of the set level share: blocks of prototypes, and sums in enough precision."""

from collections.abc import Iterable

import torch
from torch import Tensor

_BLOCK_ELEMENTS = 2**20  # of a block of prototypes' features, or of its columns of the result, on a CPU
_SHORTEST = 256  # rows of a block: fewer make the matrix products slow


def block_spans(Q: Tensor, inputs: int) -> tuple[Iterable[slice], int]:
    """Spans of rows of Q (m, F) that go with `inputs` rows of A at a time, and the length of the longest."""
    count, features = Q.shape
    budget = _BLOCK_ELEMENTS if Q.device.type == "cpu" else 64 * _BLOCK_ELEMENTS
    step = max(budget // max(inputs, features, 1), _SHORTEST)
    return (slice(start, min(start + step, count)) for start in range(0, count, step)), min(step, count)


def summing_dtype(x: Tensor) -> torch.dtype:
    """Half precision is summed over blocks in float32."""
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def accumulate(total: Tensor, x: Tensor, y: Tensor) -> None:
    """total += x @ y, in the precision of total."""
    if total.dtype == x.dtype:
        total.addmm_(x, y)
    else:
        total.add_(torch.mm(x, y))


def keep_present_(grad: Tensor, measure: Tensor) -> Tensor:
    """Set to 0, in place, the gradients of measures that are not above 0."""
    return torch.ops.aten.threshold_backward.grad_input(grad, measure, 0, grad_input=grad)


def dense(grad: Tensor) -> Tensor:
    """The gradient with columns or rows side by side in memory, as matrix products want it."""
    return grad if grad.is_contiguous() or grad.t().is_contiguous() else grad.contiguous()
