"""The Hopfield update as its equations say, with every association matrix in memory."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from zoo.layers.hopfield.maps import associate
from zoo.layers.hopfield.updates import Held, moved, settle


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

    def step(_: Tensor, A: Tensor) -> Held:
        new = A @ k if post is None else post(A @ k)
        return new, weights(new)

    def changed(old: Held, new: Held, limit: Tensor) -> Tensor:
        return (moved(old[0], new[0]) if stop == "state" else _change(old[1], new[1])) > limit

    (_, A), counts = settle((q, weights(q)), step, changed, num_updates, tol)
    return Associated(F.dropout(A, dropout_p) @ v, A, counts)


def _change(old: Tensor, new: Tensor) -> Tensor:
    """Per head, (H, 1, 1), the largest Frobenius norm over the batch of the change."""
    if not old.numel():
        return old.new_zeros(1, 1, 1)
    return (new - old).detach().flatten(2).norm(dim=-1).amax(0).view(-1, 1, 1)
