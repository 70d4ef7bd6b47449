"""Compilers, exporters, function transforms, several processes."""

import subprocess
import sys

import pytest

_SCRIPT = """
import sys, warnings; warnings.simplefilter("ignore")
import torch
from zoo.quantum import Circuit, QuantumLayer, feature

own = Circuit(2).ry(feature(0), 0).rx(2 * feature(1), 1).cx(0, 1).rz("a", 1).ry("b", 0)
torch.manual_seed(0)
PAIR = ["X0 Y1", "Z1"]
BITS = torch.tensor([[0.0, 1, 1], [1, 0, 1]])
LAYERS = {
    "dressed": (QuantumLayer(3, n_layers=2, encoding="angle:hy", ansatz="dressed", init="uniform"), torch.randn(5, 3)),
    "amplitude": (QuantumLayer(4, n_layers=2, encoding="amplitude", out_features=3, init="uniform"), torch.randn(5, 4)),
    "reupload": (QuantumLayer(2, n_layers=2, encoding="iqp", reupload=True, observables=PAIR), torch.randn(5, 2)),
    "basis": (QuantumLayer(3, encoding="basis", ansatz="sim14", init="uniform"), BITS),
    "own": (QuantumLayer(circuit=own, init="uniform"), torch.randn(5, 2)),
}


def same(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=2e-5, atol=2e-5)


def compiled():
    for layer, x in LAYERS.values():
        torch._dynamo.reset()  # the limit of recompilations is per class
        call = torch.compile(layer, fullgraph=True, backend="aot_eager")
        leaf = x.clone().requires_grad_()
        found = torch.autograd.grad(call(leaf).square().sum(), [leaf, *layer.parameters()])
        wanted = torch.autograd.grad(layer(leaf).square().sum(), [leaf, *layer.parameters()])
        same(found, wanted)
        same(call(x), layer(x))


def exported():
    for layer, x in LAYERS.values():
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(layer.eval(), (x,), dynamic_shapes={"x": {0: batch}}).module()
        for rows in (1, 2):
            same(program(x[:rows]), layer(x[:rows]))


def transformed():
    for name, (layer, x) in LAYERS.items():
        state = {name: value.detach() for name, value in layer.named_parameters()}

        def loss(state, row):
            return torch.func.functional_call(layer, state, (row,)).square().sum()

        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(state, x)
        for i in range(2):
            layer.zero_grad()
            layer(x[i]).square().sum().backward()
            for key, value in layer.named_parameters():
                same(each[key][i], value.grad)


def twice():
    for layer, x in LAYERS.values():
        layer = layer.double()
        x = x.double().requires_grad_()
        first = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)[0]
        second = torch.autograd.grad(first.square().sum(), list(layer.parameters()))
        assert all(bool(g.isfinite().all()) for g in second)
    layer = LAYERS["own"][0]
    assert torch.autograd.gradgradcheck(layer, torch.randn(2, 2, dtype=torch.float64, requires_grad=True))


def distributed():
    import copy, os, torch.distributed as dist

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    for layer, x in LAYERS.values():
        shared = torch.nn.parallel.DistributedDataParallel(copy.deepcopy(layer))
        for rows in (x, x[:1]):  # every parameter has a gradient in every step
            shared.zero_grad()
            layer.zero_grad()
            shared(rows).square().sum().backward()
            layer(rows).square().sum().backward()
            same([p.grad for p in shared.parameters()], [p.grad for p in layer.parameters()])
    dist.destroy_process_group()


globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize("what", ["compiled", "exported", "transformed", "twice", "distributed"])
def test_under(what):
    """In a process of its own: compilers read the functions, not the run-time checks around them."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, what], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
