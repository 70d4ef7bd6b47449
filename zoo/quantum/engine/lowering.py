"""Gates written as few kinds of pieces: turns of a wire, phases, permutations of basis states, dense matrices.

A wire's place in a mask of bits is that of its bit in the index of a basis state: wire 0 of n is bit n - 1.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from zoo.quantum.angle import Angle
from zoo.quantum.op import Op

_Entry: TypeAlias = complex | float | int
Matrix: TypeAlias = tuple[_Entry, _Entry, _Entry, _Entry]

_NONE = Angle()
_HALF_PI = math.pi / 2


@dataclass(frozen=True)
class Turn:
    """exp(i kind (phi + omega) / 2) RZ(omega) RY(theta) RZ(phi) on one wire."""

    theta: Angle = _NONE
    phi: Angle = _NONE
    omega: Angle = _NONE
    kind: float = 0.0

    @property
    def angles(self) -> tuple[Angle, Angle, Angle]:
        return self.theta, self.phi, self.omega

    @property
    def diagonal(self) -> bool:
        return self.theta == _NONE

    @property
    def real(self) -> bool:
        return self.phi == _NONE and self.omega == _NONE

    def fixed(self) -> "Fixed | None":
        """The matrix, where no angle is to come."""
        if any(angle.source != "constant" for angle in self.angles):
            return None
        theta, phi, omega = (angle.offset / 2 for angle in self.angles)
        c, s, p, m = math.cos(theta), math.sin(theta), phi + omega, phi - omega
        turns = ((self.kind - 1) * p, self.kind * p + m, self.kind * p - m, (self.kind + 1) * p)
        entries = [size * complex(math.cos(t), math.sin(t)) for size, t in zip((c, -s, s, c), turns, strict=True)]
        return Fixed((entries[0], entries[1], entries[2], entries[3]))


@dataclass(frozen=True)
class Fixed:
    """A matrix of numbers, row by row, on one wire."""

    matrix: Matrix

    @property
    def diagonal(self) -> bool:
        return self.matrix[1] == 0 and self.matrix[2] == 0

    @property
    def real(self) -> bool:
        return all(entry.imag == 0 for entry in self.matrix)

    @property
    def identity(self) -> bool:
        a, b, c, d = self.matrix
        return max(abs(a - 1), abs(b), abs(c), abs(d - 1)) < 1e-14

    def after(self, other: "Fixed") -> "Fixed":
        """This matrix times the other."""
        (a, b, c, d), (e, f, g, h) = self.matrix, other.matrix
        return Fixed((a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h))


@dataclass(frozen=True)
class OnWire:
    """A turn or a matrix at its wire."""

    wire: int
    factor: Turn | Fixed


@dataclass(frozen=True)
class Phase:
    """exp(i angle (-1)^(number of ones of x among `wires`)) on every basis state x; no wires: a phase of all."""

    wires: frozenset[int]
    angle: Angle


@dataclass(frozen=True)
class Swapped:
    """A permutation of basis states: `cx`, `swap`, `ccx` or `cswap`."""

    name: str
    wires: tuple[int, ...]


@dataclass(frozen=True)
class Dense:
    """A gate that is applied as its matrix."""

    op: Op


Piece: TypeAlias = OnWire | Phase | Swapped | Dense

_ROOT = 1 / math.sqrt(2)
_H = Fixed((_ROOT, _ROOT, _ROOT, -_ROOT))
_S = Fixed((1, 0, 0, 1j))
_SDG = Fixed((1, 0, 0, -1j))
_FIXED: dict[str, Fixed] = {
    "i": Fixed((1, 0, 0, 1)),
    "x": Fixed((0, 1, 1, 0)),
    "y": Fixed((0, -1j, 1j, 0)),
    "z": Fixed((1, 0, 0, -1)),
    "h": _H,
    "s": _S,
    "sdg": _SDG,
    "t": Fixed((1, 0, 0, complex(_ROOT, _ROOT))),
    "tdg": Fixed((1, 0, 0, complex(_ROOT, -_ROOT))),
    "sx": Fixed((0.5 + 0.5j, 0.5 - 0.5j, 0.5 - 0.5j, 0.5 + 0.5j)),
    "sxdg": Fixed((0.5 - 0.5j, 0.5 + 0.5j, 0.5 + 0.5j, 0.5 - 0.5j)),
}
#: The turns that take the eigenvectors of a Pauli letter to those of Z, and back, in the order in which they act.
_TO_Z = {"x": (_H,), "y": (_SDG, _H), "z": ()}
_FROM_Z = {"x": (_H,), "y": (_H, _S), "z": ()}
_PERMUTATIONS = ("cx", "swap", "ccx", "cswap")


def lower(op: Op) -> Iterator[Piece]:
    """The pieces of a gate, in the order in which they act."""
    name, wires, angles = op.gate.name, op.wires, op.angles
    if name in _FIXED:
        yield OnWire(wires[0], _FIXED[name])
    elif name in ("rx", "ry", "rz", "phase", "rot", "u2", "u3"):
        turn = _turn(name, angles)
        yield OnWire(wires[0], turn.fixed() or turn)
    elif name in _PERMUTATIONS:
        yield Swapped(name, wires)
    elif name in ("cz", "ccz"):
        yield from _controlled_phase(wires, Angle(offset=math.pi))
    elif name == "cphase":
        yield from _controlled_phase(wires, angles[0])
    elif name in ("rzz", "rxx", "ryy", "multirz", "pauli_rot"):
        yield from _pauli_rotation(op.word or name[1:], wires, angles[0])
    elif name == "cy":
        yield OnWire(wires[1], _SDG)
        yield Swapped("cx", wires)
        yield OnWire(wires[1], _S)
    elif name == "ch":  # H = RY(pi/4) Z RY(-pi/4)
        yield from lower_turn(wires[1], Turn(theta=Angle(offset=-math.pi / 4)))
        yield from _controlled_phase(wires, Angle(offset=math.pi))
        yield from lower_turn(wires[1], Turn(theta=Angle(offset=math.pi / 4)))
    elif name in ("crx", "cry", "crz"):
        yield from _controlled_rotation(name[2], wires, angles[0])
    elif name == "crot":
        for letter, angle in zip("zyz", angles, strict=True):
            yield from _controlled_rotation(letter, wires, angle)
    elif name in ("pswap", "iswap"):
        angle = angles[0] if angles else Angle(offset=_HALF_PI)
        yield Phase(frozenset(), angle / 2)
        yield Phase(frozenset(wires), -angle / 2)
        yield Swapped("swap", wires)
    elif name == "unitary" and len(wires) == 1:
        a, b, c, d = op.matrix
        yield OnWire(wires[0], Fixed((a, b, c, d)))
    elif name == "diagonal" and len(wires) <= 6:
        yield from _given_phases(wires, op.given)
    else:
        yield Dense(op)


def lower_turn(wire: int, turn: Turn) -> Iterator[Piece]:
    """A turn at its wire, as a matrix where its angles are numbers."""
    yield OnWire(wire, turn.fixed() or turn)


def turn_phases(wire: int, factor: Turn | Fixed) -> Iterator[Phase]:
    """A diagonal turn as phases."""
    if isinstance(factor, Fixed):
        first, last = (math.atan2(entry.imag, entry.real) for entry in (factor.matrix[0], factor.matrix[3]))
        angles = [(Angle(offset=(first + last) / 2), Angle(offset=(first - last) / 2))]
    else:
        angles = [(angle * (factor.kind / 2), -angle / 2) for angle in (factor.phi, factor.omega)]
    for common, apart in angles:
        if common != _NONE and common.scale:
            yield Phase(frozenset(), common)
        if apart != _NONE:
            yield Phase(frozenset([wire]), apart)


def _turn(name: str, angles: tuple[Angle, ...]) -> Turn:
    match name:
        case "rx":
            return Turn(angles[0], Angle(offset=_HALF_PI), Angle(offset=-_HALF_PI))
        case "ry":
            return Turn(angles[0])
        case "rz":
            return Turn(phi=angles[0])
        case "phase":
            return Turn(phi=angles[0], kind=1.0)
        case "rot":
            return Turn(angles[1], angles[0], angles[2])
        case "u2":
            return Turn(Angle(offset=_HALF_PI), angles[1], angles[0], 1.0)
        case _:
            return Turn(angles[0], angles[2], angles[1], 1.0)


def _controlled_phase(wires: tuple[int, ...], angle: Angle) -> Iterator[Phase]:
    """exp(i angle) where all wires are 1: angle times the product of (1 - Z) / 2."""
    for count in range(len(wires) + 1):
        for chosen in itertools.combinations(wires, count):
            yield Phase(frozenset(chosen), angle * ((-1) ** count / 2 ** len(wires)))


def _controlled_rotation(letter: str, wires: tuple[int, ...], angle: Angle) -> Iterator[Piece]:
    control, target = wires
    for matrix in _TO_Z[letter]:
        yield OnWire(target, matrix)
    yield Phase(frozenset([target]), -angle / 4)
    yield Phase(frozenset([control, target]), angle / 4)
    for matrix in _FROM_Z[letter]:
        yield OnWire(target, matrix)


def _pauli_rotation(word: str, wires: tuple[int, ...], angle: Angle) -> Iterator[Piece]:
    letters = [(wire, letter) for wire, letter in zip(wires, word, strict=True) if letter != "i"]
    for wire, letter in letters:
        for matrix in _TO_Z[letter]:
            yield OnWire(wire, matrix)
    yield Phase(frozenset(wire for wire, _ in letters), -angle / 2)
    for wire, letter in letters:
        for matrix in _FROM_Z[letter]:
            yield OnWire(wire, matrix)


def _given_phases(wires: tuple[int, ...], entries: Tensor) -> Iterator[Phase]:
    """Any diagonal: its phases in the basis of products of Z (a Walsh-Hadamard transform)."""
    coefficients = entries.angle()
    for place in range(len(wires)):
        pairs = coefficients.view(2**place, 2, -1)
        coefficients = torch.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], dim=1).flatten() / 2
    for index, value in enumerate(coefficients.tolist()):
        chosen = [wire for place, wire in enumerate(wires) if index >> (len(wires) - 1 - place) & 1]
        if value:
            yield Phase(frozenset(chosen), Angle(offset=value))
