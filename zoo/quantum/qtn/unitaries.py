"""The unitaries of one small circuit for many rows of angles, a few operations for each kind of gate in it."""

from collections import defaultdict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from zoo.quantum.circuit import Circuit
from zoo.quantum.op import Op
from zoo.quantum.qtn.scan import ordered_product


@dataclass(frozen=True)
class _Kind:
    """The gates of one kind in a circuit.

    Attributes:
        example: one of them.
        weights, scales, offsets: their angles, one gate behind the other.
        places: where each entry of the unitary of the whole circuit lies in the gate's matrix, row by row; behind its
            end for zeros. One list a gate.
    """

    example: Op
    weights: list[int]
    scales: list[float]
    offsets: list[float]
    places: list[list[int]]


class SmallCircuit:
    """A circuit of gates with weights, prepared for `unitaries`.

    Args:
        circuit: all of whose ops are gates, none of which reads an input.
    """

    def __init__(self, circuit: Circuit):
        self.circuit, self.n_weights, self.dim = circuit, circuit.n_weights, 2**circuit.n_qubits
        kinds: dict[object, list[int]] = defaultdict(list)
        for k, op in enumerate(circuit.ops):
            kinds[op.gate, op.word, op.matrix].append(k)
        self._order = [k for members in kinds.values() for k in members]
        self._kinds = [self._kind([circuit.ops[k] for k in members]) for members in kinds.values()]

    def _kind(self, ops: list[Op]) -> _Kind:
        angles = [angle for op in ops for angle in op.angles]
        return _Kind(
            ops[0],
            [angle.place if angle.source == "weight" else 0 for angle in angles],
            [angle.scale if angle.source == "weight" else 0.0 for angle in angles],
            [angle.offset for angle in angles],
            [self._places(op) for op in ops],
        )

    def _places(self, op: Op) -> list[int]:
        n, small = self.circuit.n_qubits, 2 ** len(op.wires)
        shifts = [n - 1 - wire for wire in op.wires]
        chosen = sum(1 << shift for shift in shifts)

        def inner(state: int) -> int:
            return sum((state >> shift & 1) << k for k, shift in enumerate(reversed(shifts)))

        return [
            inner(row) * small + inner(column) if row & ~chosen == column & ~chosen else small**2
            for row in range(self.dim)
            for column in range(self.dim)
        ]

    def unitaries(self, weights: Float[Tensor, "rows weights"]) -> Complex[Tensor, "rows dim dim"]:
        """One for every row; differentiable."""
        rows, device, parts = weights.shape[0], weights.device, []
        for kind in self._kinds:
            gates = len(kind.places)
            angles = weights.index_select(1, torch.tensor(kind.weights, dtype=torch.long, device=device))
            angles = angles * weights.new_tensor(kind.scales) + weights.new_tensor(kind.offsets)
            small = kind.example.unitary(angles.view(rows, gates, len(kind.example.angles))).flatten(2)
            places = torch.tensor(kind.places, device=device).expand(rows, -1, -1)
            parts.append(F.pad(small, (0, 1)).gather(2, places))
        everything = torch.cat(parts, 1).unflatten(2, (self.dim, self.dim))
        order = sorted(range(len(self._order)), key=self._order.__getitem__)
        return ordered_product(everything[:, order])
