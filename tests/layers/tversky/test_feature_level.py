"""The feature level without an n x m x F tensor: the equations' values and gradients."""

import itertools
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from zoo.layers.tversky.feature_level import feature_similarity
from zoo.layers.tversky.options import DIFFERENCES, INTERSECTIONS, SIMILARITIES
from zoo.layers.tversky.reference import reference_similarity

ALL = list(itertools.product(SIMILARITIES, INTERSECTIONS, DIFFERENCES))
SCALARS = (1.1, 0.4, 0.7)


def as_written(*arguments: Tensor | str) -> Tensor:
    return reference_similarity(*arguments, per_feature=True)  # pyright: ignore[reportArgumentType]


def measures(
    n: int, m: int, features: int, *lead: int, dtype: torch.dtype = torch.float64, size: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Of neighbouring and of opposite signs, and some of them zero."""
    torch.manual_seed(0)
    A = size * torch.randn(*lead, n, features, dtype=torch.float64)
    Q = size * torch.randn(*lead, m, features, dtype=torch.float64)
    A[..., 0, :] = 0
    Q[..., 0, : features // 2] = 0
    return A.to(dtype), Q.to(dtype)


def outcome(
    function: Callable[..., Tensor], A: Tensor, Q: Tensor, *how: str, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Values and all gradients, in double precision."""
    scalar_dtype = dtype if dtype == torch.float64 else torch.float32
    inputs = [A.to(dtype).detach().requires_grad_(), Q.to(dtype).detach().requires_grad_()]
    inputs += [torch.tensor(value, dtype=scalar_dtype, requires_grad=True) for value in SCALARS]
    S = function(*inputs, *how)
    assert S.dtype == dtype
    grad = torch.linspace(-1, 2, S.numel(), dtype=torch.float64).view(S.shape)
    grads = torch.autograd.grad(S, inputs, grad.to(dtype), materialize_grads=True)
    return {
        name: value.detach().double()
        for name, value in zip(("S", "A", "Q", "theta", "alpha", "beta"), (S, *grads), strict=True)
    }


@pytest.mark.parametrize("how", ALL)
@pytest.mark.parametrize("size", [(6, 5, 8), (40, 30, 60)])
def test_equals_the_equations(how: tuple[str, ...], size: tuple[int, int, int]):
    A, Q = measures(*size)
    torch.testing.assert_close(outcome(feature_similarity, A, Q, *how), outcome(as_written, A, Q, *how))


@pytest.mark.parametrize("how", ALL)
def test_float32_is_as_exact_as_its_sums(how: tuple[str, ...]):
    A, Q = measures(40, 30, 200, size=3.0)
    A, Q = A.float().double(), Q.float().double()
    found, wanted = (
        outcome(function, A, Q, *how, dtype=dtype)
        for function, dtype in ((feature_similarity, torch.float32), (as_written, torch.float64))
    )
    for name, exact in wanted.items():
        torch.testing.assert_close(found[name], exact, rtol=2e-5, atol=2e-5 * max(float(exact.abs().max()), 1.0))


@pytest.mark.parametrize("how", ALL)
def test_bfloat16_within_two_hundredths(how: tuple[str, ...]):
    A, Q = (measure.to(torch.bfloat16) for measure in measures(40, 30, 60))
    # No ties, of which each has several gradients: the last bits differ.
    A = (A.view(torch.int16) & ~1).view(torch.bfloat16).double()
    Q = (Q.view(torch.int16) | 1).view(torch.bfloat16).double()
    found, wanted = (
        outcome(function, A, Q, *how, dtype=dtype)
        for function, dtype in ((feature_similarity, torch.bfloat16), (as_written, torch.float64))
    )
    a, q = A.relu(), Q.relu()
    theta, alpha, beta = SCALARS
    magnitude = theta * a @ q.mT + alpha * a.sum(-1, keepdim=True) + beta * q.sum(-1)
    assert ((found["S"] - wanted["S"]).abs() <= 2e-2 * magnitude + 1e-12).all()
    for name in ("A", "Q", "theta", "alpha", "beta"):
        exact = wanted[name]
        torch.testing.assert_close(found[name], exact, rtol=2e-2, atol=2e-2 * max(float(exact.abs().max()), 1.0))


@pytest.mark.parametrize("how", [("contrast", *rest) for rest in itertools.product(INTERSECTIONS, DIFFERENCES)])
def test_finite_differences_of_both_orders(how: tuple[str, ...]):
    torch.manual_seed(0)
    # Apart from zero, and from each other: 1/16 mod 1/8 against 0 mod 1/8.
    A = torch.randint(0, 8, (3, 4)).double().mul(1 / 8).add(1 / 16) * torch.tensor([1.0, -1.0, 1.0, 1.0]).double()
    Q = torch.randint(1, 8, (2, 4)).double().mul(1 / 8) * torch.tensor([1.0, 1.0, -1.0, 1.0]).double()
    inputs = [A, Q, *(torch.tensor(value, dtype=torch.float64) for value in SCALARS)]
    for tensor in inputs:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: feature_similarity(*x, *how), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: feature_similarity(*x, *how).square(), inputs)


@pytest.mark.parametrize("how", [("product", "ignorematch"), ("mean", "ignorematch")])
def test_reductions_that_are_sums_are_those_of_the_set_level(how: tuple[str, str]):
    A, Q = measures(7, 5, 9)
    scalars = [torch.tensor(value, dtype=torch.float64) for value in SCALARS]
    torch.testing.assert_close(
        feature_similarity(A, Q, *scalars, "contrast", *how), reference_similarity(A, Q, *scalars, "contrast", *how)
    )


@pytest.mark.parametrize("how", [("ratio", "softmin", "substractmatch_common"), ("contrast", "max", "ignorematch")])
@pytest.mark.parametrize("lead", [(2,), (2, 3)])
def test_leading_axes(how: tuple[str, ...], lead: tuple[int, ...]):
    A, Q = measures(20, 30, 40, *lead)
    torch.testing.assert_close(outcome(feature_similarity, A, Q, *how), outcome(as_written, A, Q, *how))


@pytest.mark.parametrize("how", ALL)
def test_nothing_to_compare(how: tuple[str, ...]):
    for size in ((0, 3, 4), (3, 0, 4)):
        found = outcome(feature_similarity, torch.zeros(size[0], size[2]), torch.zeros(size[1], size[2]), *how)
        assert found["S"].shape == size[:2]
        assert all(torch.equal(found[name], torch.zeros_like(found[name])) for name in ("A", "Q", "alpha"))


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_constants_take_no_part_in_the_backward_pass(backend: str):
    A, Q = measures(40, 30, 60)
    A.requires_grad_()
    scalars = [torch.tensor(value, dtype=torch.float64) for value in SCALARS]
    how = ("contrast", "min", "substractmatch")
    feature_similarity(A, Q, *scalars, *how, backend=backend).square().sum().backward()
    exact = A.detach().clone().requires_grad_()
    as_written(exact, Q, *scalars, *how).square().sum().backward()
    torch.testing.assert_close(A.grad, exact.grad)


def test_function_transforms():
    A, Q = measures(20, 30, 40)
    how = ("contrast", "softmin", "substractmatch")
    theta, alpha, beta = (torch.tensor(value, dtype=torch.float64) for value in SCALARS)
    slopes = torch.func.vmap(
        lambda a: torch.func.grad(lambda t: feature_similarity(a[None], Q, t, alpha, beta, *how).sum())(theta)
    )
    common = feature_similarity(A, Q, torch.ones_like(theta), 0 * alpha, 0 * beta, *how)
    torch.testing.assert_close(slopes(A), common.sum(-1))


def test_refuses_a_backend_that_cannot_work_even_where_no_kernel_is_needed():
    A, Q = measures(2, 3, 4)
    scalars = [torch.tensor(value) for value in SCALARS]
    with pytest.raises(ValueError, match="needs tensors on a CUDA device"):
        feature_similarity(A, Q, *scalars, backend="triton")


_COMPILED = """
import itertools
import torch
from zoo.layers.tversky.feature_level import feature_similarity
from zoo.layers.tversky.options import DIFFERENCES, INTERSECTIONS

torch.manual_seed(0)
A, Q = torch.randn(20, 40), torch.randn(30, 40)
inputs = [A, Q, torch.tensor(1.1), torch.tensor(0.4), torch.tensor(0.7)]
for tensor in inputs:
    tensor.requires_grad_()
for how in (("min", "substractmatch"), ("softmin", "ignorematch")):
    how = ("ratio", *how)
    compiled = torch.compile(feature_similarity, fullgraph=True)
    found, wanted = compiled(*inputs, *how), feature_similarity(*inputs, *how)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)
    grads = [torch.autograd.grad(S.square().sum(), inputs, materialize_grads=True) for S in (found, wanted)]
    for one, other in zip(*grads):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
for how in itertools.product(("contrast",), INTERSECTIONS, DIFFERENCES):
    found, wanted = (feature_similarity(*inputs, *how, backend=backend) for backend in ("compiled", "reference"))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)
"""


def test_compiled():
    """In a process of its own: compilers read the functions, not the run-time checks around them."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _COMPILED], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
