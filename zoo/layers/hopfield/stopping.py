"""By how much softmax associations change between two updates, a few samples at a time."""

import torch
from torch import Tensor

from zoo.layers.hopfield.maps import masked_softmax

# Scores made at a time: on a CPU they stay in its cache.
_BLOCK = 2**19
_BLOCK_ELSEWHERE = 2**26


@torch.no_grad()
def association_change(old: Tensor, new: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """Per head, (H, 1, 1), the largest Frobenius norm over the batch of softmax(new k^T + m) - softmax(old k^T + m).

    Shapes: old, new (B, H, L, D), k (B or 1, H, S, D), the mask has four axes that broadcast to (B, H, L, S).

    Args:
        old, new: states, scaled already.
        k: stored patterns.
        mask: added to the scores; None for none.
    """
    batch, heads, states, _ = new.shape
    stored = k.shape[2]
    largest = new.new_zeros(heads)
    if not batch * states * stored:
        return largest.view(-1, 1, 1)
    budget = _BLOCK if new.device.type == "cpu" else _BLOCK_ELSEWHERE
    step = max(budget // (heads * states * stored), 1)
    for start in range(0, batch, step):
        part = slice(start, start + step)
        keys, added = _part(k, part).transpose(-1, -2), None if mask is None else _part(mask, part)
        before, after = (_association(x[part], keys, added) for x in (old, new))
        change = after.sub_(before).flatten(2).norm(dim=-1).amax(0)
        largest = torch.maximum(largest, change.to(largest.dtype))
    return largest.view(-1, 1, 1)


def _part(x: Tensor, part: slice) -> Tensor:
    return x if x.shape[0] == 1 else x[part]


def _association(states: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    scores = states @ keys
    return torch.softmax(scores, -1) if mask is None else masked_softmax(scores.add_(mask))
