"""A unitary matrix, or a diagonal one, as rotations: exact up to a global phase.

A diagonal exp(i phi_x) is a product of rotations about words of Z, whose angles are the Walsh-Hadamard transform of
phi. Any other matrix is brought to a diagonal by rotations among two basis states at a time. Taken in the order of a
Gray code these differ in one bit, so that each is a rotation of one wire that the other wires control.
"""

import cmath
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zoo.quantum.angle import as_angle
from zoo.quantum.gates import GATES
from zoo.quantum.op import Op

#: Angles below this are left out.
_NOTHING = 1e-13


@dataclass(frozen=True)
class Controlled:
    """A gate of one wire that acts where other wires read `bits`.

    Args:
        op: the gate.
        controls: the other wires.
        bits: a 0 or 1 a control.
    """

    op: Op
    controls: tuple[int, ...] = ()
    bits: str = ""

    @property
    def on_all_wires(self) -> Op:
        """The gate on its wires and its controls, for counting layers."""
        return replace(self.op, wires=(*self.controls, *self.op.wires))


def diagonal_ops(entries: Tensor, wires: tuple[int, ...]) -> Iterator[Op]:
    """Rotations about words of Z whose product is the diagonal matrix.

    Args:
        entries: (2^k,) complex128 numbers of size 1.
        wires: k wires.
    """
    k = len(wires)
    amounts = entries.angle()
    for bit in range(k):
        pairs = amounts.reshape(2**bit, 2, -1)
        amounts = torch.stack([pairs.sum(1), pairs[:, 0] - pairs[:, 1]], dim=1).flatten()
    for subset, amount in enumerate((amounts / 2**k).tolist()):
        chosen = tuple(wire for place, wire in enumerate(wires) if subset >> (k - 1 - place) & 1)
        if chosen and abs(amount) > _NOTHING:
            yield Op(GATES["multirz"], chosen, (as_angle(-2 * amount),), "z" * len(chosen))


def unitary_ops(matrix: Tensor, wires: tuple[int, ...]) -> list[Controlled]:
    """Rotations whose product is the matrix.

    Args:
        matrix: (2^k, 2^k) complex128, unitary.
        wires: k wires.
    """
    d = len(matrix)
    order = [i ^ (i >> 1) for i in range(d)]
    left = matrix.clone()
    turns: list[tuple[int, int, Tensor]] = []
    for column in range(d - 1):
        for row in range(d - 1, column, -1):
            low, high = sorted((order[row - 1], order[row]))
            pair = [low, high]
            kept, gone = left[order[row - 1], order[column]].item(), left[order[row], order[column]].item()
            size = math.hypot(abs(kept), abs(gone))
            if abs(gone) <= _NOTHING * max(size, 1):
                continue
            turn = (
                torch.tensor(
                    [[kept.conjugate(), gone.conjugate()], [-gone, kept]], dtype=torch.complex128, device="cpu"
                )
                / size
            )
            if order[row - 1] == high:
                turn = turn.flip(0, 1)
            left[pair] = turn @ left[pair]
            turns.append((low, high, turn.mH))
    found = [Controlled(op) for op in diagonal_ops(left.diagonal() / left.diagonal().abs(), wires)]
    for low, high, turn in reversed(turns):
        found.extend(_turns(turn, low, high, wires))
    return found


def _turns(matrix: Tensor, low: int, high: int, wires: tuple[int, ...]) -> Iterator[Controlled]:
    """A matrix of determinant 1 on two basis states that differ in one bit: RZ, RY, RZ."""
    k = len(wires)
    place = k - 1 - ((low ^ high).bit_length() - 1)
    controls = tuple(wire for i, wire in enumerate(wires) if i != place)
    bits = "".join(bit for i, bit in enumerate(format(low, f"0{k}b")) if i != place)
    (a, _), (c, _) = matrix.tolist()
    # [[e^{-i(x+z)/2} cos, ...], [e^{i(x-z)/2} sin, ...]] for RZ(x) RY(y) RZ(z)
    y = 2 * math.atan2(abs(c), abs(a))
    total, difference = -2 * cmath.phase(a), 2 * cmath.phase(c)
    x, z = (total + difference) / 2, (total - difference) / 2
    for name, angle in (("rz", z), ("ry", y), ("rz", x)):
        if abs(angle) > _NOTHING:
            yield Controlled(Op(GATES[name], (wires[place],), (as_angle(angle),)), controls, bits)
