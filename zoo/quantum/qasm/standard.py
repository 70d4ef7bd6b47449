"""Every gate in those of OpenQASM's stdgates.inc, up to a global phase."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

from zoo.quantum.angle import Angle, as_angle
from zoo.quantum.gates import GATES
from zoo.quantum.op import Op
from zoo.quantum.qasm.decompose import Controlled, diagonal_ops, unitary_ops

#: Our name -> that of stdgates.inc, of gates that are there.
NAMES: dict[str, str] = {
    **{name: name for name in ("x", "y", "z", "h", "s", "t", "sdg", "tdg", "sx", "rx", "ry", "rz", "cx", "cy", "cz")},
    **{name: name for name in ("ch", "swap", "crx", "cry", "crz", "ccx", "cswap")},
    "i": "id",
    "phase": "p",
    "cphase": "cp",
    "u3": "U",
}
#: Names in stdgates.inc that we do not write -> ours. It has one gate more, `cu`.
ALSO = {"CX": "cx", "phase": "phase", "cphase": "cphase", "u1": "phase", "u2": "u2", "u3": "u3"}
#: All names of stdgates.inc.
GATE_NAMES = {*NAMES.values(), *ALSO, "cu"}
#: What brings a letter's basis to that of Z, and back.
_TO_Z: dict[str, tuple[str, ...]] = {"x": ("h",), "y": ("sdg", "h"), "z": ()}
_FROM_Z: dict[str, tuple[str, ...]] = {"x": ("h",), "y": ("h", "s"), "z": ()}


def standard(ops: Iterable[Op]) -> Iterator[Controlled]:
    """The same circuit in gates of stdgates.inc; those with controls are rotations of one wire.

    Raises:
        ValueError: post-selections and channels are no gates.
    """
    for op in ops:
        name = op.gate.name
        if name in NAMES:
            yield Controlled(op)
        elif name == "unitary":
            d = 2 ** len(op.wires)
            for part in unitary_ops(op.given.reshape(d, d), op.wires):
                yield from [_shorter(part)] if part.controls else standard([part.op])
        elif name in _RULES:
            yield from standard(_RULES[name](op))
        else:
            raise ValueError(f"OpenQASM 3 has no {name!r}: a program is made of gates and final measurements")


def _shorter(part: Controlled) -> Controlled:
    """A gate of its own for a rotation with one control that reads 1."""
    if part.bits != "1":
        return part
    return Controlled(replace(part.op, gate=GATES[f"c{part.op.gate.name}"], wires=(*part.controls, *part.op.wires)))


def to_z(basis: dict[int, str]) -> Iterator[Op]:
    """Gates after which measuring in Z is measuring in `basis` (wire -> letter)."""
    for wire, letter in basis.items():
        yield from (_op(name, wire) for name in _TO_Z[letter])


def _op(name: str, *wires: int, angle: Angle | None = None, word: str = "") -> Op:
    return Op(GATES[name], wires, () if angle is None else (angle,), word)


def _pauli_rot(op: Op) -> Iterator[Op]:
    """A rotation about Z of the last wire between two ladders of CNOT, in the basis of the word."""
    letters = [(wire, letter) for wire, letter in zip(op.wires, op.word, strict=True) if letter != "i"]
    if not letters:
        return
    wires = [wire for wire, _ in letters]
    yield from to_z(dict(letters))
    ladder = [_op("cx", *pair) for pair in pairwise(wires)]
    yield from ladder
    yield _op("rz", wires[-1], angle=op.angles[0])
    yield from reversed(ladder)
    for wire, letter in letters:
        yield from (_op(name, wire) for name in _FROM_Z[letter])


def _word(word: str, factor: float = 1.0) -> Callable[[Op], Iterable[Op]]:
    return lambda op: [_op("pauli_rot", *op.wires, angle=op.angles[0] * factor, word=word)]


def _rxy(op: Op) -> list[Op]:
    return [_op("pauli_rot", *op.wires, angle=op.angles[0] * -0.5, word=word) for word in ("xx", "yy")]


def _single_excitation(op: Op) -> list[Op]:
    return [
        _op("pauli_rot", *op.wires, angle=op.angles[0] * factor, word=word)
        for word, factor in (("yx", 0.5), ("xy", -0.5))
    ]


def _rot(op: Op) -> list[Op]:
    return [_op(name, *op.wires, angle=angle) for name, angle in zip(("rz", "ry", "rz"), op.angles, strict=True)]


def _crot(op: Op) -> list[Op]:
    return [_op(name, *op.wires, angle=angle) for name, angle in zip(("crz", "cry", "crz"), op.angles, strict=True)]


def _u2(op: Op) -> list[Op]:
    return [Op(GATES["u3"], op.wires, (as_angle(math.pi / 2), *op.angles))]


def _iswap(op: Op) -> list[Op]:
    a, b = op.wires
    return [_op("s", a), _op("s", b), _op("h", a), _op("cx", a, b), _op("cx", b, a), _op("h", b)]


def _siswap(op: Op) -> list[Op]:
    return [_op("rxy", *op.wires, angle=as_angle(math.pi / 2))]


def _ecr(op: Op) -> list[Op]:
    return [_op("pauli_rot", *op.wires, angle=as_angle(math.pi / 2), word="zx"), _op("x", op.wires[0])]


def _pswap(op: Op) -> list[Op]:
    return [_op("swap", *op.wires), _op("rzz", *op.wires, angle=op.angles[0])]


def _ccz(op: Op) -> list[Op]:
    target = op.wires[2]
    return [_op("h", target), _op("ccx", *op.wires), _op("h", target)]


_RULES: dict[str, Callable[[Op], Iterable[Op]]] = {
    "sxdg": lambda op: [_op("rx", *op.wires, angle=as_angle(-math.pi / 2))],
    "rot": _rot,
    "u2": _u2,
    "iswap": _iswap,
    "siswap": _siswap,
    "ecr": _ecr,
    "crot": _crot,
    "rxx": _word("xx"),
    "ryy": _word("yy"),
    "rzz": _word("zz"),
    "rxy": _rxy,
    "single_excitation": _single_excitation,
    "pswap": _pswap,
    "ccz": _ccz,
    "multirz": _pauli_rot,
    "pauli_rot": _pauli_rot,
    "diagonal": lambda op: diagonal_ops(op.given, op.wires),
}
