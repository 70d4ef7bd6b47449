"""Contrast model with substractmatch, of product or min: sums of the smaller measures, without keeping them.

With M = min(Ia, Ib) of the two measures of the common features and s the sums of the positive measures,

    product:  S = theta a+ q+^T + (alpha + beta) M - alpha s_a - beta s_q,
    min:      S = (theta + alpha + beta) M - alpha s_a - beta s_q.

M has the gradient of Ia where Ia <= Ib, else that of Ib: kept for the backward pass are A, Q and one byte a result.
The passes go over blocks of prototypes, or of inputs where those are more, as in `lifted`.
"""

from typing import Any

import torch
from torch import Tensor

from zoo.eager import no_autocast
from zoo.layers.tversky.blocks import accumulate, block_spans, dense, keep_present_, summing_dtype
from zoo.layers.tversky.composed import composed_similarity, present


def matched_similarity(A: Tensor, Q: Tensor, theta: Tensor, alpha: Tensor, beta: Tensor, intersection: str) -> Tensor:
    """Similarity of every input to every prototype; intersection is "product" or "min".

    Shapes: A (n, F), Q (m, F) -> (n, m).
    """
    product = intersection == "product"
    if torch.is_grad_enabled():
        return _MatchedSimilarity.apply(A, Q, theta, alpha, beta, product)  # pyright: ignore[reportReturnType]
    return _forward(A, Q, theta, alpha, beta, product, None)


class _MatchedSimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, A: Tensor, Q: Tensor, theta: Tensor, alpha: Tensor, beta: Tensor, product: bool) -> Tensor:
        whole_less = torch.empty(A.shape[0], Q.shape[0], dtype=torch.int8, device=A.device)
        out = _forward(A, Q, theta, alpha, beta, product, whole_less)
        ctx.save_for_backward(A, Q, theta, alpha, beta, whole_less)
        ctx.product = product
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,) = grads
        *inputs, whole_less = ctx.saved_tensors
        A, Q, theta, alpha, beta = inputs
        needed, product = ctx.needs_input_grad[:5], ctx.product
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
            out = composed_similarity(
                A, Q, theta, alpha, beta, "contrast", "product" if product else "min", "substractmatch"
            )
            found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
            return (*(next(found) if need else None for need in needed), None)
        grad = dense(grad)
        with no_autocast(A):
            if A.shape[0] > Q.shape[0]:
                turned = [needed[i] for i in (1, 0, 2, 4, 3)]
                dq, da, dtheta, dbeta, dalpha = _backward(
                    Q, A, theta, beta, alpha, product, whole_less.t(), grad.t(), turned
                )
            else:
                da, dq, dtheta, dalpha, dbeta = _backward(
                    A, Q, theta, alpha, beta, product, whole_less, grad, list(needed)
                )
        return da, dq, dtheta, dalpha, dbeta, None


def _forward(
    A: Tensor, Q: Tensor, theta: Tensor, alpha: Tensor, beta: Tensor, product: bool, whole_less: Tensor | None
) -> Tensor:
    out = A.new_empty(A.shape[0], Q.shape[0])
    with no_autocast(A):
        if A.shape[0] > Q.shape[0]:
            mask = None if whole_less is None else whole_less.t()
            _forward_blocks(Q, A, theta, beta, alpha, product, mask, out.t())
        else:
            _forward_blocks(A, Q, theta, alpha, beta, product, whole_less, out)
    return out


def _forward_blocks(
    A: Tensor,
    Q: Tensor,
    theta: Tensor,
    alpha: Tensor,
    beta: Tensor,
    product: bool,
    whole_less: Tensor | None,
    out: Tensor,
) -> None:
    """Write S to out, and where Ia <= Ib to whole_less: A is the side taken whole, Q the one in blocks."""
    a = torch.relu(A)
    in_a = present(a)
    weighted_sums = a.sum(1, keepdim=True) * alpha
    spans, longest = block_spans(Q, A.shape[0])
    buffer = torch.empty_like(Q[:longest])
    sums = A.new_empty(3, longest * A.shape[0])
    for span in spans:
        block, out_block = Q[span], out[:, span]
        side = buffer[: block.shape[0]]
        of_a, of_q, less = (some[: out_block.numel()].view(out_block.shape) for some in sums)
        torch.mm(a, torch.gt(block, 0, out=side).t(), out=of_a)
        torch.mm(in_a, torch.clamp(block, min=0, out=side).t(), out=of_q)
        if whole_less is not None:
            # By way of floats, and bytes rather than truth values: those are slow on a CPU.
            whole_less[:, span].copy_(torch.le(of_a, of_q, out=less))
        least = torch.minimum(of_a, of_q, out=of_a)
        least.mul_(alpha + beta if product else theta + alpha + beta)
        least.sub_(weighted_sums).sub_(side.sum(1) * beta)
        if product:
            torch.mm(a, side.mul_(theta).t(), out=out_block)
            out_block.add_(least)
        else:
            out_block.copy_(least)


def _backward(
    A: Tensor,
    Q: Tensor,
    theta: Tensor,
    alpha: Tensor,
    beta: Tensor,
    product: bool,
    whole_less: Tensor,
    grad: Tensor,
    needed: list[bool],
) -> tuple[Tensor | None, ...]:
    needs_a, needs_q, needs_scalars = needed[0], needed[1], any(needed[2:])
    a = torch.relu(A)
    in_a = present(a)
    weight = alpha + beta if product else theta + alpha + beta
    scaled_a = a * theta
    work = summing_dtype(A)
    through_product = A.new_zeros(A.shape, dtype=work) if product else None
    through_least = A.new_zeros(A.shape, dtype=work)
    row_sums = A.new_zeros(A.shape[0], 1, dtype=work)
    least_q = A.new_zeros((), dtype=work)  # <G, M> of the prototypes' measures
    sums_q = A.new_zeros((), dtype=work)  # <G, s_q>
    dq = torch.empty_like(Q) if needs_q else None
    spans, longest = block_spans(Q, A.shape[0])
    side_buffer, back_buffer = torch.empty_like(Q[:longest]), torch.empty_like(Q[:longest])
    grad_buffer = A.new_empty(longest * A.shape[0])
    for span in spans:
        block, grad_block = Q[span], grad[:, span]
        side, back = side_buffer[: block.shape[0]], back_buffer[: block.shape[0]]
        part = grad_buffer[: grad_block.numel()].view(grad_block.shape)
        torch.mul(grad_block, whole_less[:, span], out=part)
        if needs_a or needs_scalars:
            accumulate(through_least, part, torch.gt(block, 0, out=side))
            row_sums += grad_block.sum(1, keepdim=True, dtype=work)
        torch.clamp(block, min=0, out=side)
        if through_product is not None and (needs_a or needs_scalars):
            accumulate(through_product, grad_block, side)
        torch.mm(torch.sub(grad_block, part, out=part).t(), in_a, out=back)
        column_sums = grad_block.sum(0, dtype=work)
        if needs_scalars:
            least_q += torch.sum(back * side, dtype=work)
            sums_q += torch.dot(column_sums, side.sum(1, dtype=work))
        if dq is not None:
            back.mul_(weight).sub_((column_sums * beta).unsqueeze(1))
            if product:
                back.addmm_(grad_block.t(), scaled_a)
            dq[span] = keep_present_(back, block)
    dtheta = dalpha = dbeta = None
    if needs_scalars:
        least = torch.sum(a * through_least) + least_q
        common = least if through_product is None else torch.sum(a * through_product)
        dtheta = common.to(theta.dtype)
        dalpha = (least - torch.dot(row_sums.squeeze(1), a.sum(1, dtype=work))).to(alpha.dtype)
        dbeta = (least - sums_q).to(beta.dtype)
    if not needs_a:
        return None, dq, dtheta, dalpha, dbeta
    da = through_least.mul_(weight).sub_(row_sums * alpha)
    if through_product is not None:
        da.add_(through_product.mul_(theta))
    return keep_present_(da.to(A.dtype), A), dq, dtheta, dalpha, dbeta
