"""The fast way to a state under compilers and exporters, in a process without checks of annotations."""

import subprocess
import sys

import pytest

_SCRIPT = """
import sys, warnings
warnings.simplefilter("error")
for kind in (DeprecationWarning, FutureWarning):
    warnings.simplefilter("ignore", kind)
import torch
from tests.quantum.samples import random_circuit, reuploading
from zoo.quantum.engine import evolve

torch.manual_seed(0)


class Model(torch.nn.Module):
    def __init__(self, circuit, given):
        super().__init__()
        self.circuit = circuit
        self.weights = torch.nn.Parameter(torch.rand(circuit.n_weights))
        start = torch.polar(torch.ones(1, 2**circuit.n_qubits), torch.rand(1, 2**circuit.n_qubits))
        self.register_buffer("start", start if given else None)

    def forward(self, x):
        return torch.view_as_real(evolve(self.circuit, self.weights, x, self.start))


def cases(circuits=(random_circuit(3, 12, 0), random_circuit(6, 15, 1), reuploading(3, 2))):
    for circuit, given in zip(circuits, (True, False, False)):
        yield Model(circuit, given), torch.rand(5, circuit.n_inputs)


def small_cases():
    return cases((random_circuit(3, 8, 0), random_circuit(5, 8, 1)))


def same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def compiled():
    for model, x in small_cases():
        call = torch.compile(model, fullgraph=True, backend="aot_eager")
        for rows in (x, x[:3]):
            same(call(rows), model(rows))
        found, wanted = (torch.autograd.grad(m(x).square().sum(), model.weights)[0] for m in (call, model))
        same(found, wanted)
        torch.compiler.reset()


def exported():
    for model, x in cases():
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: batch}}).module()
        for rows in (x, x[:1], torch.rand(20, x.shape[1])):
            same(program(rows), model(rows))


def light():
    circuit = random_circuit(3, 15, 0)
    evolve(circuit, torch.rand(circuit.n_weights), torch.rand(2, circuit.n_inputs))
    assert "torch._dynamo" not in sys.modules


globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize("what", ["compiled", "exported", "light"])
def test_in_a_process_of_its_own(what):
    subprocess.run([sys.executable, "-c", _SCRIPT, what], check=True, timeout=600)
