"""Compilers, exporters, transforms, state dicts and precisions."""

from __future__ import annotations

import copy
import io
import subprocess
import sys

import pytest
import torch

from tests.layers.hopfield.goldens import NAMES, golden
from zoo.layers.hopfield import Hopfield, HopfieldEncoderLayer, HopfieldLayer, HopfieldPooling

_SCRIPT = """
import sys, warnings; warnings.simplefilter("ignore")
import torch
from zoo.layers.hopfield import *

torch.manual_seed(0)
x, mask = torch.randn(3, 5, 8), torch.arange(5).expand(3, -1) >= torch.tensor([[5], [2], [0]])
OPTIONS = [
    {"num_updates": 3},
    {"num_updates": [1, 3], "beta": [0.5, 2.0], "post": "l2", "zero_pattern": True},
    {"num_updates": 2, "association": "entmax", "alpha": [1.0, 1.5], "learn_beta": True},
    {"num_updates": 2, "association": "sparsemax", "norm_association": True, "connect_values": True},
    {"num_updates": 2, "association": "normmax", "bias_pattern": True},
    {"num_updates": 2, "association": "budget", "k": 2},
    {"num_updates": 2, "association": "topk", "k": 2},
]
LAYERS = [Hopfield(8, num_heads=2, tol=None, **options).eval() for options in OPTIONS]
LAYERS += [HopfieldPooling(8, num_updates=3, tol=None).eval()]
LAYERS += [HopfieldEncoderLayer(LAYERS[0], dim_feedforward=6).eval()]


def same(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=2e-5, atol=2e-5)


def compiled():
    for layer in LAYERS:
        torch._dynamo.reset()
        call = torch.compile(layer, fullgraph=True, backend="aot_eager")
        same(call(x, padding_mask=mask), layer(x, padding_mask=mask))
        wanted = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
        same(torch.autograd.grad(call(x).square().sum(), list(layer.parameters())), wanted)


def exported():
    batch, count = torch.export.Dim("batch", min=2), torch.export.Dim("count", min=2)
    for layer in LAYERS:
        shapes = {"padding_mask": {0: batch, 1: count}}
        shapes["stored" if isinstance(layer, Hopfield) else "x"] = {0: batch, 1: count}
        program = torch.export.export(layer, (x,), {"padding_mask": mask}, dynamic_shapes=shapes).module()
        for rows, length in ((3, 5), (2, 4)):
            same(
                program(x[:rows, :length], padding_mask=mask[:rows, :length]),
                layer(x[:rows, :length], padding_mask=mask[:rows, :length]),
            )


def per_sample():
    for layer in LAYERS:
        state = {name: value.detach() for name, value in layer.named_parameters()}

        def loss(state, row):
            return torch.func.functional_call(layer, state, (row[None],)).square().sum()

        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(state, x)
        for i in range(2):
            for name, value in torch.func.grad(loss)(state, x[i]).items():
                same(each[name][i], value)


globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize("what", ["compiled", "exported", "per_sample"])
def test_under(what):
    """In a process of its own: compilers read the functions, not the run-time checks around them."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, what], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_and_meta(name):
    """A state dict, a copy and a layer that was built without memory give what the layer gives."""
    case = golden(name)
    module = case.module()
    args, masks = case.arguments(case.inputs())
    with torch.no_grad():
        wanted = module(*args, **masks)
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        file.seek(0)
        empty = case.build(device="meta").to_empty(device="cpu")
        for part in (empty, *empty.modules()):
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
        empty.load_state_dict(torch.load(file, weights_only=True))
        for other in (empty.eval(), copy.deepcopy(module)):
            assert torch.equal(other(*args, **masks), wanted)


@pytest.mark.parametrize("association", ["softmax", "sparsemax", "entmax", "normmax", "budget"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [Hopfield, HopfieldPooling, HopfieldLayer])
def test_half_precision(kind, dtype, association):
    """But for top-k, which jumps where rounding changes the order."""
    torch.manual_seed(0)
    options = {"quantity": 12} if kind is HopfieldLayer else {}
    layer = kind(32, num_heads=4, num_updates=2, tol=None, association=association, **options).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(2)
    x = torch.randn(4, 9, 32)
    exact = layer(x)
    got = layer.to(dtype)(x.to(dtype))
    assert got.dtype == dtype
    assert (got.float() - exact).norm() / exact.norm() < 2e-2


def test_autocast():
    torch.manual_seed(0)
    layer, x = Hopfield(32, num_heads=4, num_updates=2, tol=None), torch.randn(4, 9, 32)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        got = layer(x)
        got.float().square().sum().backward()
    assert (got.float() - exact).norm() / exact.norm() < 2e-2
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters())


def test_dropout_is_of_the_last_association_and_of_training_alone():
    torch.manual_seed(0)
    layer = Hopfield(8, dropout=0.5, num_updates=2, tol=None)
    x = torch.randn(2, 4, 8)
    first, second = layer.recall(x), layer.recall(x)
    assert not torch.equal(first.output, second.output)
    assert torch.equal(first.association, second.association)
    assert torch.equal(layer.eval()(x), layer(x))


def test_start():
    """Projections from N(0, 0.02^2), biases 0, so that an association starts almost even."""
    torch.manual_seed(0)
    layer = Hopfield(200, num_heads=4)
    for linear in (layer.proj_state, layer.proj_stored, layer.proj_value, layer.out_proj):
        assert abs(float(linear.weight.detach().std()) - 0.02) < 5e-4
        assert not linear.bias.any()
    association = layer.association(torch.randn(2, 10, 200))
    assert (association - 0.1).abs().max() < 0.05
    assert sum(p.numel() for p in Hopfield(256, num_heads=8).parameters()) == 264_704
    assert sum(p.numel() for p in HopfieldPooling(8).parameters()) == 344
    assert sum(p.numel() for p in HopfieldPooling(500, head_dim=32, out_dim=500).parameters()) == 68_096


def test_an_encoder_layer_has_an_association_of_its_own():
    association = Hopfield(6, num_heads=2)
    layer = HopfieldEncoderLayer(association, dim_feedforward=8)
    assert not torch.equal(layer.association.proj_state.weight, association.proj_state.weight)


def test_stored_samples_answer():
    """Prototypes that are samples, with their labels as targets: each sample finds its own label."""
    torch.manual_seed(0)
    x, labels = torch.randn(12, 16), torch.eye(3)[torch.arange(12) % 3]
    layer = HopfieldLayer(
        16, quantity=12, separate_targets=True, value_dim=3, beta=2.0, project_out=False, norm_value=False,
        project_stored=False, project_state=False, project_value=False, head_dim=16,
    )  # fmt: skip
    layer.store(x, labels)
    torch.testing.assert_close(layer(x[None])[0], labels, rtol=0, atol=1e-3)
    torch.testing.assert_close(layer.association(x[None])[0, 0], torch.eye(12), rtol=0, atol=1e-3)


def test_repr():
    """Everything that is not as usual is told."""
    plain = repr(Hopfield(8, num_heads=2)).splitlines()[1].strip()
    assert plain == "8, num_heads=2, head_dim=4, out_dim=8, num_updates=1"
    layer = Hopfield(8, num_updates=2, post="l2", activation="relu", dropout=0.1, bias_pattern=True, batch_first=False)
    assert repr(layer).splitlines()[1].strip() == (
        "8, num_heads=1, head_dim=8, out_dim=8, num_updates=2, tol=0.0001, stop='association', post=l2, "
        "activation=relu, dropout=0.1, bias_pattern=True, batch_first=False"
    )
