"""The KAN head: the layer with a bias, in every basis, under the contract of heads."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import zoo
from zoo.layers.kan import KANHead, KANLinear

BASES = ("gaussian", "bspline", "switch", "chebyshev")


def test_is_the_layer_of_fast_kan():
    torch.manual_seed(0)
    head, layer = KANHead(6, 4), KANLinear.fast(6, 4)
    layer.load_state_dict(head.state_dict())
    x = torch.randn(2, 3, 6)
    assert torch.equal(head(x), layer(x))
    torch.testing.assert_close(head(x + torch.tensor(0.0)), layer(x))
    assert "bias" not in KANHead(6, 4, bias=False).state_dict()


def test_written_out():
    torch.manual_seed(0)
    head = KANHead(3, 2, grid_size=4, grid_range=(-1.0, 2.0)).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    u = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    bells = torch.exp(-(u[..., None] - torch.tensor([-1.0, 0, 1, 2])).square())
    wanted = torch.einsum("nik,oik->no", bells, head.weight) + nn.functional.silu(x) @ head.base_weight.T + head.bias
    torch.testing.assert_close(head(x), wanted)


@pytest.mark.parametrize(("basis", "count"), [("gaussian", 8), ("bspline", 8), ("switch", 8), ("chebyshev", 5)])
def test_grid_of_every_basis(basis, count):
    head = zoo.create_module("head/kan", 3, 2, basis=basis)
    assert isinstance(head, KANHead)
    assert head.weight.shape == (2, 3, count)
    if basis != "chebyshev":
        assert head.basis.grid_range == (-2.0, 2.0)


def test_features_of_any_scale_are_within_the_grid():
    torch.manual_seed(0)
    head = KANHead(32, 4, base_activation=None)
    x = torch.randn(9, 32)
    torch.testing.assert_close(head(1000 * x), head(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("basis", BASES)
def test_imitates_a_classifier_with_its_bias(basis):
    """Far from zero, where without the bias the curves would have to make the offset."""
    torch.manual_seed(0)
    reference = nn.Linear(64, 5)
    nn.init.constant_(reference.bias, 30.0)
    head, x = KANHead(64, 5, basis=basis), torch.randn(1000, 64)
    assert head.imitate(reference, x)
    with torch.no_grad():
        wanted, got = reference(x), head(x)
    spread = wanted.std(0)
    assert float(((got - wanted).square().mean(0).sqrt() / spread).max()) < 0.2
    assert float(((got - wanted).mean(0).abs() / spread).max()) < 0.05


def test_refusals():
    for options, message in (
        ({"basis": "gausian"}, "basis must be one of .*did you mean 'gaussian'"),
        ({"grid_size": 0}, "grid_size must be an integer of at least 1, got 0"),
        ({"basis": "chebyshev", "grid_range": (-2.0, 2.0)}, "has no grid_range"),
    ):
        with pytest.raises(ValueError, match=message):
            KANHead(3, 2, **options)
    with pytest.raises(ValueError, match="in_features = 1 needs norm=None"):
        KANHead(1, 2)


_CONTRACT = """
from zoo.testing import check_module
for kind, name in (("head", "head/kan"), ("mlp", "mlp/kan")):
    for basis in ("bspline", "switch", "chebyshev"):
        check_module(name, options={"basis": basis}, compiler="aot_eager")
"""


def test_contract_in_every_basis():
    """Gaussians, the default, are held to it with all registered modules."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CONTRACT], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
