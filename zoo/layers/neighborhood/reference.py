"""Neighbourhood attention written as its definition: gather the keys of every query, then attend.

Slow and hungry (the keys are copied once per window they are in), but each line can be checked against
the papers. The other paths are held to it, and TorchScript uses it, so it keeps to what that compiles:
plain ``Tensor`` annotations and no run-time shape checks (``no_type_check``).
"""

from typing import no_type_check

import torch
from torch import Tensor


@no_type_check
def axis_windows(
    length: int, kernel_size: int, dilation: int, causal: bool, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Windows along one axis, each of shape (length, kernel_size).

    Returns the position of each key, whether it counts, and its bias index (key - query + K - 1, in steps of the
    dilation group). Position i is member ``i // D`` of group ``i % D``. The window is centred (K // 2 to the left)
    and shifted inwards at the borders, so that every query sees K keys; a causal window ends at the query.
    """
    position = torch.arange(length, device=device)
    group = position % dilation
    place = torch.div(position, dilation, rounding_mode="floor")
    members = torch.div(length - group + dilation - 1, dilation, rounding_mode="floor")
    if causal:
        first = place - (kernel_size - 1)
    else:
        first = torch.minimum((place - kernel_size // 2).clamp(min=0), members - kernel_size)
    key = first[:, None] + torch.arange(kernel_size, device=device)
    return key.clamp(min=0) * dilation + group[:, None], key >= 0, key - place[:, None] + kernel_size - 1


@no_type_check
def gather_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel_size: list[int],
    dilation: list[int],
    causal: list[bool],
    bias: Tensor | None,
    scale: float,
    dropout_p: float,
) -> Tensor:
    """softmax(scale q k + bias) v over the window of every query; (B, *spatial, heads, d) in and out."""
    spatial = q.shape[1:-2]
    index = torch.zeros(1, 1, dtype=torch.long, device=q.device)
    offset = torch.zeros(1, 1, dtype=torch.long, device=q.device)
    valid = torch.ones(1, 1, dtype=torch.bool, device=q.device)
    # The neighbourhood is the Cartesian product of the windows of the axes.
    for axis in range(len(kernel_size)):
        size, kernel = spatial[axis], kernel_size[axis]
        key, counts, step = axis_windows(size, kernel, dilation[axis], causal[axis], q.device)
        shape = [index.shape[0] * size, index.shape[1] * kernel]
        index = (index[:, None, :, None] * size + key[None, :, None, :]).reshape(shape)
        offset = (offset[:, None, :, None] * (2 * kernel - 1) + step[None, :, None, :]).reshape(shape)
        valid = (valid[:, None, :, None] & counts[None, :, None, :]).reshape(shape)

    # Half precision is for the tokens, not for sums over a window.
    dtype = q.dtype
    if dtype == torch.float16 or dtype == torch.bfloat16:
        dtype = torch.float32
    queries = q.flatten(1, -3).to(dtype)
    keys = k.flatten(1, -3).to(dtype)[:, index]
    values = v.flatten(1, -3).to(dtype)[:, index]
    scores = torch.einsum("bnhd,bnwhd->bhnw", queries * scale, keys)
    if bias is not None:
        scores = scores + bias.to(dtype).flatten(1)[:, offset]
    weights = scores.masked_fill(~valid, float("-inf")).softmax(-1)
    weights = torch.nn.functional.dropout(weights, dropout_p, dropout_p > 0.0)
    out = torch.einsum("bhnw,bnwhd->bnhd", weights, values).to(q.dtype)
    return out.reshape(q.shape[:-1] + v.shape[-1:])
