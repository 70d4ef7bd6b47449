"""Sums of minima, and of soft minima, over the features of every pair of rows.

    min_sum      M_ij = sum_k min(a_ik, q_jk)                                   = sum_k q_jk - relu(q_jk - a_ik)
    softmin_sum  M_ij = sum_k (a e^-a + q e^-q) / (e^-a + e^-q), with a_ik, q_jk = sum_k q_jk - silu(q_jk - a_ik)

They cost an operation or more for each of n * m * F triples, and as one expression of torch operations also that much
memory, in both passes. Here the triples are made block by block, and made again for the gradients

    dL/da_ik = sum_j G_ij s(q_jk - a_ik),    dL/dq_jk = sum_i G_ij (1 - s(q_jk - a_ik)),

with s the derivative of relu (1/2 at ties) or of silu. Nothing is kept for the backward pass but a and q.
"""

from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from zoo.eager import must_compose, no_autocast
from zoo.layers.tversky import min_sum_compiled, min_sum_eager
from zoo.layers.tversky.options import BACKENDS, check_choice

# Below this many triples the bookkeeping of the blocks takes longer than what it saves: with gradients, and without.
_COMPOSE_BELOW = (2**14, 2**17)


def min_sum(
    a: Float[Tensor, "*lead n features"], q: Float[Tensor, "*others m width"], *, backend: str = "auto"
) -> Float[Tensor, "..."]:
    """Sum over the features of the smaller of the two, for every pair of rows.

    Shapes: a (*lead, n, F), q (*lead, m, F) -> (*lead, n, m).

    At ties the gradient goes to both alike. Half precision is summed in float32. A second derivative, `torch.func`
    transforms, compilation and export get the composed expression.

    Args:
        a, q: rows of one type on one device, of either sign.
        backend: "auto" takes blocks, on CUDA a Triton kernel where Triton is installed; "reference" the composed
            expression; "compiled" blocks fused by torch.compile, which takes seconds at its first call in a process
            and is about three times as fast afterwards; "triton" the kernel, which needs CUDA.

    Raises:
        ValueError: rows that do not fit each other, an unknown backend, or one that cannot work here.
    """
    return _pair_sum("min", a, q, backend)


def softmin_sum(
    a: Float[Tensor, "*lead n features"], q: Float[Tensor, "*others m width"], *, backend: str = "auto"
) -> Float[Tensor, "..."]:
    """Sum over the features of the mean of the two with weights exp(-a) and exp(-q), for every pair of rows.

    Shapes, arguments and errors: as `min_sum`. Compiled for a CPU by torch.compile, its backward pass keeps one
    n x m x F tensor.
    """
    return _pair_sum("softmin", a, q, backend)


def check_backend(backend: str, x: Tensor) -> None:
    """Refuse a backend that is unknown or cannot work with x.

    Raises:
        ValueError: unknown name, no CUDA tensor, or no Triton.
    """
    check_choice("backend", backend, BACKENDS)
    if backend != "triton":
        return
    way_out = "backend='auto' chooses one that works, backend='compiled' is the fastest on a CPU"
    if x.device.type != "cuda":
        raise ValueError(f"backend='triton' needs tensors on a CUDA device, got {x.device}; {way_out}")
    if not _has_triton():
        raise ValueError(f"backend='triton' needs the package triton, which is not installed; {way_out}")


def _has_triton() -> bool:
    return find_spec("triton") is not None


def _pair_sum(kind: str, a: Tensor, q: Tensor, backend: str) -> Tensor:
    check_backend(backend, a)
    if a.shape[-1] != q.shape[-1] or a.shape[:-2] != q.shape[:-2]:
        raise ValueError(
            f"a (*lead, n, F) and q (*lead, m, F) must agree in all axes but the last but one, "
            f"got {tuple(a.shape)} and {tuple(q.shape)}"
        )
    if a.dtype != q.dtype or a.device != q.device:
        raise ValueError(
            f"a and q must have one type and device, got {a.dtype} on {a.device} and {q.dtype} on {q.device}"
        )
    if backend == "reference" or must_compose(a, q) or a.device.type not in ("cpu", "cuda"):
        return _composed(kind, a, q)
    triples = a.shape[-2] * q.numel()
    training = torch.is_grad_enabled() and (a.requires_grad or q.requires_grad)
    if triples < _COMPOSE_BELOW[0 if training else 1] if backend == "auto" else triples == 0:
        return _composed(kind, a, q)
    out: Tensor = _PairSum.apply(a, q, kind, backend)  # pyright: ignore
    return out


def _composed(kind: str, a: Tensor, q: Tensor) -> Tensor:
    work = working_dtype(a.dtype)
    x, y = a.to(work).unsqueeze(-2), q.to(work).unsqueeze(-3)
    each = torch.minimum(x, y) if kind == "min" else y - F.silu(y - x)
    return each.sum(-1).to(a.dtype)


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type that sums over features are taken in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _kernels(backend: str, x: Tensor) -> ModuleType:
    if backend == "compiled":
        return min_sum_compiled
    if backend == "triton" or (x.device.type == "cuda" and _has_triton()):
        from zoo.layers.tversky import min_sum_triton

        return min_sum_triton
    return min_sum_eager


class _PairSum(torch.autograd.Function):
    """The sums by one of the kernels; keeps a and q."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, q: Tensor, kind: str, backend: str) -> Tensor:
        ctx.save_for_backward(a, q)
        ctx.kind, ctx.kernels = kind, _kernels(backend, a)
        with no_autocast(a):
            (out,) = _each_lead(lambda x, y: (ctx.kernels.sums(kind, x, y),), *_in_working_dtype(a, q))
        return _in_dtype(out, a)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,) = grads
        a, q = ctx.saved_tensors
        needed = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            inputs = [tensor for tensor, need in zip((a, q), needed, strict=True) if need]
            found = iter(torch.autograd.grad(_composed(ctx.kind, a, q), inputs, grad, create_graph=True))
            return (*(next(found) if need else None for need in needed), None, None)

        def gradients(x: Tensor, y: Tensor, g: Tensor) -> tuple[Tensor | None, ...]:
            return ctx.kernels.gradients(ctx.kind, x, y, g, needed)

        with no_autocast(a):
            of_a, of_q = _each_lead(gradients, *_in_working_dtype(a, q, grad))
        return _in_dtype(of_a, a), _in_dtype(of_q, q), None, None


def _in_working_dtype(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().to(working_dtype(tensor.dtype)).contiguous() for tensor in tensors]


def _in_dtype(result: Tensor | None, like: Tensor) -> Any:
    return None if result is None else result.to(like.dtype)


def _each_lead(function: Callable[..., tuple[Tensor | None, ...]], *tensors: Tensor) -> list[Tensor | None]:
    """Apply a function of matrices to each of the matrices in the leading axes."""
    lead = tensors[0].shape[:-2]
    if not lead:
        return list(function(*tensors))
    stacks = [tensor.reshape(-1, *tensor.shape[-2:]) for tensor in tensors]
    outs = zip(*(function(*matrices) for matrices in zip(*stacks, strict=True)), strict=True)
    return [None if out[0] is None else torch.stack(out).view(*lead, *out[0].shape) for out in outs]
