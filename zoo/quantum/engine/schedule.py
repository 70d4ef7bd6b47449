"""Pieces of gates merged into stages: as early as what they act on allows.

A stage is a wall of turns (each wire for itself), a run of phases followed by a run of CNOTs and swaps, other
permutations of basis states, or one dense gate.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from zoo.quantum.engine.lowering import Dense, Fixed, OnWire, Phase, Piece, Swapped, Turn, lower, turn_phases
from zoo.quantum.op import Op

Chain: TypeAlias = list[Turn | Fixed]

#: A wire that nothing turns.
KEPT: Chain = [Fixed((1, 0, 0, 1))]


@dataclass
class Wall:
    """Turns a wire, in the order in which they act."""

    chains: dict[int, Chain] = field(default_factory=dict)

    @property
    def wires(self) -> set[int]:
        return set(self.chains)


@dataclass
class Monomial:
    """Phases, then the linear map of bits that CNOTs and swaps make: bit w becomes the parity of the wires rows[w]."""

    phases: list[Phase] = field(default_factory=list)
    rows: dict[int, frozenset[int]] = field(default_factory=dict)

    @property
    def wires(self) -> set[int]:
        return self.moved.union(*(phase.wires for phase in self.phases))

    @property
    def moved(self) -> set[int]:
        """The wires that the permutation reads or writes."""
        return set(self.rows).union(*self.rows.values())

    def row(self, wire: int) -> frozenset[int]:
        return self.rows.get(wire, frozenset([wire]))

    def before(self, wires: Iterable[int]) -> frozenset[int]:
        """The wires whose parity before the permutation is that of `wires` after it."""
        parity: frozenset[int] = frozenset()
        for wire in wires:
            parity ^= self.row(wire)
        return parity

    def permute(self, piece: Swapped) -> None:
        """Append a CNOT or a swap."""
        first, second = piece.wires
        if piece.name == "cx":
            self.rows[second] = self.row(first) ^ self.row(second)
        else:
            self.rows[first], self.rows[second] = self.row(second), self.row(first)
        self.rows = {wire: row for wire, row in self.rows.items() if row != {wire}}


@dataclass
class Shuffle:
    """Permutations of basis states that are no linear maps of bits."""

    pieces: list[Swapped]

    @property
    def wires(self) -> set[int]:
        return {wire for piece in self.pieces for wire in piece.wires}


@dataclass
class Block:
    """One dense gate."""

    op: Op

    @property
    def wires(self) -> set[int]:
        return set(self.op.wires)


Stage: TypeAlias = Wall | Monomial | Shuffle | Block


def schedule(ops: Iterable[Op]) -> list[Stage]:
    """The stages of a circuit."""
    stages: list[Stage] = []
    waiting: dict[int, Chain] = {}

    def flush(wires: Iterable[int]) -> None:
        for wire in wires:
            if chain := waiting.pop(wire, []):
                _add_chain(stages, wire, chain)

    for op in ops:
        for piece in lower(op):
            if isinstance(piece, OnWire):
                _push(waiting.setdefault(piece.wire, []), piece.factor)
                continue
            flush(sorted(_wires(piece)))
            _add(stages, piece)
    flush(sorted(waiting))
    return [stage for stage in stages if not isinstance(stage, Monomial) or stage.phases or stage.rows]


def _wires(piece: Piece) -> Iterable[int]:
    if isinstance(piece, Dense):
        return piece.op.wires
    return () if isinstance(piece, OnWire) else piece.wires


def _push(chain: Chain, factor: Turn | Fixed) -> None:
    """Append a turn; numbers are multiplied at once, and what comes to nothing goes."""
    last = chain[-1] if chain else None
    if isinstance(factor, Fixed) and isinstance(last, Fixed):
        factor = factor.after(last)
        chain.pop()
    if not (isinstance(factor, Fixed) and factor.identity):
        chain.append(factor)


def _add_chain(stages: list[Stage], wire: int, chain: Chain) -> None:
    found: Wall | None = None
    for stage in reversed(stages):
        if isinstance(stage, Wall):
            found = stage
            if wire in stage.chains:
                break
        elif wire in stage.wires:
            if found is None and isinstance(stage, Monomial) and all(factor.diagonal for factor in chain):
                for factor in chain:
                    for phase in turn_phases(wire, factor):
                        _add_phase(stages, phase)
                return
            break
    else:
        if found is None:
            found = Wall()
            stages.insert(0, found)
    if found is None:
        found = Wall()
        stages.append(found)
    merged = found.chains.setdefault(wire, [])
    for factor in chain:
        _push(merged, factor)
    if not merged:
        del found.chains[wire]
        if not found.chains:
            stages.remove(found)


def _add(stages: list[Stage], piece: Piece) -> None:
    if isinstance(piece, Phase):
        _add_phase(stages, piece)
    elif isinstance(piece, Dense):
        stages.append(Block(piece.op))
    elif isinstance(piece, Swapped) and len(piece.wires) == 2:
        _add_permutation(stages, piece)
    elif isinstance(piece, Swapped):
        if stages and isinstance(stages[-1], Shuffle):
            stages[-1].pieces.append(piece)
        else:
            stages.append(Shuffle([piece]))


def _add_phase(stages: list[Stage], phase: Phase) -> None:
    found: Monomial | None = None
    for stage in reversed(stages):
        if isinstance(stage, Monomial):
            found = stage
            if phase.wires & stage.moved:
                break
        elif phase.wires & stage.wires:
            break
    if found is None:
        found = Monomial()
        stages.append(found)
    found.phases.append(Phase(found.before(phase.wires), phase.angle))


def _add_permutation(stages: list[Stage], piece: Swapped) -> None:
    wires = set(piece.wires)
    found: Monomial | None = None
    for stage in reversed(stages):
        if isinstance(stage, Monomial):
            found = stage
        if wires & stage.wires:
            break
    if found is None:
        found = Monomial()
        stages.append(found)
    found.permute(piece)


def parted(chains: Mapping[int, Chain], own: Callable[[Turn], bool], start: bool) -> list[Wall]:
    """Walls, one after the other, whose chains are each of the samples' own angles, or of shared ones only.

    Args:
        chains: of one wall.
        own: whether a turn is of the samples' own angles.
        start: the first wall is to have the first part of every chain.
    """
    left = {wire: _parts(chain, own) for wire, chain in chains.items()}
    walls = [Wall({wire: parts.pop(0)[1] for wire, parts in left.items()})] if start else []
    kind = False
    while any(left.values()):
        if wall := {wire: parts.pop(0)[1] for wire, parts in left.items() if parts and parts[0][0] == kind}:
            walls.append(Wall(wall))
        kind = not kind
    return walls


def _parts(chain: Chain, own: Callable[[Turn], bool]) -> list[tuple[bool, Chain]]:
    """Neighbouring factors of one kind; numbers go with shared ones where these are next to them."""
    kinds = [None if isinstance(factor, Fixed) else own(factor) for factor in chain]
    if all(kind is None for kind in kinds):
        return [(False, chain)]
    parts: list[tuple[bool, Chain]] = []
    for place, (factor, kind) in enumerate(zip(chain, kinds, strict=True)):
        if kind is None:  # two numbers are never next to each other
            near = [k for k in kinds[max(place - 1, 0) : place + 2] if k is not None]
            kind = all(near)
        if parts and parts[-1][0] == kind:
            parts[-1][1].append(factor)
        else:
            parts.append((kind, [factor]))
    return parts
