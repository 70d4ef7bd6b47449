"""The Hopfield layer as the authors' algorithm has it: what the benchmarks compare with."""

import torch
from torch import Tensor

from zoo.layers.hopfield import Hopfield


def by_matrices(
    layer: Hopfield, stored: Tensor, state: Tensor, values: Tensor, padding_mask: Tensor | None = None
) -> Tensor:
    """Softmax association with projections and association matrices in memory, and a test after every update.

    The three inputs are compared by value, normed and projected each by itself; heads are batches of matrices of their
    own. After an update a head whose association changed by no more than tol in any sample keeps it from then on.

    Shapes: stored, values (B, S, d), state (B, L, d), padding_mask (B, S) with True for what is to be ignored ->
    (B, L, out_dim).
    """
    heads, batch = layer.num_heads, stored.shape[0]
    for one, other in ((stored, state), (stored, values), (state, values)):
        torch.equal(one, other)
    given = (
        (layer.norm_state, layer.proj_state, state),
        (layer.norm_stored, layer.proj_stored, stored),
        (layer.norm_value, layer.proj_value, values),
    )
    q, k, v = (_heads(linear(norm(x)), heads) for norm, linear, x in given if norm is not None and linear is not None)
    beta = layer.inverse_temperature().repeat(batch).view(-1, 1, 1)
    mask = None
    if padding_mask is not None:
        mask = padding_mask.repeat_interleave(heads, 0).unsqueeze(1)

    def associate(states: Tensor) -> Tensor:
        scores = torch.bmm(states * beta, k.transpose(1, 2))
        return torch.softmax(scores if mask is None else scores.masked_fill(mask, -torch.inf), -1)

    association = associate(q)
    limit = torch.tensor(layer.tol or (0.0,), device=q.device)
    active = torch.tensor(layer.num_updates, device=q.device) > 1
    update = 1
    while bool(active.any()):
        going = active.repeat(batch).view(-1, 1, 1)
        new = associate(torch.bmm(association, k))
        with torch.no_grad():
            change = (new - association).flatten(1).norm(dim=1).view(batch, heads).amax(0)
        association = torch.where(going, new, association)
        update += 1
        active = active & (torch.tensor(layer.num_updates, device=q.device) > update) & (change > limit)
    result = torch.bmm(association, v).unflatten(0, (batch, heads)).transpose(1, 2).flatten(2)
    return result if layer.out_proj is None else layer.out_proj(result)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, L, H D) -> (B H, L, D)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2).reshape(-1, x.shape[1], x.shape[2] // heads)
