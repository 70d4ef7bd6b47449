"""The call: checks at the border, then the path that fits what the input is."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.layers.neighborhood.natten import natten_attention, why_not_natten
from zoo.layers.neighborhood.reference import gather_attention
from zoo.layers.neighborhood.tiles import tile_attention
from zoo.layers.neighborhood.windows import Windows, check_tokens

BACKENDS: tuple[str, ...] = ("auto", "tiles", "reference", "flex", "natten")


def neighborhood_attention(
    q: Float[Tensor, "batch *spatial heads head_dim"],
    k: Float[Tensor, "batch *spatial heads head_dim"],
    v: Float[Tensor, "batch *spatial heads value_dim"],
    kernel_size: int | Sequence[int],
    dilation: int | Sequence[int] | None = 1,
    causal: bool | Sequence[bool] = False,
    bias: Float[Tensor, "heads *offsets"] | None = None,
    scale: float | None = None,
    *,
    dropout_p: float = 0.0,
    backend: str = "auto",
) -> Float[Tensor, "batch *spatial heads value_dim"]:
    """softmax(scale q k^T + bias) v, where each query sees only the keys of its neighbourhood.

    Along an axis of L positions with kernel K and dilation D, position i is member i // D of dilation group i % D and
    sees K members of its own group: K // 2 to its left, the rest from itself on. At the borders the window is shifted
    inwards, never padded, so every query sees K keys. On a causal axis the window ends at the query, with fewer keys
    near the start. Over several axes the neighbourhood is the Cartesian product of the windows.
    K = L is full attention; K D = L is full attention inside each dilation group.

    Args:
        q, k, v: tokens on a grid of one, two or three spatial axes, heads and head dimension last.
        kernel_size: keys per axis, >= 2, even numbers too; one int or one per axis. kernel_size * dilation must not
            exceed the size of the axis.
        dilation: step between keys per axis, >= 1.
        causal: per axis, whether a query sees only itself and what comes before it.
        bias: relative position bias (heads, 2 K - 1 per axis), added to the scaled scores; entry K - 1 + key - query,
            counted in steps of the dilation group. Not defined with causal axes.
        scale: factor of the scores, ``head_dim ** -0.5`` by default.
        dropout_p: probability to drop an attention weight. It always applies: pass 0 outside training.
        backend: "auto" (= "tiles"), "tiles", "reference" (the definition, slow), or on CUDA "flex" and "natten".

    Raises:
        ValueError: sizes that do not fit together, or a backend that cannot do what was asked.
        TypeError: integer tokens, or hyper-parameters of the wrong type.

    Neighborhood Attention Transformer, 2023, arXiv 2204.07143; Dilated Neighborhood Attention Transformer, 2022,
    arXiv 2209.15001; causal axes and even kernels as in NATTEN.
    """
    if q.ndim not in (4, 5, 6):
        raise ValueError(
            "q must be (batch, *spatial, heads, head_dim) with one, two or three spatial axes, "
            f"got {q.ndim} dimensions {tuple(q.shape)}"
        )
    if k.shape != q.shape:
        raise ValueError(f"k must have the shape of q {tuple(q.shape)}, got {tuple(k.shape)}")
    if v.shape[:-1] != q.shape[:-1]:
        raise ValueError(f"v must have the shape of q {tuple(q.shape)} but for its last axis, got {tuple(v.shape)}")
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        check_tokens(tensor, name)
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"q, k and v must have one dtype, got {q.dtype}, {k.dtype} and {v.dtype}")
    windows = Windows.of(q.ndim - 3, kernel_size, dilation, causal)
    return _attend(q, k, v, windows, bias, scale, dropout_p, backend)


def neighborhood_attention_packed(
    qkv: Float[Tensor, "batch *spatial width"],
    num_heads: int,
    kernel_size: int | Sequence[int],
    dilation: int | Sequence[int] | None = 1,
    causal: bool | Sequence[bool] = False,
    bias: Float[Tensor, "heads *offsets"] | None = None,
    scale: float | None = None,
    *,
    dropout_p: float = 0.0,
    backend: str = "auto",
) -> Float[Tensor, "batch *spatial dim"]:
    """:func:`neighborhood_attention` on the output of one qkv projection, without taking it apart.

    ``qkv`` is (batch, *spatial, 3 dim), its channels ordered q, k, v, each heads-major. Returns (batch, *spatial, dim).
    """
    if qkv.ndim not in (3, 4, 5):
        raise ValueError(
            "qkv must be (batch, *spatial, 3 * dim) with one, two or three spatial axes, "
            f"got {qkv.ndim} dimensions {tuple(qkv.shape)}"
        )
    if num_heads < 1 or qkv.shape[-1] % (3 * num_heads):
        raise ValueError(
            f"the last axis of qkv must be 3 * num_heads * head_dim, got {qkv.shape[-1]} for num_heads {num_heads}"
        )
    check_tokens(qkv, "qkv")
    windows = Windows.of(qkv.ndim - 2, kernel_size, dilation, causal)
    q, k, v = qkv.unflatten(-1, (3, num_heads, -1)).unbind(-3)
    return _attend(q, k, v, windows, bias, scale, dropout_p, backend).flatten(-2)


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    windows: Windows,
    bias: Tensor | None,
    scale: float | None,
    dropout_p: float,
    backend: str,
) -> Tensor:
    windows.check_map(q.shape[1:-2])
    if bias is not None:
        windows.check_bias(bias, q.shape[-2])
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"dropout_p must be at least 0 and below 1, got {dropout_p}")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    # A tile plan is made of plain numbers; an exported graph for maps of any size has none.
    symbolic = any(isinstance(size, torch.SymInt) for size in q.shape[1:-2])
    if backend == "reference" or (symbolic and backend in ("auto", "tiles")):
        kernel_size, steps, past_only = (list(values) for values in windows)
        return gather_attention(q, k, v, kernel_size, steps, past_only, bias, scale, dropout_p)
    if backend == "natten":
        _refuse(backend, why_not_natten(q, v, bias, dropout_p))
        return natten_attention(q, k, v, windows, scale)
    if backend == "flex":
        from zoo.layers.neighborhood import flex  # a second of imports that no other backend needs

        _refuse(backend, flex.why_not_flex(q, v, dropout_p))
        return flex.flex_windows(q, k, v, windows, bias, scale)
    return tile_attention(q, k, v, windows, bias, scale, dropout_p)


def _refuse(backend: str, reason: str | None) -> None:
    if reason is not None:
        raise ValueError(f'backend="{backend}" cannot be used here: {reason}; use backend="auto"')
