"""Circuits of the tests: those of the golden cases, and random ones over the whole set of gates."""

from __future__ import annotations

import random

import torch

from zoo.quantum.circuit import Circuit, feature, weight
from zoo.quantum.gates import GATES


def strongly_entangling(n: int, layers: int) -> Circuit:
    """RY of every feature, then layers of Rot on all wires and CNOTs whose distance grows."""
    circuit = Circuit(n)
    for wire in range(n):
        circuit.ry(feature(wire), wire)
    for layer in range(layers):
        for wire in range(n):
            place = 3 * (layer * n + wire)
            circuit.rot(weight(place), weight(place + 1), weight(place + 2), wire)
        for wire in range(n):
            circuit.cx(wire, (wire + layer % (n - 1) + 1) % n)
    return circuit


def reuploading(n: int, layers: int) -> Circuit:
    """Layers of RX of scaled features (inputs in the order of layers and wires), Rot on all wires and a ring of CZ."""
    circuit = Circuit(n)
    for layer in range(layers):
        for wire in range(n):
            circuit.rx(feature(layer * n + wire), wire)
        for wire in range(n):
            place = 3 * (layer * n + wire)
            circuit.rot(weight(place), weight(place + 1), weight(place + 2), wire)
        for wire in range(n):
            circuit.cz(wire, (wire + 1) % n)
    return circuit


def random_unitary(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(2**n, 2**n, dtype=torch.complex128, generator=generator))[0]


def random_circuit(n: int, gates: int, seed: int, *, sources: str = "cwi", names: list[str] | None = None) -> Circuit:
    """Gates drawn from the whole set; angles are constants ("c"), weights ("w") or features ("i"), some used twice."""
    draw = random.Random(seed)
    circuit = Circuit(n)
    usable = names or [name for name, gate in GATES.items() if gate.unitary]
    usable = [name for name in usable if GATES[name].n_wires <= n]
    for _ in range(gates):
        gate = GATES[draw.choice(usable)]
        wires = draw.sample(range(n), gate.n_wires or draw.randint(1, min(n, 3)))
        angles = []
        for _ in range(gate.n_angles):
            scale, offset = draw.uniform(-2, 2), draw.uniform(-3, 3)
            match draw.choice(sources):
                case "c":
                    angles.append(offset)
                case "w":
                    angles.append(scale * weight(draw.randrange(4)) + offset)
                case _:
                    angles.append(scale * feature(draw.randrange(3)) + offset)
        given = []
        if gate.name == "pauli_rot":
            given = ["".join(draw.choice("ixyz") for _ in wires)]
        elif gate.name == "unitary":
            given = [random_unitary(len(wires), draw.randrange(1000))]
        elif gate.name == "diagonal":
            given = [torch.polar(torch.ones(2 ** len(wires)).double(), 3 * torch.rand(2 ** len(wires)).double())]
        getattr(circuit, gate.name)(*given, *angles, wires)
    circuit.n_weights, circuit.n_inputs = max(circuit.n_weights, 4), max(circuit.n_inputs, 3)
    return circuit
