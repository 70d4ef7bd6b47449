"""What states recall of bags of rows, block by block: the mean row under softmax, and the logarithm of its divisor.

    x^ = layer norm of a row, without scale and shift;   s_i = u . x^_i + mask_i
    lse = log sum_i exp(s_i),   p_i = exp(s_i - lse),   mean = sum_i p_i x^_i          for every direction u

A normed row is (row - m_i) r_i with its mean and inverse spread, found once a call: so only the m are taken from the
rows of a block, and its scores get the r. No score of more than a block is kept. The backward pass goes through the
blocks again, from the rows, lse and mean alone: with g the gradient of the mean and h that of lse,

    ds_i = p_i (g . x^_i - g . mean + h),   du = sum_i ds_i x^_i,   dx^_i = sum (ds_i u + p_i g)   over the directions.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.eager import must_compose, no_autocast
from zoo.layers.hopfield.bags import Block, EqualBags, RaggedBags, rows_of_block
from zoo.layers.hopfield.normed import Moments, NormedRows, centred, working_dtype

Bags = EqualBags | RaggedBags


def associated_means(normed: NormedRows, directions: Tensor, bags: Bags) -> tuple[Tensor, Tensor]:
    """The means and lse of every bag and direction; of a bag without rows 0 and -inf.

    Shapes: rows (N, d), directions (bags or 1, M, d) -> means (bags, M, d), lse (bags, M).

    Args:
        normed: the rows of all bags, one behind the other.
        directions: what the normed rows are compared with.
        bags: which rows are whose, and masks.

    Returns:
        In float32, or float64 where the rows are.
    """
    rows = normed.rows
    if must_compose(rows, directions):
        return _composed(rows, directions, bags, normed.eps)
    with no_autocast(rows):
        directions = directions.to(working_dtype(rows))
        if not torch.is_grad_enabled():
            return _forward(rows, normed.moments, directions, bags)
        return _Means.apply(rows, directions, bags, normed)  # pyright: ignore[reportReturnType]


@torch.no_grad()
def squared_change(
    normed: NormedRows,
    old: tuple[Tensor, Tensor],
    new: tuple[Tensor, Tensor],
    bags: Bags,
    enough: Callable[[Tensor], bool],
) -> Tensor:
    """The squared change of all associations exp(u . x^_i + mask_i - z) of a bag and direction, (bags, M).

    Args:
        normed, bags: as `associated_means`.
        old, new: directions u (bags or 1, M, d) and z (bags, M), before and after.
        enough: whether the change of some of the rows will do; asked after every block.
    """
    rows, many = normed.rows, old[0].shape[1]
    with no_autocast(rows):
        both = torch.cat([u.to(working_dtype(rows)).expand(bags.count, -1, -1) for u, _ in (old, new)], 1)
        divisors = [_finite(z).unsqueeze(-1) for _, z in (old, new)]
        total = both.new_zeros(bags.count, many)
        for block in bags.blocks(rows_of_block(rows, 2 * many)):
            scores = _scores(both[block.bags], *centred(rows, normed.moments, block))
            before, after = (
                _masked(part, block).sub_(z[block.bags]).exp_()
                for part, z in zip(scores.split(many, 1), divisors, strict=True)
            )
            total[block.bags] += after.sub_(before).square_().sum(-1)
            if enough(total):
                break
        return total


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


def _forward(rows: Tensor, moments: Moments | None, directions: Tensor, bags: Bags) -> tuple[Tensor, Tensor]:
    _, many, width = directions.shape
    means = directions.new_zeros(bags.count, many, width)
    lse = directions.new_full((bags.count, many), -torch.inf)
    for block in bags.blocks(rows_of_block(rows, many)):
        x, inverse_std = centred(rows, moments, block)
        scores = _masked(_scores(_of(directions, block), x, inverse_std), block)
        top = _finite(scores.amax(-1, keepdim=True))
        weights = scores.sub_(top).exp_()
        total = weights.sum(-1, keepdim=True)
        weights = weights if inverse_std is None else weights.mul_(inverse_std)
        mean = (weights @ x).div_(total.clamp_min(torch.finfo(total.dtype).tiny))
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
    def forward(ctx: Any, rows: Tensor, directions: Tensor, bags: Bags, normed: NormedRows) -> tuple[Tensor, Tensor]:
        means, lse = _forward(rows, normed.moments, directions, bags)
        ctx.save_for_backward(rows, directions, means, lse)
        ctx.bags, ctx.eps = bags, normed.eps
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
    moments = NormedRows(rows, eps).moments
    grad, grad_lse = grads
    many = directions.shape[1]
    shift = (grad * means).sum(-1, keepdim=True) - grad_lse.unsqueeze(-1)
    normaliser = _finite(lse).unsqueeze(-1)
    # u and g on top of each other: one product gives the scores and g . x^, one more the gradient of a row.
    pairs = torch.cat([directions.expand_as(grad), grad], 1)
    # The layer norm takes the mean over the width out of the gradient of a row.
    level = pairs if moments is None else pairs - pairs.mean(-1, keepdim=True)
    grad_rows = torch.empty_like(rows) if needed[0] else None
    grad_directions = torch.zeros_like(directions) if needed[1] else None
    for block in bags.blocks(rows_of_block(rows, many)):
        x, inverse_std = centred(rows, moments, block)
        products = _scores(pairs[block.bags], x, inverse_std)
        scores, along = products[:, :many], products[:, many:]
        weights = _masked(scores, block, copy=True).sub_(normaliser[block.bags]).exp_()
        inward = None
        if grad_rows is not None and inverse_std is not None:
            inward = _inward(scores, along, weights, shift[block.bags])
        torch.mul(along.sub_(shift[block.bags]), weights, out=scores)
        along.copy_(weights)
        if inverse_std is not None:
            products.mul_(inverse_std)
        if grad_directions is not None:
            change = scores @ x
            if directions.shape[0] == 1:
                grad_directions += change.sum(0)
            else:
                grad_directions[block.bags] += change
        if grad_rows is not None:
            along_row = None
            if inverse_std is not None and inward is not None:
                along_row = inward.mul_(inverse_std.square().transpose(1, 2)).div_(-x.shape[-1])
            _write_gradient(grad_rows, block, products, level[block.bags], x, along_row)
    return grad_rows, grad_directions


def _inward(scores: Tensor, along: Tensor, weights: Tensor, shift: Tensor) -> Tensor:
    """Mean over the width of (gradient of a normed row) * (that row), (bags, length, 1), but for 1 / width."""
    parts = (along - shift).mul_(scores).add_(along).mul_(weights)
    return parts.sum(1).unsqueeze(-1)


def _write_gradient(
    grad_rows: Tensor, block: Block, products: Tensor, pairs: Tensor, x: Tensor, along_row: Tensor | None
) -> None:
    """The gradient of the rows of a block: [ds; p] with the pairs [u; g] of all directions, and so much of the row."""
    index = block.rows
    here = grad_rows[index].unflatten(0, block.shape) if isinstance(index, slice) else None
    target = here if here is not None and here.dtype == products.dtype else None
    if along_row is None:
        found = torch.bmm(products.transpose(1, 2), pairs, out=target)
    else:
        found = torch.baddbmm(x.mul_(along_row), products.transpose(1, 2), pairs, out=target)
    if isinstance(index, slice):
        if here is not None and target is None:
            here.copy_(found)
        return
    found = found.flatten(0, 1).to(grad_rows.dtype)
    if block.within is not None:
        found, index = found.index_select(0, block.within), index[block.within]
    grad_rows.index_copy_(0, index, found)


def _scores(directions: Tensor, x: Tensor, inverse_std: Tensor | None) -> Tensor:
    """Of directions with the normed rows of a block, (bags, directions, length)."""
    scores = directions @ x.transpose(1, 2)
    return scores if inverse_std is None else scores.mul_(inverse_std)


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
