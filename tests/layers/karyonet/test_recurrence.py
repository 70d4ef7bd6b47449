"""GRUs in both directions at once, with their own backward pass, equal torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.layers.karyonet.gru import _both_ways, _torch, run_gru
from zoo.layers.karyonet.recurrence import gru_recurrence

_F64 = {"dtype": torch.float64}


def _gru(width, hidden, layers=2, seed=0):
    torch.manual_seed(seed)
    return nn.GRU(width, hidden, layers, bidirectional=True, **_F64)


def _grads(run, gru, x):
    x = x.clone().requires_grad_()
    gru.zero_grad()
    out = run(x)
    (out * torch.linspace(-1, 1, out.numel(), **_F64).view_as(out)).sum().backward()
    return out.detach(), x.grad, {name: p.grad.clone() for name, p in gru.named_parameters()}


@pytest.mark.parametrize(
    ("width", "hidden", "layers", "batch", "steps"), [(1, 4, 2, 1, 40), (6, 3, 1, 5, 9), (2, 5, 3, 2, 1)]
)
def test_equals_torch(width, hidden, layers, batch, steps):
    gru = _gru(width, hidden, layers)
    x = torch.randn(steps, batch, width, **_F64)
    out, grad, grads = _grads(lambda x: run_gru(gru, x), gru, x)
    wanted, wanted_grad, wanted_grads = _grads(lambda x: gru(x)[0], gru, x)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(grad, wanted_grad, rtol=1e-10, atol=1e-12)
    for name, value in wanted_grads.items():
        torch.testing.assert_close(grads[name], value, rtol=1e-10, atol=1e-12, msg=name)


def test_sequences_of_different_lengths():
    """Each equals itself alone; so does torch's packed form, which other devices take; padding says nothing."""
    gru = _gru(2, 4)
    lengths = torch.tensor([3, 7, 1, 7])
    x = torch.randn(7, 4, 2, **_F64)
    there = (torch.arange(7)[:, None] < lengths)[..., None]
    noise = torch.where(there, x, 1e3)
    for form in (_both_ways, _torch):
        out, grad, grads = _grads(lambda x: form(gru, x, lengths) * there, gru, x)  # noqa: B023
        with torch.no_grad():
            torch.testing.assert_close(form(gru, noise, lengths) * there, out, rtol=0, atol=1e-12)
            for n, length in enumerate(lengths.tolist()):
                alone = gru(x[:length, n : n + 1])[0]
                torch.testing.assert_close(out[:length, n : n + 1], alone, rtol=0, atol=1e-12)
        assert (grad * ~there).abs().max() == 0
        if form is _both_ways:
            ours = grad, grads
    torch.testing.assert_close(ours, (grad, grads), rtol=1e-10, atol=1e-12)


def test_gradcheck():
    torch.manual_seed(0)
    parts = [torch.randn(shape, requires_grad=True, **_F64) for shape in [(5, 2, 3, 6), (2, 6, 2), (2, 6)]]
    torch.autograd.gradcheck(gru_recurrence, parts)


def test_only_gradients_that_are_asked_for():
    gru = _gru(1, 3).requires_grad_(False)
    x = torch.randn(4, 1, 1, requires_grad=True, **_F64)
    (grad,) = torch.autograd.grad(run_gru(gru, x).sum(), x)
    (wanted,) = torch.autograd.grad(gru(x)[0].sum(), x)
    torch.testing.assert_close(grad, wanted, rtol=0, atol=1e-12)


def test_where_operations_must_be_torchs():
    """`torch.func`, autocast and half precision take torch's form."""
    gru = _gru(1, 3)
    x = torch.randn(6, 1, 1, **_F64)
    grad = torch.func.grad(lambda x: run_gru(gru, x).square().sum())(x)
    given = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(gru(given)[0].square().sum(), given)
    torch.testing.assert_close(grad, wanted, rtol=0, atol=1e-12)
    single = _gru(1, 3).float()
    whole = run_gru(single, x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(run_gru(single, x.float()).float(), whole, rtol=0, atol=0.03)
    half = run_gru(_gru(1, 3).bfloat16(), x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), whole, rtol=0, atol=0.03)
