"""Circuits and observables as plain matrices on all wires: slow, and written without the package's simulation."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.quantum.circuit import Circuit
from zoo.quantum.gates import PAULIS
from zoo.quantum.observables import Hermitian, Observable, Projector
from zoo.quantum.paulis import PauliSum


def embedded(matrix: Tensor, wires: tuple[int, ...], n: int) -> Tensor:
    """A matrix on some wires as one on all: entry by entry, by the bits of rows and columns."""
    full = torch.zeros(2**n, 2**n, dtype=torch.complex128)
    shifts = [n - 1 - wire for wire in wires]
    for column in range(2**n):
        small = int("".join(str(column >> shift & 1) for shift in shifts), 2)
        rest = column & ~sum(1 << shift for shift in shifts)
        for row in range(len(matrix)):
            bits = format(row, f"0{len(wires)}b")
            full[rest | sum(int(bit) << shift for bit, shift in zip(bits, shifts, strict=True)), column] = matrix[
                row, small
            ]
    return full


def circuit_matrix(circuit: Circuit, weights: Tensor, inputs: Tensor) -> Tensor:
    """(2^n, 2^n) for (W,) weights and (I,) inputs in float64."""
    full = torch.eye(2**circuit.n_qubits, dtype=torch.complex128)
    vectors = {"weight": weights, "input": inputs}
    for op in circuit:
        values = [
            a.offset if a.source == "constant" else a.scale * vectors[a.source][a.place] + a.offset for a in op.angles
        ]
        full = embedded(op.unitary(torch.tensor(values, dtype=torch.float64)), op.wires, circuit.n_qubits) @ full
    return full


def observable_matrix(observable: Observable, n: int) -> Tensor:
    if isinstance(observable, Hermitian):
        return embedded(observable.matrix, observable.wires, n)
    if isinstance(observable, Projector):
        small = torch.zeros(2 ** len(observable.wires), dtype=torch.complex128)
        small[int(observable.bits, 2)] = 1
        return embedded(torch.diag(small), observable.wires, n)
    assert isinstance(observable, PauliSum)
    total = torch.zeros(2**n, 2**n, dtype=torch.complex128)
    for coefficient, word in observable.terms:
        term = torch.eye(2**n, dtype=torch.complex128)
        for wire, letter in word.letters:
            term = term @ embedded(torch.tensor(PAULIS[letter], dtype=torch.complex128), (wire,), n)
        total += coefficient * term
    return total
