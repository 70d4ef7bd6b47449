"""The Hopfield layer as the authors' algorithm has it: what the benchmarks compare with."""

import torch
from torch import Tensor, nn

from zoo.layers.hopfield import Hopfield


def by_matrices(
    layer: Hopfield, stored: Tensor, state: Tensor, values: Tensor, padding_mask: Tensor | None = None
) -> Tensor:
    """Softmax association with projections and association matrices in memory, and a test after every update.

    Laid out as torch's multi-head attention, from which the authors' layer descends: (length, batch, width), with the
    heads as a batch of matrices. The three inputs are compared by value, normed and projected each by itself. After an
    update a head whose association changed by no more than tol in any sample keeps it.

    Shapes: stored, values (B, S, d), state (B, L, d), padding_mask (B, S) with True for what is to be ignored ->
    (B, L, out_dim).
    """
    heads, batch = layer.num_heads, stored.shape[0]
    for one, other in ((stored, state), (stored, values), (state, values)):
        torch.equal(one, other)
    q = _heads(state, layer.norm_state, layer.proj_state, heads)
    k = _heads(stored, layer.norm_stored, layer.proj_stored, heads)
    v = _heads(values, layer.norm_value, layer.proj_value, heads)
    beta = layer.inverse_temperature().repeat(batch).view(-1, 1, 1)
    mask = None if padding_mask is None else padding_mask.repeat_interleave(heads, 0).unsqueeze(1)

    def associate(states: Tensor) -> Tensor:
        scores = torch.bmm(states * beta, k.transpose(1, 2))
        return torch.softmax(scores if mask is None else scores.masked_fill(mask, -torch.inf), -1)

    association = associate(q)
    most = torch.tensor(layer.num_updates, device=q.device)
    limit = torch.tensor(layer.tol or (0.0,), device=q.device)
    update, active = 1, most > 1
    while bool(active.any()):
        new = associate(torch.bmm(association, k))
        update += 1
        with torch.no_grad():
            change = (new - association).flatten(1).norm(dim=1).view(batch, heads).amax(0)
        association = torch.where(active.repeat(batch).view(-1, 1, 1), new, association)
        active = active & (most > update) & (change > limit)
    result = torch.bmm(association, v).transpose(0, 1).reshape(state.shape[1], batch, -1)
    return (result if layer.out_proj is None else layer.out_proj(result)).transpose(0, 1)


def _heads(x: Tensor, norm: nn.Module | None, projection: nn.Module | None, heads: int) -> Tensor:
    """(B, L, d) -> (B H, L, D)."""
    x = (x if norm is None else norm(x)).transpose(0, 1)
    x = x if projection is None else projection(x)
    return x.reshape(x.shape[0], -1, x.shape[2] // heads).transpose(0, 1)
