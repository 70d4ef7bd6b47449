"""PyTorch's FlexAttention as a backend: compiled on CUDA, for head dimensions that are powers of two.

It reads the windows as a function of two token numbers and skips the blocks of the N x N grid that they never touch.
"""

from collections.abc import Callable
from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from zoo.layers.neighborhood.windows import Windows


def why_not_flex(q: Tensor, v: Tensor, dropout_p: float) -> str | None:
    """What stands against this backend for an input; None if nothing does."""
    dim = q.shape[-1]
    if q.device.type != "cuda":
        return f"it runs on CUDA only (elsewhere it has no backward pass), and the tokens are on {q.device.type}"
    if dim & (dim - 1) or v.shape[-1] != dim:
        return f"it wants one head dimension that is a power of two, got {dim} for q and k, {v.shape[-1]} for v"
    if q.dtype == torch.float64:
        return "it has no float64 kernel"
    if dropout_p > 0.0:
        return f"it has no dropout on attention weights, and dropout_p is {dropout_p}"
    return None


def flex_windows(
    q: Tensor, k: Tensor, v: Tensor, windows: Windows, bias: Tensor | None, scale: float, compiled: bool = True
) -> Tensor:
    """softmax(scale q k + bias) v over the window of every query; (B, *spatial, heads, d) in and out."""
    spatial = tuple(q.shape[1:-2])
    blocks = _blocks(spatial, windows, q.device)
    queries, keys, values = (tokens.flatten(1, -3).transpose(1, 2) for tokens in (q, k, v))

    attend = _compiled() if compiled else flex_attention
    out = attend(
        queries,
        keys,
        values,
        score_mod=None if bias is None else _bias_reader(bias, spatial, windows),
        block_mask=blocks,
        scale=scale,
    )
    return out.transpose(1, 2).reshape(v.shape)


@cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(flex_attention)


def _bias_reader(bias: Tensor, spatial: tuple[int, ...], windows: Windows) -> Callable[..., Tensor]:
    def add_bias(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        places = zip(_places(query, spatial, windows), _places(key, spatial, windows), windows.kernel_size, strict=True)
        # Pairs outside of the windows are masked, but their bias is read all the same: keep inside the table.
        steps = [(there - here + kernel - 1).clamp(0, 2 * kernel - 2) for (here, _), (there, _), kernel in places]
        return score + bias[(head, *steps)]

    return add_bias


@lru_cache(maxsize=32)
def _blocks(spatial: tuple[int, ...], windows: Windows, device: torch.device) -> BlockMask:
    def inside(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = query >= 0
        axes = zip(spatial, *windows, _places(query, spatial, windows), _places(key, spatial, windows), strict=True)
        for length, kernel, dilation, causal, (place, group), (key_place, key_group) in axes:
            if causal:
                first = place - kernel + 1
            else:
                members = (length - group + dilation - 1) // dilation
                first = torch.minimum((place - kernel // 2).clamp(min=0), members - kernel)
            last = place if causal else first + kernel - 1
            seen = seen & (key_group == group) & (key_place >= first) & (key_place <= last)
        return seen

    tokens = torch.Size(spatial).numel()
    with torch.inference_mode(False):
        return create_block_mask(inside, None, None, tokens, tokens, device=device)


def _places(token: Tensor, spatial: tuple[int, ...], windows: Windows) -> list[tuple[Tensor, Tensor]]:
    """Place in its dilation group, and the group, of a token on each axis."""
    places = []
    for length, dilation in zip(reversed(spatial), reversed(windows.dilation), strict=True):
        position = token % length
        token = token // length
        places.append((position // dilation, position % dilation))
    return places[::-1]
