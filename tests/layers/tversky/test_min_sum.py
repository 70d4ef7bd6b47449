"""Sums of minima over pairs of rows: every way of computing them gives the same values and gradients."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from zoo.layers.tversky.min_sum import min_sum, softmin_sum

SUMS = {"min": min_sum, "softmin": softmin_sum}
# Rows, other rows, features: one block, several blocks of rows, several of features.
SIZES = [(5, 7, 600), (70, 90, 100), (18, 20, 2100)]


def as_written(kind: str, a: Tensor, q: Tensor) -> Tensor:
    x, y = a.unsqueeze(-2), q.unsqueeze(-3)
    if kind == "min":
        return torch.where(x < y, x, y).sum(-1)
    return ((x * torch.exp(-x) + y * torch.exp(-y)) / (torch.exp(-x) + torch.exp(-y))).sum(-1)


def rows(n: int, m: int, features: int, *lead: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    a = torch.randn(*lead, n, features, dtype=dtype, requires_grad=True)
    return a, torch.randn(*lead, m, features, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("kind", SUMS)
@pytest.mark.parametrize("size", SIZES)
def test_blocks_equal_the_definition(kind: str, size: tuple[int, int, int]):
    a, q = rows(*size)
    grad = torch.randn(size[0], size[1], dtype=a.dtype)
    found, wanted = SUMS[kind](a, q), as_written(kind, a, q)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found, (a, q), grad), torch.autograd.grad(wanted, (a, q), grad))


@pytest.mark.parametrize("kind", SUMS)
def test_gradient_of_one_operand_alone(kind: str):
    a, q = rows(70, 90, 20)
    both = torch.autograd.grad(SUMS[kind](a, q).square().sum(), (a, q))
    (of_a,) = torch.autograd.grad(SUMS[kind](a, q.detach()).square().sum(), a)
    (of_q,) = torch.autograd.grad(SUMS[kind](a.detach(), q).square().sum(), q)
    torch.testing.assert_close((of_a, of_q), both)


@pytest.mark.parametrize("kind", SUMS)
def test_finite_differences_of_both_orders(kind: str):
    a, q = rows(8, 33, 64)
    assert torch.autograd.gradcheck(SUMS[kind], (a, q), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda a, q: SUMS[kind](a, q).square(), (a, q), fast_mode=True)


@pytest.mark.parametrize("n", [3, 300])
@pytest.mark.parametrize("kind", SUMS)
def test_ties_share_the_gradient(kind: str, n: int):
    """By blocks and by composed operations."""
    a = torch.arange(n * 64.0).view(n, 64).requires_grad_()
    q = a[1:2].detach().clone().requires_grad_()
    SUMS[kind](a, q)[1].sum().backward()
    assert a.grad is not None
    assert q.grad is not None
    assert torch.equal(a.grad[1], torch.full((64,), 0.5))
    assert torch.equal(q.grad[0], torch.full((64,), 0.5))


def test_soft_minimum_is_symmetric_and_near_the_minimum():
    a, q = rows(30, 40, 50)
    torch.testing.assert_close(softmin_sum(a, q), softmin_sum(q, a).mT)
    # x / (1 + e^x), by which the two differ, is at most W(1 / e) = 0.27846.
    above = softmin_sum(9 * a, 9 * q) - min_sum(9 * a, 9 * q)
    assert above.min() > 0
    assert above.max() < 0.27847 * 50


@pytest.mark.parametrize("kind", SUMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(kind: str, dtype: torch.dtype):
    a, q = (row.to(dtype).detach().requires_grad_() for row in rows(40, 50, 60))
    wide_a, wide_q = (row.detach().float().requires_grad_() for row in (a, q))
    grad = torch.randn(40, 50).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = SUMS[kind](a, q), SUMS[kind](wide_a, wide_q)
    assert torch.equal(found, wanted.to(dtype))
    for of, wide in zip(
        torch.autograd.grad(found, (a, q), grad),
        torch.autograd.grad(wanted, (wide_a, wide_q), grad.float()),
        strict=True,
    ):
        assert torch.equal(of, wide.to(dtype))


@pytest.mark.parametrize("kind", SUMS)
def test_leading_axes(kind: str):
    a, q = rows(20, 30, 40, 2, 3)
    found, wanted = SUMS[kind](a, q), as_written(kind, a, q)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), (a, q)), torch.autograd.grad(wanted.square().sum(), (a, q))
    )


@pytest.mark.parametrize("size", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
@pytest.mark.parametrize("backend", ["auto", "compiled"])
def test_nothing_to_compare(size: tuple[int, int, int], backend: str):
    a, q = rows(*size)
    out = min_sum(a, q, backend=backend)
    assert torch.equal(out, torch.zeros(size[0], size[1], dtype=a.dtype))
    out.sum().backward()
    assert torch.equal(q.grad, torch.zeros_like(q))


def test_function_transforms():
    a, q = (row.detach() for row in rows(8, 33, 64))
    stack = torch.stack([a, 2 * a])
    torch.testing.assert_close(
        torch.func.vmap(min_sum, in_dims=(0, None))(stack, q), torch.stack([min_sum(a, q), min_sum(2 * a, q)])
    )
    # The sum has degree one: its derivative along the rows themselves is the sum.
    value, slope = torch.func.jvp(min_sum, (a, q), (a, q))
    torch.testing.assert_close(value, slope)


def test_only_the_rows_are_kept_for_the_backward_pass():
    a, q = rows(40, 50, 60)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x):
        min_sum(a, q)
    assert kept == [a.numel(), q.numel()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "triton"}, "needs tensors on a CUDA device, got cpu; backend='auto'"),
        ({"backend": "compile"}, "did you mean 'compiled'"),
        ({"q": torch.zeros(3, 5)}, r"got \(2, 4\) and \(3, 5\)"),
        ({"q": torch.zeros(2, 3, 4)}, r"got \(2, 4\) and \(2, 3, 4\)"),
        ({"q": torch.zeros(3, 4).double()}, "torch.float32 on cpu and torch.float64 on cpu"),
    ],
)
def test_refusals(arguments: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        min_sum(**{"a": torch.zeros(2, 4), "q": torch.zeros(3, 4), **arguments})  # pyright: ignore[reportArgumentType]


# Compilers and Triton read the functions themselves, not the run-time checks around them: in processes of their own.
_SAME = """
import torch
from zoo.layers.tversky.min_sum import min_sum, softmin_sum

def check(function, dtype, sizes, same, device="cpu"):
    n, m, features = sizes
    a = torch.randn(n, features, dtype=dtype, device=device).relu().requires_grad_()
    q = torch.randn(m, features, dtype=dtype, device=device).relu().requires_grad_()
    grad = torch.randn(n, m, dtype=dtype, device=device)
    found, wanted = same(a, q), function(a, q, backend="reference")
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        torch.autograd.grad(found, (a, q), grad), torch.autograd.grad(wanted, (a, q), grad), rtol=1e-5, atol=1e-4
    )

torch.manual_seed(0)
SIZES = ((70, 65, 19), (1, 3, 40))
"""

_COMPILED = """
from functools import partial
for function in (min_sum, softmin_sum):
    for sizes in (*SIZES, (3, 3, 3), (4, 9, 9)):
        check(function, torch.float32, sizes, partial(function, backend="compiled"))
check(min_sum, torch.float64, SIZES[0], partial(min_sum, backend="compiled"))
"""

_FUSED = """
import resource
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # MB

def step(n, m, features, function, backward):
    a, q = torch.randn(n, features, requires_grad=backward), torch.randn(m, features, requires_grad=backward)
    out = function(a, q)
    if backward:
        out.sum().backward()

for function in (min_sum, softmin_sum):
    compiled = torch.compile(function, dynamic=True, fullgraph=True)
    check(function, torch.float64, (20, 30, 40), compiled)
    # The compiler keeps what is costly to make again, for a CPU: the soft minimum is fused in its forward pass only.
    for each, backward in ((function, True), (compiled, function is min_sum)):
        step(20, 30, 40, each, backward)
        before = peak()
        step(512, 256, 512, each, backward)  # 268 MB, were it kept in memory
        assert peak() - before < 60, (function, each, peak() - before)
"""

_INTERPRETED = """
from zoo.layers.tversky import min_sum_triton

def same(kind):
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, q):
            ctx.save_for_backward(a, q)
            return min_sum_triton.sums(kind, a, q)

        @staticmethod
        def backward(ctx, grad):
            return min_sum_triton.gradients(kind, *ctx.saved_tensors, grad, (True, True))

    return Function.apply

for kind, function in (("min", min_sum), ("softmin", softmin_sum)):
    for sizes in SIZES:
        check(function, torch.float32, sizes, same(kind))
"""

_ON_CUDA = """
from functools import partial
for function in (min_sum, softmin_sum):
    for backend in ("auto", "triton", "compiled"):
        for sizes in (*SIZES, (300, 200, 100)):
            check(function, torch.float32, sizes, partial(function, backend=backend), "cuda")
"""


def run(script: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SAME + script],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr


def test_compiled_kernels():
    run(_COMPILED)


def test_blocks_and_compiled_programs_make_no_tensor_of_all_triples():
    run(_FUSED)


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_triton_kernels_interpreted():
    run(_INTERPRETED, TRITON_INTERPRET="1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_triton_kernels():
    run(_ON_CUDA)
