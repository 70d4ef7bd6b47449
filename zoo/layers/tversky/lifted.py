"""Contrast model, product and ignorematch: a linear map of lifted inputs.

With n the indicators of the features that are absent,

    S = theta a+ q+ - alpha a+ n_q - beta n_a q+ = [a+, n_a] . [theta q+ - alpha n_q, -beta q+],

so one matrix product gives S, without the difference of two large sums. For G = dL/dS and [U, N] = G [q+, n_q]

    dA = theta U - alpha N        where A > 0,        dtheta = <a+, U>,   dalpha = -<a+, N>,
    dQ = G^T (theta a+ - beta n_a)  where Q > 0,        dbeta = -<n_a, U>.

All of it is made again from A and Q, a block of prototypes at a time. Where there are more inputs than prototypes
the blocks are of inputs: S transposed is the same function with A and Q, and alpha and beta, exchanged.
"""

from typing import Any

import torch
from torch import Tensor

from zoo.eager import no_autocast
from zoo.layers.tversky.blocks import accumulate, block_spans, dense, keep_present_, summing_dtype
from zoo.layers.tversky.composed import composed_similarity, present


def lift_inputs(A: Tensor) -> Tensor:
    """[a+, n_a], shape (..., 2 F)."""
    a = torch.relu(A)
    return torch.cat([a, 1 - present(a)], -1)


def lift_prototypes(Q: Tensor, theta: Tensor, alpha: Tensor, beta: Tensor, out: Tensor) -> Tensor:
    """[theta q+ - alpha n_q, -beta q+] of prototypes (P, F), written to out (P, 2 F)."""
    features = Q.shape[-1]
    ours, theirs = out[:, :features], out[:, features:]
    write_difference(Q, theta, alpha, ours, theirs)
    torch.clamp(Q, min=0, out=theirs).mul_(-beta)
    return out


def write_difference(Q: Tensor, theta: Tensor, alpha: Tensor, out: Tensor, spare: Tensor) -> None:
    """Write theta q+ - alpha n_q to out. Comparisons into floats and no `where`: those are slow on a CPU."""
    torch.le(Q, 0, out=spare).mul_(alpha)
    torch.clamp(Q, min=0, out=out).mul_(theta).sub_(spare)


def linear_similarity(A: Tensor, Q: Tensor, theta: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Similarity of every input to every prototype, keeping A and Q alone for the backward pass.

    Shapes: A (n, F), Q (m, F) -> (n, m).
    """
    if torch.is_grad_enabled():
        return _LinearSimilarity.apply(A, Q, theta, alpha, beta)  # pyright: ignore[reportReturnType]
    return _forward(A, Q, theta, alpha, beta)


class _LinearSimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, A: Tensor, Q: Tensor, theta: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        ctx.save_for_backward(A, Q, theta, alpha, beta)
        return _forward(A, Q, theta, alpha, beta)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,) = grads
        A, Q, theta, alpha, beta = inputs = ctx.saved_tensors
        needed = ctx.needs_input_grad
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
            out = composed_similarity(A, Q, theta, alpha, beta, "contrast", "product", "ignorematch")
            found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
            return tuple(next(found) if need else None for need in needed)
        grad, scalars = dense(grad), any(needed[2:])
        with no_autocast(A):
            if A.shape[0] > Q.shape[0]:
                dq, da, dtheta, dbeta, dalpha = _backward(
                    Q, A, theta, beta, alpha, grad.t(), needed[1], needed[0], scalars
                )
            else:
                da, dq, dtheta, dalpha, dbeta = _backward(A, Q, theta, alpha, beta, grad, needed[0], needed[1], scalars)
        return da, dq, dtheta, dalpha, dbeta


def _forward(A: Tensor, Q: Tensor, theta: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    out = A.new_empty(A.shape[0], Q.shape[0])
    with no_autocast(A):
        if A.shape[0] > Q.shape[0]:
            _forward_blocks(Q, A, theta, beta, alpha, out.t())
        else:
            _forward_blocks(A, Q, theta, alpha, beta, out)
    return out


def _forward_blocks(A: Tensor, Q: Tensor, theta: Tensor, alpha: Tensor, beta: Tensor, out: Tensor) -> None:
    lifted = lift_inputs(A)
    spans, longest = block_spans(Q, A.shape[0])
    buffer = Q.new_empty(longest, 2 * Q.shape[1])
    for span in spans:
        block = Q[span]
        weight = lift_prototypes(block, theta, alpha, beta, buffer[: block.shape[0]])
        torch.mm(lifted, weight.t(), out=out[:, span])


def _backward(
    A: Tensor,
    Q: Tensor,
    theta: Tensor,
    alpha: Tensor,
    beta: Tensor,
    grad: Tensor,
    needs_a: bool,
    needs_q: bool,
    needs_scalars: bool,
) -> tuple[Tensor | None, ...]:
    features = A.shape[1]
    a = torch.relu(A)
    absent_a = 1 - present(a)
    right = (a * theta).sub_(absent_a * beta) if needs_q else a
    width = 2 * features if needs_scalars else features
    total = A.new_zeros(A.shape[0], width, dtype=summing_dtype(A)) if needs_a or needs_scalars else None
    dq = torch.empty_like(Q) if needs_q else None
    spans, longest = block_spans(Q, A.shape[0])
    buffer = Q.new_empty(longest, width)
    spare = buffer if needs_scalars or total is None else torch.empty_like(buffer)
    for span in spans:
        block, grad_block = Q[span], grad[:, span]
        if total is not None:
            weight = buffer[: block.shape[0]]
            if needs_scalars:
                torch.clamp(block, min=0, out=weight[:, :features])
                torch.le(block, 0, out=weight[:, features:])
            else:
                write_difference(block, theta, alpha, weight, spare[: block.shape[0]])
            accumulate(total, grad_block, weight)
        if dq is not None:
            torch.mm(grad_block.t(), right, out=dq[span])
            keep_present_(dq[span], block)
    if total is None:
        return None, dq, None, None, None
    dtheta = dalpha = dbeta = None
    if needs_scalars:
        common, ours = total[:, :features], total[:, features:]
        dtheta = torch.sum(a * common).to(theta.dtype)
        dalpha = torch.sum(a * ours).neg_().to(alpha.dtype)
        dbeta = torch.sum(absent_a * common).neg_().to(beta.dtype)
        total = common.mul_(theta).sub_(ours.mul_(alpha))
    return keep_present_(total.to(A.dtype), A) if needs_a else None, dq, dtheta, dalpha, dbeta
