"""What states recall of bags of rows, block by block: the mean row under softmax, and the logarithm of its divisor.

    x^ = layer norm of a row, without scale and shift;   s_i = u . x^_i + mask_i
    lse = log sum_i exp(s_i),   p_i = exp(s_i - lse),   mean = sum_i p_i x^_i          for every direction u

No more of the rows than a block is ever normed, and no score of more than a block is kept. The backward pass goes
through the blocks again, from the rows, lse and mean alone: with g the gradient of the mean and h that of lse,

    ds_i = p_i (g . x^_i - g . mean + h),   du = sum_i ds_i x^_i,   dx^_i = sum (ds_i u + p_i g)   over the directions.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.layers.eager import must_compose, no_autocast
from zoo.layers.hopfield.bags import Block, EqualBags, RaggedBags, rows_of_block

Bags = EqualBags | RaggedBags


def associated_means(rows: Tensor, directions: Tensor, bags: Bags, eps: float | None) -> tuple[Tensor, Tensor]:
    """The means and lse of every bag and direction; of a bag without rows 0 and -inf.

    Shapes: rows (N, d), directions (bags or 1, M, d) -> means (bags, M, d), lse (bags, M).

    Args:
        rows: of all bags, one behind the other.
        directions: what the normed rows are compared with.
        bags: which rows are whose, and masks.
        eps: of the layer norm; None for no norm.

    Returns:
        In float32, or float64 where the rows are.
    """
    if must_compose(rows, directions):
        return _composed(rows, directions, bags, eps)
    with no_autocast(rows):
        directions = directions.to(working_dtype(rows))
        if not torch.is_grad_enabled():
            return _forward(rows, directions, bags, eps)
        return _Means.apply(rows, directions, bags, eps)  # pyright: ignore[reportReturnType]


@torch.no_grad()
def squared_change(
    rows: Tensor,
    old: tuple[Tensor, Tensor],
    new: tuple[Tensor, Tensor],
    bags: Bags,
    eps: float | None,
    enough: Callable[[Tensor], bool],
) -> Tensor:
    """The squared change of all associations exp(u . x^_i + mask_i - z) of a bag and direction, (bags, M).

    Args:
        rows, bags, eps: as `associated_means`.
        old, new: directions u (bags or 1, M, d) and z (bags, M), before and after.
        enough: whether the change of some of the rows will do; asked after every block.
    """
    with no_autocast(rows):
        both = [(u.to(working_dtype(rows)), _finite(z).unsqueeze(-1)) for u, z in (old, new)]
        total = rows.new_zeros(both[0][1].shape[:2], dtype=working_dtype(rows))
        for block in bags.blocks(rows_of_block(rows, directions=old[0].shape[1])):
            normed = _normed(rows, block, eps)[0].transpose(1, 2)
            before, after = (_masked(_of(u, block) @ normed, block).sub_(z[block.bags]).exp_() for u, z in both)
            total[block.bags] += after.sub_(before).square_().sum(-1)
            if enough(total):
                break
        return total


def working_dtype(rows: Tensor) -> torch.dtype:
    """In which scores and sums are computed."""
    return torch.float64 if rows.dtype == torch.float64 else torch.float32


def _composed(rows: Tensor, directions: Tensor, bags: Bags, eps: float | None) -> tuple[Tensor, Tensor]:
    """In torch operations that can be differentiated any number of times, with all scores in memory."""
    x, mask = bags.padded(rows.to(working_dtype(rows)))
    with no_autocast(rows):
        x = x if eps is None else F.layer_norm(x, x.shape[-1:], eps=eps)
        scores = directions.to(x.dtype) @ x.transpose(1, 2)
        if mask is not None:
            scores = scores + mask
        nothing = torch.isneginf(scores).all(-1, keepdim=True)
        scores = scores.masked_fill(nothing, 0)
        means = (scores.softmax(-1) @ x).masked_fill(nothing, 0)
        return means, scores.logsumexp(-1).masked_fill(nothing.squeeze(-1), -torch.inf)


def _forward(rows: Tensor, directions: Tensor, bags: Bags, eps: float | None) -> tuple[Tensor, Tensor]:
    _, many, width = directions.shape
    means = directions.new_zeros(bags.count, many, width)
    lse = directions.new_full((bags.count, many), -torch.inf)
    for block in bags.blocks(rows_of_block(rows, many)):
        normed = _normed(rows, block, eps)[0]
        scores = _masked(_of(directions, block) @ normed.transpose(1, 2), block)
        top = _finite(scores.amax(-1, keepdim=True))
        weights = scores.sub_(top).exp_()
        total = weights.sum(-1, keepdim=True)
        mean = (weights @ normed).div_(total.clamp_min(torch.finfo(total.dtype).tiny))
        here = total.log_().add_(top).squeeze(-1)
        if block.part:
            before = lse[block.bags]
            both = torch.logaddexp(before, here)
            share = (here - _finite(both)).exp_().unsqueeze(-1)
            mean = means[block.bags].mul_((before - _finite(both)).exp_().unsqueeze(-1)).add_(mean.mul_(share))
            here = both
        means[block.bags], lse[block.bags] = mean, here
    return means, lse


class _Means(torch.autograd.Function):
    """`associated_means`; keeps the rows, the directions and what it returns."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, directions: Tensor, bags: Bags, eps: float | None) -> tuple[Tensor, Tensor]:
        means, lse = _forward(rows, directions, bags, eps)
        ctx.save_for_backward(rows, directions, means, lse)
        ctx.bags, ctx.eps = bags, eps
        return means, lse

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        saved = ctx.saved_tensors  # read once: checkpointing hands each tensor out a single time
        rows, directions, _, _ = saved
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            found = _composed(rows, directions, ctx.bags, ctx.eps)
            inputs = [x for x, needed in zip((rows, directions), ctx.needs_input_grad, strict=False) if needed]
            parts = iter(torch.autograd.grad(found, inputs, grads, create_graph=True, materialize_grads=True))
            return (*(next(parts) if needed else None for needed in ctx.needs_input_grad[:2]), None, None)
        with no_autocast(rows):
            return (*_backward(grads, saved, ctx.bags, ctx.eps, ctx.needs_input_grad), None, None)


def _backward(
    grads: tuple[Tensor, ...], saved: tuple[Tensor, ...], bags: Bags, eps: float | None, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    rows, directions, means, lse = saved
    grad, grad_lse = grads
    many = directions.shape[1]
    shift = (grad * means).sum(-1, keepdim=True) - grad_lse.unsqueeze(-1)
    normaliser = _finite(lse).unsqueeze(-1)
    # u and g on top of each other: one product gives the scores and g . x^, one more the gradient of a row.
    pairs = torch.cat([directions.expand_as(grad), grad], 1)
    # The layer norm takes the mean over the width out of the gradient of a row.
    centred = pairs if eps is None else pairs - pairs.mean(-1, keepdim=True)
    grad_rows = torch.empty_like(rows) if needed[0] else None
    grad_directions = torch.zeros_like(directions) if needed[1] else None
    for block in bags.blocks(rows_of_block(rows, many)):
        normed, inverse_std = _normed(rows, block, eps)
        products = pairs[block.bags] @ normed.transpose(1, 2)
        scores, along = products[:, :many], products[:, many:]
        weights = _masked(scores, block, copy=True).sub_(normaliser[block.bags]).exp_()
        inward = None
        if grad_rows is not None and inverse_std is not None:
            inward = _inward(scores, along, weights, shift[block.bags])
        torch.mul(along.sub_(shift[block.bags]), weights, out=scores)
        along.copy_(weights)
        if grad_directions is not None:
            change = scores @ normed
            if directions.shape[0] == 1:
                grad_directions += change.sum(0)
            else:
                grad_directions[block.bags] += change
        if grad_rows is not None:
            _write_gradient(grad_rows, block, products, centred[block.bags], normed, inverse_std, inward)
    return grad_rows, grad_directions


def _inward(scores: Tensor, along: Tensor, weights: Tensor, shift: Tensor) -> Tensor:
    """Mean over the width of (gradient of a normed row) * (that row), (bags, length, 1), but for 1 / width."""
    parts = (along - shift).mul_(scores).add_(along).mul_(weights)
    return parts.sum(1).unsqueeze(-1)


def _write_gradient(
    grad_rows: Tensor,
    block: Block,
    products: Tensor,
    pairs: Tensor,
    normed: Tensor,
    inverse_std: Tensor | None,
    inward: Tensor | None,
) -> None:
    """The gradient of the rows of a block, from [ds; p] and the pairs [u; g] of all directions."""
    index = block.rows
    here = grad_rows[index].unflatten(0, block.shape) if isinstance(index, slice) else None
    target = here if here is not None and here.dtype == products.dtype else None
    if inverse_std is None or inward is None:
        found = torch.bmm(products.transpose(1, 2), pairs, out=target)
    else:
        along_row = inward.mul_(inverse_std).div_(-normed.shape[-1])
        products.mul_(inverse_std.transpose(1, 2))
        found = torch.baddbmm(normed * along_row, products.transpose(1, 2), pairs, out=target)
    if isinstance(index, slice):
        if here is not None and target is None:
            here.copy_(found)
        return
    found = found.flatten(0, 1).to(grad_rows.dtype)
    if block.within is not None:
        found, index = found.index_select(0, block.within), index[block.within]
    grad_rows.index_copy_(0, index, found)


def _normed(rows: Tensor, block: Block, eps: float | None) -> tuple[Tensor, Tensor | None]:
    """The rows of a block, normed, (bags, length, width), and the inverse of their spread."""
    here = rows[block.rows] if isinstance(block.rows, slice) else rows.index_select(0, block.rows)
    x = here.to(working_dtype(rows)).unflatten(0, block.shape)
    if eps is None:
        return x, None
    normed, _, inverse_std = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
    return normed, inverse_std


def _of(directions: Tensor, block: Block) -> Tensor:
    """The directions of the bags of a block, or those of all bags."""
    return directions if directions.shape[0] == 1 else directions[block.bags]


def _masked(scores: Tensor, block: Block, *, copy: bool = False) -> Tensor:
    if block.mask is None:
        return scores.clone() if copy else scores
    return scores + block.mask if copy else scores.add_(block.mask)


def _finite(lse: Tensor) -> Tensor:
    """0 in place of -inf, so that nothing minus nothing is nothing."""
    return lse.masked_fill(torch.isneginf(lse), 0)
