"""NATTEN's CUDA kernels as a backend, where the package is installed (0.20 or newer)."""

import importlib
import importlib.util

import torch
from torch import Tensor

from zoo.layers.neighborhood.windows import Windows


def why_not_natten(q: Tensor, v: Tensor, bias: Tensor | None, dropout_p: float) -> str | None:
    """What stands against this backend for an input; None if nothing does."""
    if q.device.type != "cuda":
        return f"its kernels run on CUDA only, and the tokens are on {q.device.type}"
    if importlib.util.find_spec("natten") is None:
        return "the package natten is not installed"
    if bias is not None:
        return "it has had no relative position bias since version 0.20"
    if dropout_p > 0.0:
        return f"it has no dropout on attention weights, and dropout_p is {dropout_p}"
    if q.dtype == torch.float64:
        return "it has no float64 kernel"
    if v.shape[-1] != q.shape[-1]:
        return f"it wants one head dimension, got {q.shape[-1]} for q and k, {v.shape[-1]} for v"
    return None


def natten_attention(q: Tensor, k: Tensor, v: Tensor, windows: Windows, scale: float) -> Tensor:
    """softmax(scale q k) v over the window of every query; (B, *spatial, heads, d) in and out."""
    attend = getattr(importlib.import_module("natten"), f"na{windows.rank}d")
    kernel_size, dilation, causal = windows
    return attend(q, k, v, kernel_size=kernel_size, dilation=dilation, is_causal=causal, scale=scale)
