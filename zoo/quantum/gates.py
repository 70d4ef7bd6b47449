"""The gates: their matrices as functions of their angles, and what is known of them beforehand.

In the matrix of a gate on wires (a, b, ...) wire a is the most significant bit; the first wires of a controlled gate
are its controls. A rotation about a Pauli word P by t is exp(-i t P / 2).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.naming import did_you_mean

#: The two frequencies of a rotation with a control, in units of its angle; a plain rotation has the last one only.
_CONTROLLED = (0.5, 1.0)
_PLAIN = (1.0,)
Rows = list[list[Any]]
_COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
_REAL = {parts: real for real, parts in _COMPLEX.items()}
_ROOT = 1 / math.sqrt(2)

PAULIS: dict[str, Rows] = {
    "i": [[1, 0], [0, 1]],
    "x": [[0, 1], [1, 0]],
    "y": [[0, -1j], [1j, 0]],
    "z": [[1, 0], [0, -1]],
}


def complex_type(real: torch.dtype) -> torch.dtype:
    """complex64 for float32, complex128 for float64.

    Raises:
        TypeError: for any other type.
    """
    if real not in _COMPLEX:
        raise TypeError(f"circuits are computed in float32 or float64, got {real}")
    return _COMPLEX[real]


def real_type(given: torch.dtype) -> torch.dtype:
    """The type of the parts of complex numbers; other types are their own."""
    return _REAL.get(given, given)


@dataclass(frozen=True, eq=False, repr=False)
class Gate:
    """One kind of gate; there is one object a kind, in `GATES`, or `POST_SELECT` or `CHANNEL`.

    Args:
        name: its name, lower-case.
        n_wires: the wires it acts on; 0 = any number from one up.
        n_angles: the angles it takes.
        build: (..., n_angles) angles and the Pauli word -> (..., d, d); None where the matrix is given with the gate.
        diagonal: every matrix of the kind is diagonal.
        permutation: it sends basis states to basis states, without phases.
        real: every matrix of the kind is real.
        frequencies: how fast an expectation oscillates in each of its angles, for the parameter-shift rule.
        unitary: False for operations that are no gates: post-selections and channels.
    """

    name: str
    n_wires: int
    n_angles: int
    build: Callable[[Tensor, str], Tensor] | None = None
    diagonal: bool = False
    permutation: bool = False
    real: bool = False
    frequencies: tuple[float, ...] = _PLAIN
    unitary: bool = True

    def matrix(self, angles: Tensor, word: str = "") -> Tensor:
        """(..., d, d) complex matrices of (..., n_angles) angles; differentiable.

        Args:
            angles: float32 or float64, in radians; (..., 0) for a gate without angles.
            word: the Pauli word of a `pauli_rot` or `multirz`.
        """
        if self.build is None:
            raise ValueError(f"the matrix of {self.name!r} is given with each use of it")
        return self.build(angles, word)

    def __repr__(self) -> str:
        return f"Gate({self.name!r})"

    def __reduce__(self) -> tuple[Callable[[str], "Gate"], tuple[str]]:
        return gate_named, (self.name,)


def constant(rows: Rows, angles: Tensor) -> Tensor:
    """A matrix of numbers as a complex tensor of the precision and device of `angles`."""
    return torch.tensor(rows, dtype=complex_type(angles.dtype), device=angles.device)


def pauli_matrix(word: str, like: Tensor) -> Tensor:
    """The (2^k, 2^k) matrix of a Pauli word of k letters."""
    matrix = constant(PAULIS[word[0]], like)
    for letter in word[1:]:
        matrix = torch.kron(matrix, constant(PAULIS[letter], like))
    return matrix


def _weighted(factor: Tensor, matrix: Tensor) -> Tensor:
    return factor[..., None, None] * matrix


def _rotation(angle: Tensor, word: str) -> Tensor:
    """exp(-i angle P / 2); angle (...)."""
    half, pauli = angle / 2, pauli_matrix(word, angle)
    identity = torch.eye(len(pauli), dtype=pauli.dtype, device=pauli.device)
    return _weighted(half.cos(), identity) - _weighted(half.sin(), 1j * pauli)


def _phases(angle: Tensor, places: list[int]) -> Tensor:
    """diag(exp(i angle places)); angle (...)."""
    turns = angle[..., None] * torch.tensor(places, dtype=angle.dtype, device=angle.device)
    return torch.diag_embed(torch.complex(turns.cos(), turns.sin()))


def _controlled(matrix: Tensor, controls: int = 1) -> Tensor:
    """The identity on all states but those whose first `controls` bits are 1."""
    inner, outer = matrix.shape[-1], matrix.shape[-1] << controls
    head = torch.eye(outer - inner, dtype=matrix.dtype, device=matrix.device)
    head = torch.nn.functional.pad(head, (0, inner, 0, inner))
    return torch.nn.functional.pad(matrix, (outer - inner, 0, outer - inner, 0)) + head


def _rot(angles: Tensor) -> Tensor:
    first, second, third = angles.unbind(-1)
    return _rotation(third, "z") @ _rotation(second, "y") @ _rotation(first, "z")


def _u3(theta: Tensor, phi: Tensor, delta: Tensor) -> Tensor:
    return _phases(phi, [0, 1]) @ _rotation(theta, "y") @ _phases(delta, [0, 1])


def _u2(angles: Tensor) -> Tensor:
    phi, delta = angles.unbind(-1)
    return _u3(torch.full_like(phi, math.pi / 2), phi, delta)


def _middle(angle: Tensor, diagonal: Rows, off: Rows) -> Tensor:
    """A rotation among 01 and 10: cos(angle/2) on `diagonal`, sin(angle/2) on `off`, 1 on 00 and 11."""
    half = angle / 2
    ends = constant([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], angle)
    inner = _weighted(half.cos(), constant(diagonal, angle)) + _weighted(half.sin(), constant(off, angle))
    return ends + torch.nn.functional.pad(inner, (1, 1, 1, 1))


def _pswap(angle: Tensor) -> Tensor:
    swap = constant(_SWAP, angle)
    return _phases(angle, [0, 1, 1, 0]) @ swap


_X, _Y, _Z = PAULIS["x"], PAULIS["y"], PAULIS["z"]
_IDENTITY = PAULIS["i"]
_H: Rows = [[_ROOT, _ROOT], [_ROOT, -_ROOT]]
_SWAP: Rows = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
_ECR: Rows = [
    [0, 0, _ROOT, 1j * _ROOT],
    [0, 0, 1j * _ROOT, _ROOT],
    [_ROOT, -1j * _ROOT, 0, 0],
    [-1j * _ROOT, _ROOT, 0, 0],
]
_SX: Rows = [[0.5 + 0.5j, 0.5 - 0.5j], [0.5 - 0.5j, 0.5 + 0.5j]]
_SXDG: Rows = [[0.5 - 0.5j, 0.5 + 0.5j], [0.5 + 0.5j, 0.5 - 0.5j]]


def _exchange(c: float, s: complex) -> Rows:
    return [[1, 0, 0, 0], [0, c, s, 0], [0, s, c, 0], [0, 0, 0, 1]]


def _diagonal(*entries: Any) -> Rows:
    return [[entry if row == column else 0 for column in range(len(entries))] for row, entry in enumerate(entries)]


def _fixed(
    name: str,
    rows: Rows,
    controls: int = 0,
    *,
    diagonal: bool = False,
    permutation: bool = False,
    real: bool = False,
) -> Gate:
    def build(angles: Tensor, word: str) -> Tensor:
        matrix = _controlled(constant(rows, angles), controls) if controls else constant(rows, angles)
        return matrix.expand(*angles.shape[:-1], *matrix.shape)

    n_wires = int(math.log2(len(rows))) + controls
    return Gate(name, n_wires, 0, build, diagonal=diagonal, permutation=permutation, real=real)


def _turning(
    name: str,
    n_wires: int,
    build: Callable[[Tensor], Tensor],
    frequencies: tuple[float, ...] = _PLAIN,
    *,
    diagonal: bool = False,
    real: bool = False,
) -> Gate:
    """A gate of one angle; `build` takes it without its last axis."""

    def of_angles(angles: Tensor, word: str) -> Tensor:
        return build(angles[..., 0])

    return Gate(name, n_wires, 1, of_angles, diagonal=diagonal, real=real, frequencies=frequencies)


_ALL = [
    _fixed("i", _IDENTITY, diagonal=True, permutation=True, real=True),
    _fixed("x", _X, permutation=True, real=True),
    _fixed("y", _Y),
    _fixed("z", _Z, diagonal=True, real=True),
    _fixed("h", _H, real=True),
    _fixed("s", _diagonal(1, 1j), diagonal=True),
    _fixed("t", _diagonal(1, _ROOT + 1j * _ROOT), diagonal=True),
    _fixed("sdg", _diagonal(1, -1j), diagonal=True),
    _fixed("tdg", _diagonal(1, _ROOT - 1j * _ROOT), diagonal=True),
    _fixed("sx", _SX),
    _fixed("sxdg", _SXDG),
    _turning("rx", 1, lambda a: _rotation(a, "x")),
    _turning("ry", 1, lambda a: _rotation(a, "y"), real=True),
    _turning("rz", 1, lambda a: _rotation(a, "z"), diagonal=True),
    _turning("phase", 1, lambda a: _phases(a, [0, 1]), diagonal=True),
    Gate("rot", 1, 3, lambda angles, word: _rot(angles)),
    Gate("u2", 1, 2, lambda angles, word: _u2(angles)),
    Gate("u3", 1, 3, lambda angles, word: _u3(*angles.unbind(-1))),
    _fixed("cx", _X, 1, permutation=True, real=True),
    _fixed("cy", _Y, 1),
    _fixed("cz", _Z, 1, diagonal=True, real=True),
    _fixed("ch", _H, 1, real=True),
    _fixed("swap", _SWAP, permutation=True, real=True),
    _fixed("iswap", _exchange(0.0, 1j)),
    _fixed("siswap", _exchange(_ROOT, 1j * _ROOT)),
    _fixed("ecr", _ECR),
    _turning("crx", 2, lambda a: _controlled(_rotation(a, "x")), _CONTROLLED),
    _turning("cry", 2, lambda a: _controlled(_rotation(a, "y")), _CONTROLLED, real=True),
    _turning("crz", 2, lambda a: _controlled(_rotation(a, "z")), _CONTROLLED, diagonal=True),
    _turning("cphase", 2, lambda a: _phases(a, [0, 0, 0, 1]), diagonal=True),
    Gate("crot", 2, 3, lambda angles, word: _controlled(_rot(angles)), frequencies=_CONTROLLED),
    _turning("rxx", 2, lambda a: _rotation(a, "xx")),
    _turning("ryy", 2, lambda a: _rotation(a, "yy")),
    _turning("rzz", 2, lambda a: _rotation(a, "zz"), diagonal=True),
    _turning("rxy", 2, lambda a: _middle(a, _IDENTITY, [[0, 1j], [1j, 0]]), _CONTROLLED),
    _turning("single_excitation", 2, lambda a: _middle(a, _IDENTITY, [[0, -1], [1, 0]]), _CONTROLLED, real=True),
    _turning("pswap", 2, _pswap),
    _fixed("ccx", _X, 2, permutation=True, real=True),
    _fixed("cswap", _SWAP, 1, permutation=True, real=True),
    _fixed("ccz", _Z, 2, diagonal=True, real=True),
    Gate("multirz", 0, 1, lambda angles, word: _rotation(angles[..., 0], word), diagonal=True),
    Gate("pauli_rot", 0, 1, lambda angles, word: _rotation(angles[..., 0], word)),
    Gate("unitary", 0, 0),
    Gate("diagonal", 0, 0, diagonal=True),
]

#: Every gate by its name.
GATES: dict[str, Gate] = {gate.name: gate for gate in _ALL}

#: Two operations in circuits that are no gates.
POST_SELECT = Gate("post_select", 1, 0, unitary=False)
CHANNEL = Gate("channel", 0, 0, unitary=False)
_KINDS = {**GATES, POST_SELECT.name: POST_SELECT, CHANNEL.name: CHANNEL}

#: Names that other libraries give them, lower-case and without underscores.
ALIASES = {
    "id": "i",
    "identity": "i",
    "paulix": "x",
    "pauliy": "y",
    "pauliz": "z",
    "hadamard": "h",
    "phaseshift": "phase",
    "p": "phase",
    "u": "u3",
    "cnot": "cx",
    "sqisw": "siswap",
    "controlledphaseshift": "cphase",
    "cp": "cphase",
    "isingxx": "rxx",
    "isingyy": "ryy",
    "isingzz": "rzz",
    "isingxy": "rxy",
    "singleexcitation": "single_excitation",
    "toffoli": "ccx",
    "ccnot": "ccx",
    "fredkin": "cswap",
    "paulirot": "pauli_rot",
    "qubitunitary": "unitary",
    "diagonalqubitunitary": "diagonal",
    "diagonalunitary": "diagonal",
}


def gate_named(name: str) -> Gate:
    """The gate of that name, or of another library's name for it ("PauliX", "CNOT", "IsingXX"); case is ignored.

    Also the two operations that are no gates, "post_select" and "channel".

    Raises:
        ValueError: there is none; near names are given.
        TypeError: no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a gate is text, such as 'cx', got {name!r}")
    low = name.lower()
    found = _KINDS.get(low) or GATES.get(ALIASES.get(low.replace("_", ""), ""))
    if found is None:
        raise ValueError(f"no gate is named {name!r}{did_you_mean(name, [*_KINDS, *ALIASES])}")
    return found
