"""Pooling without projections of the rows: equal to the projected layer, with gradients, and lean."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.layers.hopfield.pooling_options import OPTIONS, pooling_with
from zoo.layers.hopfield import HopfieldPooling
from zoo.layers.hopfield.absorbed import absorbed_association, absorbing_saves, can_absorb
from zoo.layers.hopfield.bags import EqualBags, rows_of_block
from zoo.layers.hopfield.inputs import score_mask
from zoo.layers.hopfield.means import associated_means
from zoo.layers.hopfield.normed import NormedRows

_PADDING = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1]]).bool()
_MASKS = {
    "none": {},
    "padding": {"padding_mask": _PADDING},
    "per head": {"association_mask": torch.arange(60).view(6, 2, 5) % 7 == 0},
    "float": {"association_mask": torch.linspace(-2, 2, 10, dtype=torch.float64).view(2, 5), "padding_mask": _PADDING},
}

#: Options that together reach every path of the derivatives; all have those of the projected layer.
_TELLING = ("both patterns", "connected alone", "learned beta, unit length")


def absorbed(pooling: HopfieldPooling, x: Tensor, **masks: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Output of the Hopfield layer, and counts."""
    layer = pooling.hopfield
    assert can_absorb(layer)
    batch, count, width = x.shape
    shape = (batch, layer.num_heads, pooling.quantity, count)
    given = (masks.get("padding_mask"), masks.get("association_mask"))
    mask = score_mask(*given, shape, 0, x.dtype)
    bags = EqualBags(batch, count, mask, layer.num_heads, pooling.quantity)
    states = pooling.state_patterns.unsqueeze(0)
    found = absorbed_association(layer, x.reshape(batch * count, width), bags, states)
    return layer.read_out(found.result, mask), found.counts


def projected(pooling: HopfieldPooling, x: Tensor, **masks: Any) -> tuple[Tensor, tuple[int, ...]]:
    output, found = pooling.hopfield.associate(x.shape[0], x, pooling.state_patterns.unsqueeze(0), x, **masks)
    return output, found.counts


def gradients(output: Tensor, x: Tensor, pooling: HopfieldPooling) -> dict[str, Tensor]:
    cotangent = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)
    leaves = {"x": x, **dict(pooling.named_parameters())}
    return dict(zip(leaves, torch.autograd.grad((output * cotangent).sum(), list(leaves.values())), strict=True))


def check_equal(pooling: HopfieldPooling, x: Tensor, limit: float, **masks: Tensor) -> None:
    (got, counts), (wanted, wanted_counts) = absorbed(pooling, x, **masks), projected(pooling, x, **masks)
    torch.testing.assert_close(got, wanted, rtol=limit, atol=limit)
    assert counts == wanted_counts
    grads = gradients(wanted, x, pooling)
    for name, grad in gradients(got, x, pooling).items():
        scale = max(1.0, float(grads[name].abs().max()))
        torch.testing.assert_close(grad, grads[name], rtol=limit, atol=limit * scale, msg=lambda t, n=name: f"{n}: {t}")


@pytest.mark.parametrize("masks", _MASKS)
@pytest.mark.parametrize("options", OPTIONS)
def test_equals_the_projected_layer(options, masks):
    pooling, x = pooling_with(options), torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    check_equal(pooling, x, 1e-10, **_MASKS[masks])


@pytest.mark.parametrize("options", ["plain", "stops", "both patterns", "no norm"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_bags_of_many_blocks(options, dtype, limit):
    """Scores that rise from block to block, and a block without any row that counts."""
    pooling = pooling_with(options).to(dtype)
    x = torch.randn(2, 20_000, 4, dtype=dtype) * torch.linspace(0.5, 2, 20_000, dtype=dtype).unsqueeze(1)
    assert rows_of_block(x, 4) < 10_000
    mask = (torch.arange(20_000) % 5 == 0).expand(2, -1).clone()
    mask[0, :9000] = True
    check_equal(pooling, x.requires_grad_(), limit, padding_mask=mask)


@pytest.mark.parametrize(
    "options", [name if name in _TELLING else pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS]
)
def test_gradients_are_the_derivatives(options):
    # No stop test: the output jumps where a head makes one update more.
    pooling = pooling_with(options, tol=None)
    names = dict(pooling.named_parameters())
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[False] * 3, [False, True, False]])

    def output(x: Tensor, *_: Tensor) -> Tensor:
        return absorbed(pooling, x, padding_mask=mask)[0]

    assert torch.autograd.gradcheck(output, (x, *names.values()), atol=1e-6)


def test_second_derivatives():
    torch.manual_seed(0)
    x = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    u = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.zeros(2, 2, 2, 4, dtype=torch.float64)
    mask[0, 0, 0, :] = mask[1, 1, 1, 2] = -torch.inf

    def finite(x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        means, lse = associated_means(NormedRows(x, 1e-5), u, EqualBags(2, 4, mask, 2, 2))
        return means, lse.masked_fill(torch.isneginf(lse), 0)

    assert torch.autograd.gradcheck(finite, (x, u))
    assert torch.autograd.gradgradcheck(finite, (x, u))


def test_transforms_take_composed_operations():
    torch.manual_seed(0)
    x, u = torch.randn(6, 3, dtype=torch.float64), torch.randn(1, 2, 3, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        means, lse = associated_means(NormedRows(x, 1e-5), u, EqualBags(2, 3, None, 1, 2))
        return means.square().sum() + lse.sum()

    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(x), wanted, rtol=1e-10, atol=1e-10)
    slope = torch.func.jvp(loss, (x,), (x,))[1]
    torch.testing.assert_close(slope, (wanted * x).sum(), rtol=1e-10, atol=1e-10)


def _large(**options: Any) -> tuple[HopfieldPooling, Tensor]:
    """Enough rows that pooling goes without projections by itself."""
    torch.manual_seed(0)
    pooling = HopfieldPooling(32, num_heads=8, head_dim=32, **options)
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    x = torch.randn(2, 4000, 32)
    assert absorbing_saves(pooling.hopfield, 8000, pooling.quantity)
    return pooling, x


def _kept(pooling: HopfieldPooling, x: Tensor) -> int:
    """Bytes kept for the backward pass beside x and the parameters."""
    own = {t.untyped_storage().data_ptr() for t in (x, *pooling.parameters())}
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        pooling(x)
    return sum(kept.values())


def test_nothing_as_large_as_the_rows_is_kept():
    pooling, x = _large(num_updates=2, tol=None)
    assert _kept(pooling, x.requires_grad_()) < x.nbytes / 4
    longer = torch.cat([x, x], 1)
    growth = _kept(pooling, longer.requires_grad_()) - _kept(pooling, x.requires_grad_())
    assert growth < x.nbytes / 100
    with torch.no_grad():
        wanted, _ = projected(pooling, x)
    torch.testing.assert_close(pooling(x), wanted.mean(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("what", ["dropout", "sparsemax", "norm_association", "epsilon", "hook", "replaced"])
def test_what_cannot_be_absorbed_is_projected(what):
    options: dict[str, Any] = {
        "dropout": {"dropout": 0.5},
        "sparsemax": {"association": "sparsemax"},
        "norm_association": {"norm_association": True},
        "epsilon": {"norm_value": {"eps": 1e-3}},
    }.get(what, {})
    pooling, x = _large(**options)
    seen: list[int] = []
    projection: Any = pooling.hopfield.proj_stored
    if what == "hook":
        projection.register_forward_hook(lambda *_: seen.append(1))
    if what == "replaced":
        pooling.hopfield.register_module("proj_stored", torch.nn.Sequential(projection, torch.nn.Tanh()))
    assert not can_absorb(pooling.hopfield)
    with torch.no_grad():
        wanted, _ = projected(pooling.eval(), x)
        torch.testing.assert_close(pooling(x), wanted.mean(1), rtol=1e-5, atol=1e-5)
    assert bool(seen) == (what == "hook")
    assert can_absorb(pooling.hopfield) == (what == "dropout")  # which is of training alone


def test_a_learned_mask_gets_its_gradient():
    pooling, x = _large()
    mask = torch.zeros(1, 4000, requires_grad=True)
    pooling(x, association_mask=mask).square().sum().backward()
    assert mask.grad is not None
    assert mask.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    pooling, x = _large(num_updates=2, tol=None)
    exact = pooling(x)
    with torch.autocast("cpu", dtype):
        assert (pooling(x).float() - exact).norm() / exact.norm() < 2e-2
    half = pooling.to(dtype)
    x = x.to(dtype).requires_grad_()
    got = half(x)
    assert got.dtype == dtype
    assert (got.float() - exact).norm() / exact.norm() < 2e-2
    (grad,) = torch.autograd.grad(got.sum(), x)
    assert grad.dtype == dtype
    assert grad.isfinite().all()


def test_the_choice_counts_operations():
    wide = HopfieldPooling(128, num_heads=8, head_dim=32).hopfield
    assert absorbing_saves(wide, 300_000, 1)
    assert not absorbing_saves(wide, 8, 1)  # nothing to gain
    # 2 * 128 operations of a state absorbed, 2 * 32 and a share of 2 * 128 * 32 projected.
    assert absorbing_saves(wide, 10**9, 42)
    assert not absorbing_saves(wide, 10**9, 43)
    narrow = HopfieldPooling(8, head_dim=8).hopfield
    assert absorbing_saves(narrow, 10**9, 10_000)


_MILLION = """
import torch
from zoo.layers.hopfield import HopfieldPooling

def memory(entry):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))

start = memory("VmHWM")
pooling = HopfieldPooling(128, num_heads=8, head_dim=32)
x = torch.empty(1, 1_000_000, 128).normal_().requires_grad_()
pooling(x).square().sum().backward()
grown = memory("VmHWM") - start
assert x.grad[0, ::1000].any() and x.grad[0, ::1000].isfinite().all()
assert grown < 1.2e9, grown
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read where Linux has it")
def test_a_bag_of_a_million_trains_in_little_memory():
    """The bag has 0.51 GB, and so has its gradient."""
    done = subprocess.run([sys.executable, "-c", _MILLION], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
