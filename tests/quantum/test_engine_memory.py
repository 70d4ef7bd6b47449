"""The memory of a deep circuit's first call, in a process whose peak is its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import json, sys
from pathlib import Path
import torch
from zoo.quantum import Circuit, ansatz, feature

torch.set_num_threads(1)
N, BATCH = 16, 16


def peak():  # of this process alone: getrusage counts what the parent had when it was forked
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def entangling(n, layers):
    circuit = Circuit(n)
    for wire in range(n):
        circuit.ry(feature(wire), wire)
    return circuit.compose(ansatz("strongly_entangling", n, layers))


def call(circuit, batch):
    weights = torch.randn(circuit.n_weights, requires_grad=True)
    return circuit.expval("z", weights, torch.randn(batch, circuit.n_qubits))


call(entangling(3, 1), 2).sum().backward()  # loads what every call needs
circuit = entangling(N, int(sys.argv[1]))
before, state = peak(), 8 * BATCH * 2**N
values = call(circuit, BATCH)
forward = peak()
values.sum().backward()
print(json.dumps([(forward - before) / state, (peak() - before) / state]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux")
def test_a_few_states_however_deep():
    """Compilation, the expectations and the gradient, in states of the whole batch (8 MiB)."""
    for layers in (10, 40):
        run = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(layers)], check=True, timeout=300, capture_output=True, text=True
        )
        forward, both = json.loads(run.stdout)
        assert 1 < forward < 4
        assert 4 < both < 10
