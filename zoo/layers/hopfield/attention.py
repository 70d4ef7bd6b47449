"""Softmax attention that keeps no matrix of states and stored patterns: softmax(q k^T + mask) v."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.eager import autocasts, must_compose
from zoo.layers.hopfield.maps import masked_softmax

_FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, dropout_p: float = 0.0) -> Tensor:
    """softmax(q k^T + mask) v, and 0 where the mask leaves nothing to attend to.

    Where the stored patterns are the same for the whole batch, all its states are attended for as one sample.

    Shapes: q (B, H, L, D), k (B, H, S, D), v (B, H, S, P) -> (B, H, L, P); a batch of 1 of k or v broadcasts.

    Args:
        q, k, v: states, scaled already, stored patterns and values.
        mask: added to the scores, of four axes that broadcast to (B, H, L, S); -inf forbids.
        dropout_p: share of the attention that is dropped.
    """
    batch, _, states, _ = q.shape
    if k.shape[0] == 1 and v.shape[0] == 1 and batch > 1 and (mask is None or mask.shape[0] == mask.shape[-2] == 1):
        merged = q.transpose(1, 2).flatten(0, 1).transpose(0, 1).unsqueeze(0)
        found = attend(merged, k, v, mask, dropout_p=dropout_p)
        return found[0].transpose(0, 1).unflatten(0, (batch, states)).transpose(1, 2)
    k, v = (x if x.shape[0] == batch else x.expand(batch, -1, -1, -1) for x in (k, v))
    if autocasts(q):
        low = torch.get_autocast_dtype(q.device.type)
        q, k, v = (x if x.dtype == torch.float64 else x.to(low) for x in (q, k, v))
    mask = None if mask is None else mask.to(q.dtype)
    if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
        return _composed(q, k, v, mask, dropout_p)
    if must_compose(q, k, v) or q.device.type != "cpu":
        return _native(q, k, v, mask, dropout_p)
    learned = mask is not None and mask.requires_grad
    if dropout_p or learned or not (q.numel() and k.numel() and v.numel()):
        return _composed(q, k, v, mask, dropout_p)
    return _on_cpu(q, k, v, mask)


def _composed(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout_p: float = 0.0) -> Tensor:
    scores = q @ k.transpose(-1, -2)
    return F.dropout(masked_softmax(scores if mask is None else scores + mask), dropout_p) @ v


def _native(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout_p: float) -> Tensor:
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, scale=1.0)
    # What a row without any allowed pattern gives differs between kernels.
    nothing = torch.isneginf(mask).all(-1, keepdim=True)
    mask = mask.masked_fill(nothing, 0.0).expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p, scale=1.0)
    return found.masked_fill(nothing, 0.0)


def _on_cpu(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The kernel wants keys and values of one width: the narrower gets columns of zeros."""
    width, read = q.shape[-1], v.shape[-1]
    if read < width:
        v = F.pad(v, (0, width - read))
    elif read > width:
        q, k = F.pad(q, (0, read - width)), F.pad(k, (0, read - width))
    found: Any = _Attend.apply(q, k, v, mask)
    return found[..., :read]


class _Attend(torch.autograd.Function):
    """The CPU kernel of torch, whose gradient can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        found, lse = _FORWARD(q, k, v, 0.0, False, attn_mask=mask, scale=1.0)
        ctx.save_for_backward(q, k, v, mask, found, lse)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        q, k, v, mask, found, lse = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            inputs = [x for x, needed in zip((q, k, v), ctx.needs_input_grad, strict=False) if needed]
            back = iter(torch.autograd.grad(_composed(q, k, v, mask), inputs, grad, create_graph=True))
            return (*(next(back) if needed else None for needed in ctx.needs_input_grad[:3]), None)
        back = _BACKWARD(grad, q, k, v, found, lse, 0.0, False, attn_mask=mask, scale=1.0)
        return (*back, None)
