"""Sums over pairs of rows (see `min_sum`) by torch operations on blocks that fit a processor's cache."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS, _FEATURES = 16, 2048
_CPU_TRIPLES = 2**19  # 2 MB in float32
_OTHER_TRIPLES = 2**25


def sums(kind: str, a: Tensor, q: Tensor) -> Tensor:
    """(n, F), (m, F) -> (n, m)."""
    out = a.new_zeros(a.shape[0], q.shape[0])
    for i, j, k, block in _blocks(a, q):
        x, y = a[i, k].unsqueeze(1), q[j, k].unsqueeze(0)
        if kind == "min":
            torch.minimum(x, y, out=block)
        else:  # subtracted one by one: the two sums may be much larger than their difference
            torch.sub(y, F.silu(torch.sub(y, x, out=block), inplace=True), out=block)
        out[i, j] += block.sum(-1)
    return out


def gradients(kind: str, a: Tensor, q: Tensor, grad: Tensor, needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """Gradients of a (n, F) and q (m, F), where needed, for that of the sums (n, m)."""
    of_a = torch.zeros_like(a) if needed[0] else None
    through_q = torch.zeros_like(q) if needed[1] else None
    for i, j, k, block in _blocks(a, q):
        g = grad[i, j].unsqueeze(2)
        torch.sub(q[j, k].unsqueeze(0), a[i, k].unsqueeze(1), out=block)
        if kind == "min":
            block.sign_().mul_(g)  # 2 s - 1: a half at ties costs no further pass
        else:
            torch.ops.aten.silu_backward.grad_input(g, block, grad_input=block)
        if of_a is not None:
            of_a[i, k] += block.sum(1)
        if through_q is not None:
            through_q[j, k] += block.sum(0)
    if kind == "min":
        of_a = None if of_a is None else of_a.add_(grad.sum(1).unsqueeze(1)).mul_(0.5)
        through_q = None if through_q is None else through_q.add_(grad.sum(0).unsqueeze(1)).mul_(0.5)
    return of_a, None if through_q is None else through_q.neg_().add_(grad.sum(0).unsqueeze(1))


def _blocks(a: Tensor, q: Tensor) -> Iterator[tuple[slice, slice, slice, Tensor]]:
    """Ranges of rows of a, of rows of q and of features, and memory for their triples."""
    (n, features), m = a.shape, q.shape[0]
    wide = min(features, _FEATURES)
    pairs = max((_CPU_TRIPLES if a.device.type == "cpu" else _OTHER_TRIPLES) // wide, 1)
    across = min(m, max(pairs // min(n, _ROWS), 1))
    down = min(n, max(pairs // across, 1))
    memory = a.new_empty(down * across * wide)
    for i in range(0, n, down):
        for j in range(0, m, across):
            for k in range(0, features, wide):
                shape = (min(down, n - i), min(across, m - j), min(wide, features - k))
                block = memory[: shape[0] * shape[1] * shape[2]].view(shape)
                yield slice(i, i + down), slice(j, j + across), slice(k, k + wide), block
