"""Ansätze: the trainable parts of circuits, by name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import pi

from zoo.naming import did_you_mean
from zoo.quantum.circuit import Circuit, weight
from zoo.quantum.integers import integer

#: One gate of a layer: its name, its wires, how many angles it takes.
_Step = tuple[str, tuple[int, ...], int]
_ROTATIONS = {"x": ("rx", 1), "y": ("ry", 1), "z": ("rz", 1), "rot": ("rot", 3)}


def _wall(gate: str, n: int, angles: int = 0) -> Iterator[_Step]:
    """The gate on every wire."""
    yield from ((gate, (wire,), angles) for wire in range(n))


def _ladder(gate: str, n: int, angles: int = 0) -> Iterator[_Step]:
    """The gate on neighbours, from the first wire down."""
    yield from ((gate, (wire, wire + 1), angles) for wire in range(n - 1))


def _ring(gate: str, n: int) -> Iterator[_Step]:
    """A ladder that is closed; two wires have one pair of neighbours."""
    yield from _ladder(gate, n)
    if n > 2:
        yield gate, (n - 1, 0), 0


def _rings(gate: str, n: int, angles: int) -> Iterator[_Step]:
    """RY, a ring of controls upwards, RY, a ring downwards: circuits 14 and 15 of Sim et al."""
    yield from _wall("ry", n, 1)
    yield from ((gate, (i, (i - 1) % n), angles) for i in range(n))
    yield from _wall("ry", n, 1)
    yield from ((gate, (i % n, (i + 1) % n), angles) for i in range(n, 0, -1))


def _iqp(n: int, layer: int, rotation: str) -> Iterator[_Step]:
    yield from _wall("h", n)
    yield from _ladder("crz", n, 1)


def _sim4(n: int, layer: int, rotation: str) -> Iterator[_Step]:
    yield from _wall("rx", n, 1)
    yield from _wall("rz", n, 1)
    yield from _ladder("crx", n, 1)


def _sim9(n: int, layer: int, rotation: str) -> Iterator[_Step]:
    yield from _wall("h", n)
    yield from _ladder("cz", n)
    yield from _wall("rx", n, 1)


def _sim9cx(n: int, layer: int, rotation: str) -> Iterator[_Step]:
    yield from _wall("h", n)
    yield from _ladder("cx", n)
    yield from _wall("rx", n, 1)


def _sim14(n: int, layer: int, rotation: str) -> Iterator[_Step]:
    return _rings("crx", n, 1)


def _sim15(n: int, layer: int, rotation: str) -> Iterator[_Step]:
    return _rings("cx", n, 0)


def _qtn14(n: int, layer: int, rotation: str) -> Iterator[_Step]:
    first = [(n - 1 + i) % n for i in range(n)]
    yield from _wall("ry", n, 1)
    yield from (("crx", (source, (source + 1) % n), 1) for source in first)
    yield from _wall("ry", n, 1)
    yield from (("crx", (source, (source - 1) % n), 1) for source in first)


def _qtn_iqp(n: int, layer: int, rotation: str) -> Iterator[_Step]:
    yield from _wall("h", n)
    # The lower wire controls: diagonal, but not symmetric in its wires.
    yield from (("crz", (i + 1, i), 1) for i in range(n - 1))


def _strongly_entangling(n: int, layer: int, rotation: str) -> Iterator[_Step]:
    yield from _wall("rot", n, 3)
    if n > 1:
        step = layer % (n - 1) + 1
        yield from (("cx", (wire, (wire + step) % n), 0) for wire in range(n))


def _basic_entangler(n: int, layer: int, rotation: str) -> Iterator[_Step]:
    gate, angles = _ROTATIONS[rotation]
    yield from _wall(gate, n, angles)
    yield from _ring("cx", n)


def _hardware_efficient(n: int, layer: int, rotation: str) -> Iterator[_Step]:
    gate, angles = _ROTATIONS[rotation]
    yield from _wall(gate, n, angles)
    yield from _ring("cz", n)


def _dressed(n: int, layer: int, rotation: str) -> Iterator[_Step]:
    yield from (("cx", (wire, wire + 1), 0) for wire in range(0, n - 1, 2))
    yield from (("cx", (wire, wire + 1), 0) for wire in range(1, n - 1, 2))
    yield from _wall("ry", n, 1)


@dataclass(frozen=True)
class Ansatz:
    """One family of trainable circuits.

    Attributes:
        layer: (wires, layer, rotation) -> the gates of a layer; angles are taken in that order.
        turns: angles are in full turns, not in radians.
        lone: one wire has three rotations, Rx, Rz and Rx, whatever the number of layers.
        rotations: the names that may follow a colon, the default first.
        final_wall: Hadamards on all wires after the last layer.
    """

    layer: Callable[[int, int, str], Iterator[_Step]]
    turns: bool = False
    lone: bool = False
    rotations: tuple[str, ...] = ("",)
    final_wall: bool = False

    @property
    def unit(self) -> float:
        """Radians of an angle of 1."""
        return 2 * pi if self.turns else 1.0

    def angles(self, n_qubits: int, rotation: str = "") -> int:
        """Angles of a layer."""
        return sum(step[2] for step in self.steps(n_qubits, 0, rotation))

    def steps(self, n_qubits: int, layer: int, rotation: str = "") -> Iterator[_Step]:
        """The gates of one layer."""
        if self.lone and n_qubits == 1:
            return iter([("rx", (0,), 1), ("rz", (0,), 1), ("rx", (0,), 1)])
        return self.layer(n_qubits, layer, rotation or self.rotations[0])


def _qnlp(layer: Callable[[int, int, str], Iterator[_Step]], final_wall: bool = False) -> Ansatz:
    return Ansatz(layer, turns=True, lone=True, final_wall=final_wall)


_ANY = tuple(_ROTATIONS)
#: Name -> what it is.
ANSATZE: dict[str, Ansatz] = {
    "strongly_entangling": Ansatz(_strongly_entangling),
    "basic_entangler": Ansatz(_basic_entangler, rotations=_ANY),
    "hardware_efficient": Ansatz(_hardware_efficient, rotations=("rot", "x", "y", "z")),
    "dressed": Ansatz(_dressed),
    "iqp": _qnlp(_iqp, final_wall=True),
    "sim4": _qnlp(_sim4),
    "sim9": _qnlp(_sim9),
    "sim9cx": _qnlp(_sim9cx),
    "sim14": _qnlp(_sim14),
    "sim15": _qnlp(_sim15),
    "qtn14": _qnlp(_qtn14),
    "qtn_iqp": _qnlp(_qtn_iqp),
    "qtn9": _qnlp(_sim9),
}


def ansatz_named(name: str) -> tuple[Ansatz, str]:
    """An ansatz and its rotation, from "name" or "name:rotation".

    Raises:
        ValueError: an unknown name or rotation, with the nearest one.
    """
    family, colon, rotation = name.lower().partition(":")
    if family not in ANSATZE:
        hint = did_you_mean(family, ANSATZE) or "."
        raise ValueError(f"unknown ansatz {name!r}{hint} There are {', '.join(ANSATZE)}")
    found = ANSATZE[family]
    if not colon:
        return found, found.rotations[0]
    if rotation not in found.rotations or not rotation:
        rotations = ", ".join(f"'{family}:{r}'" for r in found.rotations if r)
        raise ValueError(f"ansatz {name!r}: {f'one of {rotations}' if rotations else f'{family!r} takes no rotation'}")
    return found, rotation


def ansatz(
    name: str, n_qubits: int, n_layers: int = 1, *, first_layer: int = 0, final_wall: bool | None = None
) -> Circuit:
    """The circuit of an ansatz; its weights are in the order of its gates, layer by layer.

    Angles a layer for n wires: "strongly_entangling" (Rot, CNOTs of growing distance) 3n, "basic_entangler" (one
    rotation, a ring of CNOTs) n, "hardware_efficient" (Rot, a ring of CZ) 3n, "dressed" (CNOTs of even, then of odd
    pairs, RY) n; in radians. "basic_entangler:y" and "hardware_efficient:y" name the rotation: x, y, z or rot.

    Those of language and sequence models have their angles in full turns: "iqp" and "qtn_iqp" n - 1, "sim4" 3n - 1,
    "sim9", "sim9cx" and "qtn9" n, "sim14" and "qtn14" 4n, "sim15" 2n. On one wire each is Rx, Rz, Rx, 3 angles whatever
    the number of layers. The names with qtn are the variants of the tensor networks: the rings of "qtn14" begin at the
    last wire and run the other way, in "qtn_iqp" the lower wire controls, and no wall of Hadamards follows.

    Args:
        name: one of `ANSATZE`, with ":rotation" where it has one.
        n_qubits: wires.
        n_layers: layers.
        first_layer: number of the first one; "strongly_entangling" goes by it.
        final_wall: Hadamards on all wires at the end; as the ansatz has it if None ("iqp" has them).

    Raises:
        ValueError: an unknown name or rotation, with the nearest one; fewer than one wire or layer.

    Source: Sim et al. (2019, arXiv 1905.10876) circuits 4, 9, 14, 15; Schuld et al. (2020, arXiv 1804.00633); Havlíček
    et al. (2019, arXiv 1804.11326); Kandala et al. (2017, arXiv 1704.05018); Mari et al. (2020, arXiv 1912.08278);
    Harvey et al. (2023, arXiv 2308.07865).
    """
    found, rotation = ansatz_named(name)
    n_qubits, n_layers = integer("n_qubits", n_qubits), integer("n_layers", n_layers)
    circuit, count = Circuit(n_qubits), 0
    lone = found.lone and n_qubits == 1
    for layer in range(first_layer, first_layer + (1 if lone else n_layers)):
        for gate, wires, n_angles in found.steps(n_qubits, layer, rotation):
            angles = [found.unit * weight(count + k) for k in range(n_angles)]
            getattr(circuit, gate)(*angles, *wires)
            count += n_angles
    if not lone and (found.final_wall if final_wall is None else final_wall):
        for wire in range(n_qubits):
            circuit.h(wire)
    return circuit
