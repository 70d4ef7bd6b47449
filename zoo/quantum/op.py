"""One gate at its place in a circuit."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zoo.quantum.angle import Angle, as_angle
from zoo.quantum.gates import PAULIS, Gate, complex_type, gate_named
from zoo.quantum.integers import as_wires

#: A matrix that is further from unitary than this is refused.
_TOLERANCE = 1e-5
#: Gates whose inverse is another gate; the others are their own inverse, or turn back with their angles negated.
_INVERSE = {"s": "sdg", "sdg": "s", "t": "tdg", "tdg": "t", "sx": "sxdg", "sxdg": "sx"}


@dataclass(frozen=True)
class Op:
    """A gate on wires, with its angles.

    Args:
        gate: the kind of gate.
        wires: where it acts; the first is the most significant bit of its matrix.
        angles: as many as the gate takes.
        word: the Pauli word of `pauli_rot` and `multirz` (a letter a wire), the bit of `post_select`, the name of a
            `channel`.
        matrix: the entries, row by row, of a `unitary`, the diagonal of a `diagonal`, the Kraus operators, one after
            the other, of a `channel` of one's own; else empty.
    """

    gate: Gate
    wires: tuple[int, ...]
    angles: tuple[Angle, ...] = ()
    word: str = ""
    matrix: tuple[complex, ...] = ()

    @property
    def given(self) -> Tensor:
        """The entries of `matrix` as one complex128 vector on the CPU."""
        return torch.tensor(self.matrix, dtype=torch.complex128, device="cpu")

    def unitary(self, angles: Tensor) -> Tensor:
        """(..., d, d) matrices for (..., n_angles) angles; differentiable."""
        if self.gate.name not in ("unitary", "diagonal"):
            return self.gate.matrix(angles, self.word)
        entries = torch.tensor(self.matrix, dtype=complex_type(angles.dtype), device=angles.device)
        d = 2 ** len(self.wires)
        matrix = entries.reshape(d, d) if self.gate.name == "unitary" else torch.diag(entries)
        return matrix.expand(*angles.shape[:-1], d, d)

    def inverse(self) -> "Op":
        """The op that undoes this one.

        Raises:
            ValueError: for a post-selection or a channel, which nothing undoes.
        """
        name, angles = self.gate.name, self.angles
        if not self.gate.unitary:
            raise ValueError(f"{name!r} has no inverse")
        if name == "unitary":
            d = 2 ** len(self.wires)
            return replace(self, matrix=tuple(self.given.reshape(d, d).mH.flatten().tolist()))
        if name == "diagonal":
            return replace(self, matrix=tuple(self.given.conj().tolist()))
        if name in ("iswap", "siswap"):
            return Op(gate_named("rxy"), self.wires, (as_angle(-torch.pi if name == "iswap" else -torch.pi / 2),))
        if name == "u2":
            phi, delta = angles
            return Op(gate_named("u3"), self.wires, (as_angle(-torch.pi / 2), -delta, -phi))
        if name == "u3":
            theta, phi, delta = angles
            return replace(self, angles=(-theta, -delta, -phi))
        gate = gate_named(_INVERSE.get(name, name))
        return replace(self, gate=gate, angles=tuple(-angle for angle in reversed(angles)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `op_from_dict` reads it."""
        record: dict[str, Any] = {"gate": self.gate.name, "wires": list(self.wires)}
        if self.angles:
            record["angles"] = [[a.source, a.index, a.scale, a.offset] for a in self.angles]
        if self.word:
            record["word"] = self.word
        if self.matrix:
            record["matrix"] = [[entry.real, entry.imag] for entry in self.matrix]
        return record


def op_from_dict(record: dict[str, Any]) -> Op:
    """The `Op` that `Op.to_dict` described."""
    return Op(
        gate_named(record["gate"]),
        tuple(record["wires"]),
        tuple(Angle(*angle) for angle in record.get("angles", ())),
        record.get("word", ""),
        tuple(complex(*entry) for entry in record.get("matrix", ())),
    )


def make_op(gate: Gate, *arguments: Any) -> Op:
    """An op from what a call of a circuit's method gives: [word or matrix], angles, then wires.

    Args:
        gate: the kind of gate.
        arguments: the Pauli word of a `pauli_rot` or the matrix of a `unitary` or `diagonal` first; then the angles;
            then the wires, one by one or as one sequence.

    Raises:
        TypeError, ValueError: for what is no such call; names what the gate takes.
    """
    rest = list(arguments)
    word, matrix, entries = "", (), None
    if gate.name == "pauli_rot":
        word = _word(rest.pop(0) if rest else "")
    elif gate.name in ("unitary", "diagonal"):
        if not rest:
            raise TypeError(f"{gate.name} takes a matrix, then wires")
        entries = torch.as_tensor(rest.pop(0), device="cpu").detach().to(torch.complex128)
        matrix = tuple(entries.flatten().tolist())
    if len(rest) < gate.n_angles:
        raise TypeError(f"{gate.name} takes {gate.n_angles} angles, then wires, got {rest!r}")
    angles = tuple(as_angle(value) for value in rest[: gate.n_angles])
    wires = _wires(rest[gate.n_angles :], gate)
    if gate.name == "multirz":
        word = "z" * len(wires)
    if word and len(word) != len(wires):
        raise ValueError(f"the word {word!r} has {len(word)} letters for {len(wires)} wires")
    if entries is not None:
        _check_unitary(entries, len(wires), gate.name)
    return Op(gate, wires, angles, word, matrix)


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"pauli_rot takes a Pauli word, an angle, then wires; got {value!r} for the word")
    word = value.lower()
    if not word or set(word) - set(PAULIS):
        raise ValueError(f"a Pauli word is made of the letters i, x, y, z, got {value!r}")
    return word


def _wires(given: list[Any], gate: Gate) -> tuple[int, ...]:
    try:
        wires = as_wires(given[0] if len(given) == 1 else given)
    except TypeError as error:
        raise TypeError(f"{gate.name} takes {gate.n_angles} angles, then wires; {error}") from None
    if gate.n_wires and len(wires) != gate.n_wires:
        raise ValueError(f"{gate.name} acts on {gate.n_wires} wires, got {len(wires)}: {list(wires)}")
    if not wires:
        raise ValueError(f"{gate.name} acts on at least one wire")
    return wires


def _check_unitary(entries: Tensor, n_wires: int, name: str) -> None:
    d = 2**n_wires
    shape = (d,) if name == "diagonal" else (d, d)
    if tuple(entries.shape) != shape:
        raise ValueError(f"{name} on {n_wires} wires takes a matrix of shape {shape}, got {tuple(entries.shape)}")
    product = entries.abs() ** 2 if name == "diagonal" else entries @ entries.mH
    target = torch.ones(d, device="cpu") if name == "diagonal" else torch.eye(d, device="cpu")
    deviation = (product - target).abs().max().item()
    if not deviation <= _TOLERANCE:
        raise ValueError(
            f"the matrix is not unitary: max|U U^H - I| = {deviation:.3g}, allowed {_TOLERANCE:g}; "
            "divide a matrix by its norm, or take the polar factor U V^H of its singular value decomposition"
        )
