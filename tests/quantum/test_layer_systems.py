"""Compilers, exporters, function transforms, several processes."""

import subprocess
import sys

import pytest

_SCRIPT = """
import sys, warnings; warnings.simplefilter("ignore")
import torch
from zoo.quantum import Circuit, NoiseModel, QuantumLayer, feature, make_channel

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

NOISE = NoiseModel(after={"1q": make_channel("depolarizing", 0.02)}, readout=0.1)


def chosen(**options):
    return QuantumLayer(2, init="uniform", observables=PAIR, **options), torch.randn(5, 2)


EXACT = {
    "cones": chosen(backend="lightcone"),
    "chain": chosen(backend="mps"),
    "noise": chosen(noise=NOISE),
    "wide": (QuantumLayer(40, ansatz="dressed", observables=["Z3", "Z7"], init="uniform"), torch.randn(5, 40)),
}
DRAWN = {
    "shots": chosen(shots=20000),
    "trajectories": chosen(noise=NOISE, backend="trajectories", options={"trajectories": 20000}),
    "shifted": chosen(diff_method="parameter_shift"),
    "shots of a chain": chosen(shots=20000, backend="mps"),
}


def same(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=2e-5, atol=2e-5)


def compiled(layers=LAYERS):
    for layer, x in layers.values():
        torch._dynamo.reset()  # the limit of recompilations is per class
        call = torch.compile(layer, fullgraph=True, backend="aot_eager")
        leaf = x.clone().requires_grad_()
        found = torch.autograd.grad(call(leaf).square().sum(), [leaf, *layer.parameters()])
        wanted = torch.autograd.grad(layer(leaf).square().sum(), [leaf, *layer.parameters()])
        same(found, wanted)
        same(call(x), layer(x))


def exported(layers=LAYERS):
    for layer, x in layers.values():
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(layer.eval(), (x,), dynamic_shapes={"x": {0: batch}}).module()
        for rows in (1, 2):
            same(program(x[:rows]), layer(x[:rows]))


def exact():
    compiled(EXACT)
    exported(EXACT)


def narrowed():
    # Bonds that lose what a state has, where no rank can be looked at.
    chain = QuantumLayer(3, ansatz="basic_entangler", init="uniform", backend="mps", options={"max_bond": 1})
    compiled({"chain": (chain, torch.randn(2, 3))})
    assert chain.truncation_error > 1e-3  # of the call that was not compiled


def drawn():
    for layer, x in DRAWN.values():
        torch._dynamo.reset()
        call = torch.compile(layer, backend="aot_eager")
        parameters = list(layer.parameters())
        with torch.no_grad():
            torch.testing.assert_close(call(x), layer(x), rtol=0, atol=0.05)
        found, wanted = (torch.autograd.grad(m(x).sum(), parameters)[0] for m in (call, layer))
        torch.testing.assert_close(found, wanted, rtol=0, atol=0.3)
        try:
            torch.export.export(layer, (x,))
        except ValueError as refusal:
            assert "not exported" in str(refusal) and "diff_method='auto'" in str(refusal), refusal
        else:
            raise AssertionError("exported")


def two():
    # Circuits that are met for the first time in one program.
    for first in LAYERS, EXACT:
        torch._dynamo.reset()
        layers = torch.nn.ModuleList(layer for layer, _ in list(first.values())[:2])
        xs = [x for _, x in list(first.values())[:2]]
        call = torch.compile(lambda: [m(x) for m, x in zip(layers, xs)], fullgraph=True, backend="aot_eager")
        for found, layer, x in zip(call(), layers, xs):
            same(found, layer(x))


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

_NAMES = ["compiled", "exported", "exact", "narrowed", "drawn", "two", "transformed", "twice", "distributed"]


@pytest.mark.parametrize("what", _NAMES)
def test_under(what):
    """In a process of its own: compilers read the functions, not the run-time checks around them."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, what], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
