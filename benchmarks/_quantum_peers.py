"""The circuits of the comparison, and each simulator's way of computing their expectations.

A circuit is a list of gates (name, wires, what turns it, place): "x" is a feature of the sample, "w" a weight. Every
side is a function of a case that gives `value()`, the (batch, observables) expectations, and `gradients()` after a
backward pass: those of the weights and of the features.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.quantum.circuit import Circuit, feature, weight

Gate = tuple[str, tuple[int, ...], str, int]


@dataclass(frozen=True)
class Case:
    """One circuit with its data.

    Args:
        n: qubits.
        gates: in their order; a "zx" or "xx" by weight t is exp(i t ZX).
        weights: (W,).
        x: (batch, I); of the case with bits 0 and 1, which set the qubits they have first.
        bits: x are bits.
        y_of: the qubit whose Y is measured; None: Z of all.
    """

    n: int
    gates: list[Gate]
    weights: Tensor
    x: Tensor
    bits: bool = False
    y_of: int | None = None


@dataclass(frozen=True)
class Side:
    """What one simulator makes of a case."""

    value: Callable[[], Tensor]
    gradients: Callable[[], list[Tensor]]


def entangling(n: int = 10, batch: int = 64, layers: int = 6) -> Case:
    """RY of features, then strongly entangling layers; Z of all."""
    torch.manual_seed(0)
    x = torch.rand(batch, n) * 3 - 1.5
    weights = torch.rand(layers * n * 3) * 6 - 3
    gates: list[Gate] = [("ry", (i,), "x", i) for i in range(n)]
    for layer in range(layers):
        for i in range(n):
            first = 3 * (layer * n + i)
            gates += [("rz", (i,), "w", first), ("ry", (i,), "w", first + 1), ("rz", (i,), "w", first + 2)]
        gates += [("cx", (i, (i + layer % (n - 1) + 1) % n), "", 0) for i in range(n)]
    return Case(n, gates, weights, x)


def dressed() -> Case:
    """The core of the dressed circuit: 4 qubits, 6 layers, all real; Z of all."""
    torch.manual_seed(0)
    x, weights = torch.rand(256, 4) * 3 - 1.5, torch.rand(24) * 6 - 3
    gates: list[Gate] = []
    for i in range(4):
        gates += [("h", (i,), "", 0), ("ry", (i,), "x", i)]
    for layer in range(6):
        gates += [("cx", pair, "", 0) for pair in ((0, 1), (2, 3), (1, 2))]
        gates += [("ry", (i,), "w", 4 * layer + i) for i in range(4)]
    return Case(4, gates, weights, x)


def readout(n: int = 16, batch: int = 16) -> Case:
    """Bits on n qubits, ZX and XX rotations of each with the readout, three layers of both; Y of the readout."""
    torch.manual_seed(0)
    x, weights = torch.randint(0, 2, (batch, n)).float(), torch.rand(6 * n) - 0.5
    gates: list[Gate] = []
    for layer in range(6):
        gates += [("zx" if layer % 2 == 0 else "xx", (i, n), "w", layer * n + i) for i in range(n)]
    return Case(n + 1, gates, weights, x, bits=True, y_of=n)


CASES: dict[str, Callable[[], Case]] = {"SEL10": entangling, "DQC4": dressed, "FN17": readout}


def ours(case: Case) -> Side:
    circuit = Circuit(case.n)
    if case.bits:
        for i in range(case.x.shape[1]):
            circuit.rx(torch.pi * feature(i), i)
    for name, wires, source, place in case.gates:
        angle = {"x": feature(place), "w": weight(place), "": None}[source]
        if name in ("zx", "xx"):
            assert angle is not None
            circuit.pauli_rot(name, -2 * angle, wires)
        else:
            getattr(circuit, name)(*([] if angle is None else [angle]), wires)
    observables = "z" if case.y_of is None else [f"Y{case.y_of}"]
    return _of_tensors(case, lambda weights, x: circuit.expval(observables, weights, x))


def default_qubit(case: Case) -> Side:
    """PennyLane's simulator in PyTorch, differentiated by autograd, in one broadcast call."""
    return _of_tensors(case, _pennylane(case, "default.qubit", "backprop"))


def lightning(case: Case) -> Side:
    """PennyLane's C++ simulator, complex64, adjoint gradients, sample by sample."""
    node = _pennylane(case, "lightning.qubit", "adjoint")
    return _of_tensors(case, lambda weights, x: torch.stack([node(weights, row) for row in x]).to(weights.dtype))


def _pennylane(case: Case, device: str, method: str) -> Callable[[Tensor, Tensor], Tensor]:
    import numpy as np
    import pennylane as qml

    options = {"c_dtype": np.complex64} if device == "lightning.qubit" else {}
    rotations = {"rz": qml.RZ, "ry": qml.RY}
    fixed = {"h": qml.Hadamard, "cx": qml.CNOT}

    @qml.qnode(qml.device(device, wires=case.n, **options), interface="torch", diff_method=method)
    def node(weights: Tensor, x: Tensor):
        if case.bits and method == "adjoint":
            for i in x.nonzero().flatten().tolist():
                qml.PauliX(i)
        elif case.bits:
            for i in range(x.shape[-1]):
                qml.RX(torch.pi * x[..., i], wires=i)
        for name, wires, source, place in case.gates:
            if name in ("zx", "xx"):
                qml.PauliRot(-2 * weights[place], name.upper(), wires=wires)
            elif source:
                rotations[name](weights[place] if source == "w" else x[..., place], wires=wires)
            else:
                fixed[name](wires=wires)
        if case.y_of is not None:
            return [qml.expval(qml.PauliY(case.y_of))]
        return [qml.expval(qml.PauliZ(i)) for i in range(case.n)]

    return lambda weights, x: torch.stack(list(node(weights, x)), dim=-1)


def torchquantum(case: Case) -> Side:
    import torchquantum as tq
    import torchquantum.functional as tqf

    names = {"zx": "rzx", "xx": "rxx", "cx": "cnot", "h": "hadamard"}

    def value(weights: Tensor, x: Tensor) -> Tensor:
        device = tq.QuantumDevice(n_wires=case.n, bsz=len(x))
        if case.bits:
            for i in range(x.shape[1]):
                tqf.rx(device, wires=i, params=torch.pi * x[:, i])
        for name, wires, source, place in case.gates:
            apply, where = getattr(tqf, names.get(name, name)), list(wires) if len(wires) > 1 else wires[0]
            if source:
                factor = -2 if name in ("zx", "xx") else 1
                apply(device, wires=where, params=factor * weights[place] if source == "w" else x[:, place])
            else:
                apply(device, wires=where)
        if case.y_of is not None:  # Y is Z after S^dagger and H; its joint observable builds a matrix of all qubits
            tqf.sdg(device, wires=case.y_of)
            tqf.hadamard(device, wires=case.y_of)
        values = tq.MeasureAll(tq.PauliZ)(device)
        return values if case.y_of is None else values[:, case.y_of : case.y_of + 1]

    return _of_tensors(case, value)


def deepquantum(case: Case) -> Side:
    import deepquantum as dq

    circuit = dq.QubitCircuit(case.n)
    if case.bits:
        for i in range(case.x.shape[1]):
            circuit.rx(i, encode=True)
    order = []
    for name, wires, source, place in case.gates:
        if name == "zx":  # it has no RZX: RZZ between Hadamard gates
            circuit.h(wires[1])
            circuit.rzz(list(wires))
            circuit.h(wires[1])
        elif name == "xx":
            circuit.rxx(list(wires))
        elif source == "x":
            getattr(circuit, name)(wires[0], encode=True)
        elif source == "w":
            getattr(circuit, name)(wires[0])
        else:
            getattr(circuit, "cnot" if name == "cx" else name)(*wires)
        if source == "w":
            order.append(place)
    if case.y_of is None:
        for i in range(case.n):
            circuit.observable(i)
    else:
        circuit.observable(case.y_of, "y")
    own = list(circuit.parameters())
    with torch.no_grad():
        for parameter, place in zip(own, order, strict=True):
            factor = 1 if case.y_of is None else -2
            parameter.copy_(factor * case.weights[place])
    x = (torch.pi * case.x if case.bits else case.x.clone()).requires_grad_(not case.bits)

    def value() -> Tensor:
        circuit(data=x)
        values = circuit.expectation()
        return values if values.dim() == 2 else values.unsqueeze(1)

    def gradients() -> list[Tensor]:
        weights = torch.zeros_like(case.weights)
        for parameter, place in zip(own, order, strict=True):
            weights[place] += (1 if case.y_of is None else -2) * _taken(parameter)
        return [weights] if case.bits else [weights, _taken(x)]

    return Side(value, gradients)


def _of_tensors(case: Case, function: Callable[[Tensor, Tensor], Tensor]) -> Side:
    """A side whose function takes weights and features as tensors."""
    weights, x = case.weights.clone().requires_grad_(), case.x.clone().requires_grad_(not case.bits)

    def gradients() -> list[Tensor]:
        return [_taken(leaf) for leaf in ([weights] if case.bits else [weights, x])]

    return Side(lambda: function(weights, x), gradients)


def _taken(leaf: Tensor) -> Tensor:
    """The gradient of a leaf, which is left without one."""
    gradient, leaf.grad = leaf.grad, None
    assert gradient is not None
    return gradient


#: What they are called, and the package that must be there.
SIDES: dict[str, tuple[Callable[[Case], Side], str]] = {
    "ours": (ours, "zoo"),
    "PennyLane default.qubit, backprop": (default_qubit, "pennylane"),
    "PennyLane lightning.qubit, adjoint": (lightning, "pennylane_lightning"),
    "torchquantum-ng": (torchquantum, "torchquantum"),
    "DeepQuantum": (deepquantum, "deepquantum"),
}


def installed(side: str) -> bool:
    return importlib.util.find_spec(SIDES[side][1]) is not None
