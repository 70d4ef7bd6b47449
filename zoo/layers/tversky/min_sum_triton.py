"""Sums over pairs of rows (see `min_sum`) by Triton kernels: tiles in registers, nothing but the results in memory."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# 64 x 64 sums a program; 8 features at a time, so that a tile of triples stays in the registers of 256 threads.
_SUMS_TILE = {"ROWS": 64, "COLS": 64, "FEATURES": 8, "num_warps": 8}
# 32 x 32 gradients a program, from 8 rows of the other operand at a time.
_GRADIENT_TILE = {"ROWS": 32, "FEATURES": 32, "COLS": 8, "num_warps": 4}


def sums(kind: str, a: Tensor, q: Tensor) -> Tensor:
    """(n, F), (m, F) -> (n, m)."""
    (n, features), m = a.shape, q.shape[0]
    out = a.new_empty(n, m)
    grid = (triton.cdiv(n, _SUMS_TILE["ROWS"]), triton.cdiv(m, _SUMS_TILE["COLS"]))
    _launch(_sums_kernel, grid, (a, q, out, n, m, features), kind, _SUMS_TILE)
    return out


def gradients(kind: str, a: Tensor, q: Tensor, grad: Tensor, needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """Gradients of a (n, F) and q (m, F), where needed, for that of the sums (n, m)."""
    # Both sums are symmetric, so that one function serves both.
    return _of_first(kind, a, q, grad) if needed[0] else None, _of_first(kind, q, a, grad.t()) if needed[1] else None


def _of_first(kind: str, a: Tensor, q: Tensor, grad: Tensor) -> Tensor:
    (n, features), m = a.shape, q.shape[0]
    out = torch.empty_like(a)
    grid = (triton.cdiv(n, _GRADIENT_TILE["ROWS"]), triton.cdiv(features, _GRADIENT_TILE["FEATURES"]))
    _launch(_gradient_kernel, grid, (a, q, grad, out, n, m, features, *grad.stride()), kind, _GRADIENT_TILE)
    return out


def _launch(kernel: Any, grid: tuple[int, int], args: tuple[Any, ...], kind: str, tile: dict[str, int]) -> None:
    device = args[0].device
    if device.type != "cuda":  # Triton's interpreter
        kernel[grid](*args, SOFT=kind == "softmin", **tile)
        return
    with torch.cuda.device(device):
        kernel[grid](*args, SOFT=kind == "softmin", **tile)


@triton.jit
def _sums_kernel(
    a_ptr, q_ptr, out_ptr, n, m, features,
    SOFT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    cols = (tl.program_id(1) * COLS + tl.arange(0, COLS)).to(tl.int64)
    in_rows, in_cols = rows < n, cols < m
    total = tl.zeros((ROWS, COLS), dtype=out_ptr.dtype.element_ty)
    for start in range(0, features, FEATURES):
        k = start + tl.arange(0, FEATURES)
        within = (k < features)[None, :]
        # Both forms are 0 for the zeros beyond the last feature.
        a = tl.load(a_ptr + rows[:, None] * features + k[None, :], mask=in_rows[:, None] & within, other=0.0)
        q = tl.load(q_ptr + cols[:, None] * features + k[None, :], mask=in_cols[:, None] & within, other=0.0)
        x, y = a[:, None, :], q[None, :, :]
        if SOFT:
            gap = y - x
            total += tl.sum(y - gap * _sigmoid(gap), axis=2)
        else:
            total += tl.sum(tl.minimum(x, y), axis=2)
    tl.store(out_ptr + rows[:, None] * m + cols[None, :], total, mask=in_rows[:, None] & in_cols[None, :])


@triton.jit
def _gradient_kernel(
    a_ptr, q_ptr, grad_ptr, out_ptr, n, m, features, grad_row_stride, grad_col_stride,
    SOFT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    k = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
    in_rows, within = rows < n, k < features
    places = rows[:, None] * features + k[None, :]
    a = tl.load(a_ptr + places, mask=in_rows[:, None] & within[None, :], other=0.0)
    total = tl.zeros((ROWS, FEATURES), dtype=out_ptr.dtype.element_ty)
    for start in range(0, m, COLS):
        cols = (start + tl.arange(0, COLS)).to(tl.int64)
        in_cols = cols < m
        q = tl.load(q_ptr + cols[:, None] * features + k[None, :], mask=in_cols[:, None] & within[None, :], other=0.0)
        grad = tl.load(
            grad_ptr + rows[:, None] * grad_row_stride + cols[None, :] * grad_col_stride,
            mask=in_rows[:, None] & in_cols[None, :],
            other=0.0,
        )
        gap = q[None, :, :] - a[:, None, :]
        if SOFT:
            share = _sigmoid(gap)
            slope = share * (1 + gap * (1 - share))
        else:
            slope = tl.where(gap > 0, 1.0, tl.where(gap == 0, 0.5, 0.0))
        total += tl.sum(slope * grad[:, :, None], axis=1)
    tl.store(out_ptr + places, total, mask=in_rows[:, None] & within[None, :])


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))
