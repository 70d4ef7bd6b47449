"""Circuits under compilers, exporters and function transforms, in a process without checks of annotations."""

import subprocess
import sys

import pytest

_SCRIPT = """
import sys, warnings
warnings.simplefilter("error")
for kind in (DeprecationWarning, FutureWarning):
    warnings.simplefilter("ignore", kind)
import torch
from torch.func import jacrev, vmap
from tests.quantum.samples import reuploading
from zoo.quantum.circuit import Circuit, feature
from zoo.quantum.noise import NoiseModel, ReadoutError
from zoo.quantum.observables import Hermitian, parse_observables
from zoo.quantum.paulis import PauliWord

torch.manual_seed(0)
OBSERVABLES = ["Z0", "X0 Y1", "0.5 Z0 Z1 + 1"]


# Text that is met for the first time in the traced call, and observables of every kind.
SQUARED = [
    "X0 Y1 - 0.3 Z0 + 2",
    "|01>",
    "|1> 1",
    PauliWord(((1, "y"),)),
    *parse_observables("0.5 X0 Z1 + Y0 - Z1", 2),
    Hermitian([[0.5, 1j], [-1j, 2.0]], 1),
]


class Model(torch.nn.Module):
    def __init__(self, circuit, method, ask="expval", observables=OBSERVABLES, **options):
        super().__init__()
        self.circuit, self.method, self.options = circuit, method, options
        self.ask, self.observables = ask, observables
        self.weights = torch.nn.Parameter(torch.rand(circuit.n_weights))

    def forward(self, x):
        ask = getattr(self.circuit, self.ask)
        return ask(self.observables, self.weights, x, method=self.method, **self.options)


def wide():
    circuit = Circuit(4).ry("a", 0).cx(0, 1).rx(feature(0), 1).cx(1, 2).ry("b", 3)
    readout = NoiseModel(readout=ReadoutError(0.1, 0.2))
    noise = NoiseModel(after={"1q": ("depolarizing", 0.1)}, readout=0.1)
    asked, x = ["X0 Y1", "0.5 Z0 Z3 + 1", "|01> 0, 2"], torch.rand(3, 1)
    for method, given in (("lightcone", None), ("lightcone", readout), ("mps", readout), ("lightcone", noise)):
        model = Model(circuit, method, observables=asked, noise=given)
        torch._dynamo.reset()
        same(torch.compile(model, fullgraph=True, backend="aot_eager")(x), model(x))
        same(torch.export.export(model, (x,)).module()(x), model(x))


def built_inside():
    outside = Circuit(2).rx("a", 0)

    def build(w):
        circuit = outside.copy().cx(0, 1)
        circuit.compose(Circuit(2).ry("b", 1))
        return circuit.expval("Z1", 2 * w) + 1

    w = torch.tensor([0.3, 0.4])
    same(torch.compile(build, backend="eager")(w), build(w))
    torch._dynamo.reset()
    try:
        torch.compile(build, backend="eager", fullgraph=True)(w)
    except torch._dynamo.exc.Unsupported as error:
        assert "build it before the function that is compiled" in str(error)
    else:
        raise AssertionError("the circuit was traced")


def cases():
    small = Circuit(2).rx("a", 0).crx(feature(0), 0, 1).pauli_rot("xy", "a", [0, 1])
    for circuit, method in ((reuploading(2, 1), "auto"), (small, "reference")):
        yield Model(circuit, method), torch.rand(5, circuit.n_inputs)


def variances():
    circuit = Circuit(2).ry("a", 0).cx(0, 1).rx("b", 1)
    for method, options in (("auto", {}), ("auto", {"max_memory": 10**8}), ("lightcone", {})):
        model, x = Model(circuit, method, "var", SQUARED, **options), torch.zeros(3, 0)
        torch._dynamo.reset()  # the limit of recompilations is per class
        call = torch.compile(model, fullgraph=True, backend="aot_eager")
        same(call(x), model(x))
        found, wanted = (torch.autograd.grad(m(x).square().sum(), model.weights)[0] for m in (call, model))
        same(found, wanted)
        if method == "auto" and not options:
            same(torch.export.export(model, (x,)).module()(x), model(x))


def same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def compiled():
    for model, x in cases():
        call = torch.compile(model, fullgraph=True, backend="aot_eager")
        for rows in (x, x[:3]):
            same(call(rows), model(rows))
        found, wanted = (torch.autograd.grad(m(x).square().sum(), model.weights)[0] for m in (call, model))
        same(found, wanted)


def exported():
    for model, x in cases():
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: batch}}).module()
        for rows in (x, x[:1], torch.rand(9, x.shape[1])):
            same(program(rows), model(rows))


def transformed():
    for model, x in cases():
        weights = model.weights.detach()
        ask = lambda w, v: model.circuit.expval(OBSERVABLES, w, v, method=model.method)
        same(vmap(ask, in_dims=(None, 0))(weights, x), ask(weights, x))
        wanted = torch.autograd.functional.jacobian(lambda w: ask(w, x), weights)
        same(jacrev(lambda w: ask(w, x))(weights), wanted)


globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize("what", ["compiled", "exported", "transformed", "variances", "wide", "built_inside"])
def test_under(what):
    done = subprocess.run([sys.executable, "-c", _SCRIPT, what], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
