"""The fast path: dense attention of tiles of queries to the run of keys that holds all their windows.

Gathering the run of a tile once serves all its queries, where the definition gathers K keys per axis for each of them.
For training only q, k, v and the position bias are kept; the backward pass gathers and attends again. (Not so under
``torch.compile``, function transforms and weight dropout: there autograd keeps what it likes.)
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from zoo.eager import no_autocast
from zoo.layers.neighborhood.plan import Plan, build_plan, tile_plan, tile_sizes
from zoo.layers.neighborhood.windows import Windows

# Bytes to work on at a time: on a CPU what stays in its cache, elsewhere what is worth a kernel launch.
_CPU_BUDGET = 1 << 20
_BUDGET = 1 << 28


def tile_attention(
    q: Tensor, k: Tensor, v: Tensor, windows: Windows, bias: Tensor | None, scale: float, dropout_p: float = 0.0
) -> Tensor:
    """softmax(scale q k + bias) v over the window of every query; (B, *spatial, heads, d) in and out."""
    spatial = q.shape[1:-2]
    tile = tile_sizes(spatial, windows)
    inputs = [q, k, v] if bias is None else [q, k, v, bias]
    with no_autocast(q):
        if _is_symbolic(q):
            plan = build_plan(spatial, windows, tile, q.device)
            return composed_attention(q, k, v, bias, plan, scale, dropout_p)
        plan = tile_plan(spatial, windows, tile, q.device)
        if dropout_p > 0.0 or torch._C._are_functorch_transforms_active() or any(map(_is_dual, inputs)):
            return composed_attention(q, k, v, bias, plan, scale, dropout_p)
        return _TileAttention.apply(q, k, v, bias, plan, scale)


def composed_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, plan: Plan, scale: float, dropout_p: float = 0.0
) -> Tensor:
    """All tiles at once, in operations that autograd, compilers and transforms take apart themselves."""
    queries = q.flatten(1, -3)[:, plan.queries].transpose(2, 3)
    keys = k.flatten(1, -3)[:, plan.keys].transpose(2, 3)
    values = v.flatten(1, -3)[:, plan.keys].transpose(2, 3)
    scores = ((queries * scale) @ keys.transpose(-1, -2)).to(_exact(q.dtype))
    table = mask_table(bias, plan, scores)
    if table is not None:
        scores = scores + table[:, plan.table].transpose(0, 1)
    weights = F.dropout(scores.softmax(-1), dropout_p, dropout_p > 0.0).to(q.dtype)
    out = (weights @ values).transpose(2, 3).flatten(1, 2)
    return out[:, plan.slot].reshape(*q.shape[:-1], v.shape[-1])


def mask_table(bias: Tensor | None, plan: Plan, like: Tensor) -> Tensor | None:
    """(heads or 1, tables, t, R): what a tile adds to its scores, -inf for keys outside the window; None if nothing."""
    if bias is None and not plan.masked:
        return None
    values = like.new_zeros(1, plan.entries) if bias is None else bias.flatten(1).to(like.dtype)
    values = torch.cat([values, like.new_full((values.shape[0], 1), float("-inf"))], 1)
    return values.index_select(1, plan.offsets.flatten()).unflatten(1, plan.offsets.shape)


class _TileAttention(torch.autograd.Function):
    """Attention that keeps its inputs only, and attends again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, plan: Plan, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v, bias)
        ctx.plan, ctx.scale = plan, scale
        heads = q.shape[-2]
        rows = [tokens.flatten(0, -3).flatten(-2) for tokens in (q, k, v)]
        out = q.new_zeros(rows[0].shape[0], heads * v.shape[-1])
        table = mask_table(bias, plan, q)
        if table is not None:
            table = table.transpose(0, 1).contiguous()
        for queries, keys, owned, shapes in _chunks(plan, q):
            parts = zip(rows, (queries, keys, keys), strict=True)
            tile_q, tile_k, tile_v = (_gather(tokens, index, heads).transpose(1, 2) for tokens, index in parts)
            mask = table
            if table is not None and table.shape[0] > 1:
                mask = table.index_select(0, shapes)
            attended = F.scaled_dot_product_attention(tile_q, tile_k, tile_v, attn_mask=mask, scale=scale)
            attended = attended.transpose(1, 2).flatten(2)
            if owned is not None:
                attended = attended * owned.unsqueeze(-1)
            out.index_add_(0, queries.flatten(), attended.flatten(0, 1))
        return out.view(*q.shape[:-1], v.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias = ctx.saved_tensors
        with no_autocast(q):
            if torch.is_grad_enabled():  # a second derivative is wanted
                return (*_differentiable_grads(ctx, grad), None, None)
            return (*_grads(q, k, v, bias, grad, ctx.plan, ctx.scale), None, None)


def _grads(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, grad: Tensor, plan: Plan, scale: float
) -> list[Tensor | None]:
    """With S = scale q k + bias, P = softmax(S), out = P v:  dv = P' dout,  dP = dout v',
    dS = P (dP - sum(P dP)),  dq = scale dS k,  dk = scale dS' q,  dbias = dS summed over tiles and images."""
    heads, exact = q.shape[-2], _exact(q.dtype)
    rows = [tokens.flatten(0, -3).flatten(-2) for tokens in (q, k, v, grad)]
    grads = [q.new_zeros(heads, rows[0].shape[0], tokens.shape[-1], dtype=exact) for tokens in (q, k, v)]
    table = mask_table(bias, plan, q.new_empty(0, dtype=exact))
    grad_table = None if bias is None or table is None else torch.zeros_like(table)
    for queries, keys, owned, shapes in _chunks(plan, q):
        parts = zip(rows, (queries, keys, keys, queries), strict=True)
        tile_q, tile_k, tile_v, tile_out = (_gather(tokens, index, heads).to(exact) for tokens, index in parts)
        if owned is not None:
            tile_out = tile_out * owned[:, :, None, None]
        for head in range(heads):
            one_q, one_k, one_v, one_out = (tile[:, :, head] for tile in (tile_q, tile_k, tile_v, tile_out))
            if table is None:
                scores = torch.bmm(one_q, one_k.transpose(1, 2)).mul_(scale)
            else:
                scores = table[head % table.shape[0]].index_select(0, shapes)
                scores.baddbmm_(one_q, one_k.transpose(1, 2), alpha=scale)
            weights = torch.softmax(scores, -1)
            back_weights = torch.bmm(one_out, one_v.transpose(1, 2))
            back_scores = torch.ops.aten._softmax_backward_data(back_weights, weights, -1, exact)
            if grad_table is not None:
                grad_table[head].index_add_(0, shapes, back_scores)
            grads[0][head].index_add_(0, queries.flatten(), torch.bmm(back_scores, one_k).flatten(0, 1))
            grads[1][head].index_add_(0, keys.flatten(), torch.bmm(back_scores.transpose(1, 2), one_q).flatten(0, 1))
            grads[2][head].index_add_(0, keys.flatten(), torch.bmm(weights.transpose(1, 2), one_out).flatten(0, 1))
    grads[0].mul_(scale)
    grads[1].mul_(scale)
    grad_bias = None
    if bias is not None and grad_table is not None:
        sums = grad_table.new_zeros(heads, plan.entries + 1)
        sums.index_add_(1, plan.offsets.flatten(), grad_table.flatten(1))
        grad_bias = sums[:, :-1].reshape(bias.shape).to(bias.dtype)
    shaped = zip(grads, (q, k, v), strict=True)
    return [*(found.transpose(0, 1).to(tokens.dtype).reshape(tokens.shape) for found, tokens in shaped), grad_bias]


def _differentiable_grads(ctx: Any, grad: Tensor) -> list[Tensor | None]:
    q, k, v, bias = inputs = ctx.saved_tensors
    out = composed_attention(q, k, v, bias, ctx.plan, ctx.scale)
    wanted = [tensor for tensor, needed in zip(inputs, ctx.needs_input_grad, strict=False) if needed]
    found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
    return [next(found) if needed else None for needed in ctx.needs_input_grad[: len(inputs)]]


def _chunks(plan: Plan, q: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor | None, Tensor]]:
    """A few of the tiles of all images at a time: query rows, key rows, ownership, table."""
    batch, tokens = q.shape[0], plan.slot.numel()
    image = torch.arange(batch, device=q.device)[:, None, None] * tokens
    slots = plan.queries.shape[1], plan.keys.shape[1]
    bytes_each = 4 * 2 * (slots[0] * slots[1] + sum(slots) * q.shape[-1])  # scores and tokens, and their gradients
    together = max(1, (_CPU_BUDGET if q.device.type == "cpu" else _BUDGET) // bytes_each)
    queries = (plan.queries + image).flatten(0, 1).split(together)
    keys = (plan.keys + image).flatten(0, 1).split(together)
    tables = plan.table.repeat(batch).split(together)
    owned = (None,) * len(queries) if plan.owned is None else plan.owned.repeat(batch, 1).split(together)
    yield from zip(queries, keys, owned, tables, strict=True)


def _gather(rows: Tensor, index: Tensor, heads: int) -> Tensor:
    """Rows as (tiles, slots, heads, d)."""
    return rows.index_select(0, index.flatten()).view(*index.shape, heads, rows.shape[1] // heads)


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The type for sums over a window: half precision is for the tokens only."""
    return torch.promote_types(dtype, torch.float32)


def _is_symbolic(tensor: Tensor) -> bool:
    """Under a tracer, on the meta device, or no plain tensor: there a plan can be neither kept nor looked up."""
    plain = type(tensor) is Tensor or type(tensor) is torch.nn.Parameter
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or tensor.device.type == "meta" or not plain


def _is_dual(tensor: Tensor) -> bool:
    return unpack_dual(tensor).tangent is not None
