"""The KAN head: the layer and a bias, under compilers too."""

import subprocess
import sys

import torch

import zoo
from zoo.layers.kan import FasterKANLayer, KANHead


def test_is_the_layer_and_a_bias():
    torch.manual_seed(0)
    head = KANHead(6, 4, base_branch=True, num_centres=5)
    layer = FasterKANLayer(6, 4, base_branch=True, num_centres=5)
    state = head.state_dict()
    assert torch.equal(state.pop("bias"), torch.zeros(4))
    assert state["weight"].shape == (4, 6, 5)
    state["spline_linear.weight"] = state.pop("weight").flatten(1)
    layer.load_state_dict(state)
    with torch.no_grad():
        head.bias.copy_(torch.arange(4.0))
    x = torch.randn(2, 3, 6)
    assert torch.equal(head(x), layer(x) + torch.arange(4.0))
    assert "bias" not in KANHead(6, 4, bias=False).state_dict()


def test_reset_forgets_the_bias():
    head = KANHead(3, 2)
    torch.nn.init.ones_(head.bias)
    head.reset_parameters()
    assert torch.equal(head.bias.detach(), torch.zeros(2))


def test_takes_no_memory_on_the_meta_device():
    head = KANHead(2, 3, num_centres=10**12, device="meta")
    assert head.rbf.grid.shape == (10**12,)


def test_by_name():
    head = zoo.create_module("head/kan", 3, 2, num_centres=4)
    assert isinstance(head, zoo.layers.KANHead)
    assert head.weight.shape == (2, 3, 4)


def test_imitates_a_classifier_with_its_bias():
    """Far from zero, where without the bias the switches alone would have to make the offset."""
    torch.manual_seed(0)
    reference = torch.nn.Linear(64, 5)
    torch.nn.init.constant_(reference.bias, 30.0)
    x = torch.randn(1000, 64)
    head = KANHead(64, 5)
    assert head.imitate(reference, x)
    with torch.no_grad():
        wanted, got = reference(x), head(x)
    spread = wanted.std(0)
    assert float(((got - wanted).square().mean(0).sqrt() / spread).max()) < 0.2
    assert float(((got - wanted).mean(0).abs() / spread).max()) < 0.05


_SCRIPT = """
import warnings; warnings.simplefilter("ignore")
import torch, torch.fx
from zoo.layers.kan import KANHead
torch.manual_seed(0)
for options in ({}, {"bias": False}, {"base_branch": True}):
    head = KANHead(8, 3, **options)
    if head.bias is not None:
        torch.nn.init.normal_(head.bias)
    x = torch.randn(5, 8)
    torch.testing.assert_close(torch.jit.script(head)(x), head(x))
    torch.testing.assert_close(torch.fx.symbolic_trace(head)(x), head(x))
"""


def test_script_and_trace():
    """In a process of its own: TorchScript and torch.fx read the functions, not the run-time checks around them."""
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True, capture_output=True, text=True, timeout=300)
