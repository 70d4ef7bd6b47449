"""Whether softmax associations changed between two updates, from states alone, a few samples at a time."""

import torch
from torch import Tensor

from zoo.layers.hopfield.maps import masked_softmax

# Scores made at a time: on a CPU they stay in its cache.
_BLOCK = 2**19
_BLOCK_ELSEWHERE = 2**26


@torch.no_grad()
def association_changed(old: Tensor, new: Tensor, k: Tensor, mask: Tensor | None, limit: Tensor) -> Tensor:
    """Per head, whether for some sample the Frobenius norm of softmax(new k^T + m) - softmax(old k^T + m) exceeds it.

    Samples are looked at until all heads have one, so that the test is cheap as long as everything changes.

    Shapes: old, new (B, H, L, D), k (B or 1, H, S, D), the mask has four axes that broadcast to (B, H, L, S), limit
    (H, 1, 1) -> (H, 1, 1).

    Args:
        old, new: states, scaled already.
        k: stored patterns.
        mask: added to the scores; None for none.
        limit: of each head.
    """
    batch, heads, states, _ = new.shape
    found = limit < 0
    budget = _BLOCK if new.device.type == "cpu" else _BLOCK_ELSEWHERE
    step = max(budget // max(heads * states * k.shape[2], 1), 1)
    for start in range(0, batch, step):
        if bool(found.all()):
            break
        part = slice(start, start + step)
        keys, added = _part(k, part).transpose(-1, -2), None if mask is None else _part(mask, part)
        before, after = (_association(x[part], keys, added) for x in (old, new))
        norm = after.sub_(before).flatten(2).norm(dim=-1)
        found = found | (norm.unsqueeze(-1).unsqueeze(-1) > limit).any(0)
    return found


def _part(x: Tensor, part: slice) -> Tensor:
    return x if x.shape[0] == 1 else x[part]


def _association(states: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    scores = states @ keys
    return torch.softmax(scores, -1) if mask is None else masked_softmax(scores.add_(mask))
