"""The Hopfield update as its equations say, with every association matrix in memory."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.layers.hopfield.maps import associate


class Associated(NamedTuple):
    """What an association gives.

    Attributes:
        result: what every state reads out, (batch, heads, states, value_dim).
        association: the last association before dropout, (batch, heads, states, stored), if it was asked for.
        counts: per head, how often the association was computed.
    """

    result: Tensor
    association: Tensor | None
    counts: tuple[int, ...]


def reference_association(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    *,
    num_updates: Sequence[int],
    tol: Sequence[float] | None = None,
    stop: str = "association",
    association: str = "softmax",
    alpha: Tensor | float | None = None,
    top: int | None = None,
    post: Callable[[Tensor], Tensor] | None = None,
    dropout_p: float = 0.0,
) -> Associated:
    """Associate states with stored patterns, again and again, and read the values out.

        A = p(beta q k^T + mask);   then, while a head has updates left and its last one changed something:
        q = post(A k),  A = p(beta q k^T + mask);   result = dropout(A) v

    See `hopfield_association` for arguments and shapes; `num_updates`, `beta` and `tol` are one a head here.
    """
    factor = beta.view(-1, 1, 1)
    if isinstance(alpha, Tensor):
        alpha = alpha.view(-1, 1, 1)

    def weights(states: Tensor) -> Tensor:
        scores = factor * (states @ k.transpose(-1, -2))
        return associate(scores if mask is None else scores + mask, association, alpha=alpha, k=top)

    def updated(A: Tensor) -> Tensor:
        return A @ k if post is None else post(A @ k)

    A = weights(q)
    if tol is None:
        for update in range(1, max(num_updates)):
            new = weights(updated(A))
            A = _where_heads([count > update for count in num_updates], new, A)
        return Associated(F.dropout(A, dropout_p) @ v, A, tuple(num_updates))
    counts = [1] * len(num_updates)
    limit = torch.tensor(num_updates, device=q.device).view(-1, 1, 1)
    smallest = torch.tensor(tol, device=q.device, dtype=torch.promote_types(q.dtype, torch.float32)).view(-1, 1, 1)
    active = limit > 1  # (H, 1, 1), or with stop="state" (B, H, L, 1)
    for update in range(1, max(num_updates)):
        states = updated(A)
        new = weights(states)
        going = active.expand(*A.shape[:3], 1).transpose(0, 1).flatten(1).any(1).tolist()
        counts = [count + on for count, on in zip(counts, going, strict=True)]
        changed = _change(A, new, q, states, stop)
        A, q = torch.where(active, new, A), torch.where(active, states, q)
        active = active & (limit > update + 1) & (changed > smallest)
        if not bool(active.any()):
            break
    return Associated(F.dropout(A, dropout_p) @ v, A, tuple(counts))


def _where_heads(going: list[bool], new: Tensor, old: Tensor) -> Tensor:
    """`new` for the heads that go on, without a tensor that says which."""
    if all(going):
        return new
    return torch.stack([(new if on else old)[:, head] for head, on in enumerate(going)], 1)


def _change(old: Tensor, new: Tensor, q: Tensor, states: Tensor, stop: str) -> Tensor:
    if not old.numel():
        return old.new_zeros(1, 1, 1)
    if stop == "association":
        return (new - old).detach().flatten(2).norm(dim=-1).amax(0).view(-1, 1, 1)
    moved = (states - q).detach().norm(dim=-1, keepdim=True)
    return moved / states.detach().norm(dim=-1, keepdim=True).clamp_min(torch.finfo(q.dtype).tiny)
