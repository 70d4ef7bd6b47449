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

torch.manual_seed(0)
OBSERVABLES = ["Z0", "X0 Y1", "0.5 Z0 Z1 + 1"]


class Model(torch.nn.Module):
    def __init__(self, circuit, method):
        super().__init__()
        self.circuit, self.method = circuit, method
        self.weights = torch.nn.Parameter(torch.rand(circuit.n_weights))

    def forward(self, x):
        return self.circuit.expval(OBSERVABLES, self.weights, x, method=self.method)


def cases():
    small = Circuit(2).rx("a", 0).crx(feature(0), 0, 1).pauli_rot("xy", "a", [0, 1])
    for circuit, method in ((reuploading(2, 1), "auto"), (small, "reference")):
        yield Model(circuit, method), torch.rand(5, circuit.n_inputs)


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


@pytest.mark.parametrize("what", ["compiled", "exported", "transformed"])
def test_under(what):
    done = subprocess.run([sys.executable, "-c", _SCRIPT, what], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
