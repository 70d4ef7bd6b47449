"""Circuits too wide for a vector of all amplitudes: matrix product states and causal cones, against quimb.

`python -m benchmarks.quantum_wide` prints a Markdown table. quimb is optional: `pip install quimb`. Its side is
`CircuitMPS` with bonds up to 32 and singular values below 1e-10 dropped, one call a sample, in complex128; ours is
float32. Values are compared first.
"""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks._measure import Job, Measurement, Workload, compare, table
from zoo.quantum import Circuit, expval, feature, weight

MPS_SIDE, CONES, QUIMB = "ours, matrix product state", "ours, causal cones", "quimb, CircuitMPS"
BRICKS, STAR = "40 qubits, 4 layers", "31 qubits, ZX and XX twice"
#: What may differ between float32 and complex128.
_LIMIT = 1e-4


@dataclass(frozen=True)
class Case:
    """A circuit, its values, what is measured, and the widest bond of ours."""

    circuit: Circuit
    weights: Tensor
    inputs: Tensor
    observables: list[str]
    max_bond: int


def case(name: str, batch: int) -> Case:
    """Neighbours in layers, or every data qubit with the readout, which is the last."""
    generator = torch.Generator().manual_seed(0)
    if name == BRICKS:
        n, layers = 40, 4
        circuit = Circuit(n)
        for wire in range(n):
            circuit.ry(feature(wire), wire)
        for layer in range(layers):
            for wire in range(layer % 2, n - 1, 2):
                circuit.cx(wire, wire + 1)
            for wire in range(n):
                circuit.rx(weight(layer * n + wire), wire)
        weights = 6 * torch.rand(layers * n, generator=generator) - 3
        inputs = 3 * torch.rand(batch, n, generator=generator) - 1.5
        return Case(circuit, weights, inputs, [f"Z{wire}" for wire in range(n)], 64)
    n, letters = 30, ["zx", "xx"] * 2
    circuit = Circuit(n + 1)
    for wire in range(n):
        circuit.rx(feature(wire), wire)
    for layer, word in enumerate(letters):
        for wire in range(n):
            circuit.pauli_rot(word, weight(layer * n + wire), [wire, n])
    weights = 0.6 * torch.rand(len(letters) * n, generator=generator) - 0.3
    inputs = math.pi * torch.randint(0, 2, (batch, n), generator=generator)
    return Case(circuit, weights, inputs, [f"Y{n}"], 8)


def call(side: str, name: str, batch: int, training: bool) -> Workload:
    """Expectations of the batch, and with `training` the gradient of their sum."""
    one = case(name, batch)
    one.weights.requires_grad_(training)
    answer = _quimb(one) if side == QUIMB else _ours(side, one)

    def inference() -> None:
        with torch.no_grad():
            answer()

    def step() -> None:
        one.weights.grad = None
        answer().sum().backward()

    return Workload(step, lambda: answer().sum(), [one.weights, one.inputs]) if training else Workload(inference)


def _ours(side: str, one: Case) -> Callable[[], Tensor]:
    options: dict[str, Any] = {"method": "lightcone"} if side == CONES else {"method": "mps", "max_bond": one.max_bond}
    return lambda: expval(one.circuit, one.observables, one.weights, one.inputs, **options)


def _quimb(one: Case) -> Callable[[], Tensor]:
    quimb: Any = __import__("quimb.tensor")
    names = {"cx": "CNOT", "rx": "RX", "ry": "RY"}
    read = [(quimb.pauli(text[0]), (int(text[1:]),)) for text in one.observables]

    def sample(features: list[float], weights: list[float]) -> list[float]:
        chain = quimb.tensor.CircuitMPS(one.circuit.n_qubits, max_bond=32, cutoff=1e-10)
        for op in one.circuit:
            angles = [(features if angle.source == "input" else weights)[angle.place] for angle in op.angles]
            if op.gate.name == "pauli_rot":
                word = quimb.kron(*(quimb.pauli(letter) for letter in op.word.upper()))
                half = angles[0] / 2
                chain.apply_gate_raw(math.cos(half) * quimb.eye(4) - 1j * math.sin(half) * word, op.wires)
            else:
                chain.apply_gate(names[op.gate.name], *angles, *op.wires)
        return [chain.local_expectation(matrix, wires).real for matrix, wires in read]

    return lambda: torch.tensor([sample(row, one.weights.tolist()) for row in one.inputs.tolist()])


def _rows(name: str, batch: int, training: bool) -> list[list[str]]:
    sides = [MPS_SIDE, *([CONES] if name == BRICKS else []), *([] if training else [QUIMB])]
    installed = importlib.util.find_spec("quimb") is not None
    here = [side for side in sides if side != QUIMB or installed]
    _check(here, name, batch)
    jobs = {
        side: Job("benchmarks.quantum_wide:call", {"side": side, "name": name, "batch": batch, "training": training})
        for side in here
    }
    found = compare(jobs)
    start = [name, str(batch), "forward + backward" if training else "forward"]
    return [[*start, side, *_cells(found.get(side), found[MPS_SIDE])] for side in sides]


def _check(sides: list[str], name: str, batch: int) -> None:
    one = case(name, batch)
    with torch.no_grad():
        values = {side: (_quimb(one) if side == QUIMB else _ours(side, one))() for side in sides}
    for side, found in values.items():
        worst = float((found - values[MPS_SIDE]).abs().max())
        if not worst < _LIMIT:
            raise RuntimeError(f"{side} differs by {worst:.2g} from {MPS_SIDE} on {name}")


def _cells(side: Measurement | None, ours: Measurement) -> list[str]:
    if side is None:
        return ["not installed", *[""] * 3]
    return [
        f"{side.reuse_ms:.1f}",
        f"{side.reuse_ms / ours.reuse_ms:.2f}",
        f"{side.default_ms:.1f}",
        f"{side.default_ms / ours.default_ms:.2f}",
    ]


def main() -> None:
    rows = []
    for name, batch in ((BRICKS, 1), (BRICKS, 16)):
        for training in (False, True):
            rows += _rows(name, batch, training)
    rows += _rows(STAR, 4, False)
    head = ["circuit", "samples", "pass", "side", "ms (reuse)", "times ours", "ms (default)", "times ours"]
    print(table(head, rows))
    print(
        "\n*Times ours* is against our matrix product state. The first circuit is RY of every feature, then layers of "
        "CNOTs between neighbours and RX on all wires, with ⟨Z⟩ of every wire; its exact bond is 4 and its widest cone "
        "has 8 qubits. The second is the QNN of Farhi and Neven with 30 data qubits as a plain circuit, ⟨Y⟩ of the "
        "readout: its exact bond is 8, but every gate reaches from a data qubit to the last wire. Our gradient is by "
        "autograd through the chain, or by the adjoint method through the cones."
    )


if __name__ == "__main__":
    main()
