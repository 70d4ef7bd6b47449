"""Expectations of wide and shallow circuits, each from the gates that it depends on.

Going back from an observable, a gate on wires that nothing has touched yet cancels with its inverse, and so does noise,
which keeps the trace; the others make up the causal cone. Cones are circuits of their own on few wires, and those of
equal structure run as one batch.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zoo.quantum.angle import Angle
from zoo.quantum.circuit import Circuit
from zoo.quantum.expectation import expectations
from zoo.quantum.gates import POST_SELECT
from zoo.quantum.kept import Kept
from zoo.quantum.observables import Hermitian, Observable, PauliSum, Projector, state_of
from zoo.quantum.op import Op
from zoo.quantum.paulis import PauliWord
from zoo.quantum.reference import reference_state

Evolve = Callable[[Circuit, Tensor, Tensor], Tensor]
Measure = Callable[[Tensor, Sequence[Observable], int], Tensor]
#: What has one cone.
Piece = PauliWord | Projector | Hermitian

#: Amplitudes of cones that run as one batch; from there on, one after the other, with weights that the batch shares.
_AT_ONCE = 2**18
#: Cones, and the work that they are, by structure.
_CONES, _WORK = Kept(64), Kept(64)


@dataclass(frozen=True)
class Cone:
    """What an observable depends on: wires in ascending order, and places of ops in the circuit."""

    wires: tuple[int, ...]
    places: tuple[int, ...]


def cone(ops: Sequence[Op], wires: Sequence[int]) -> Cone:
    """The causal cone of an observable on some wires. Post-selections have effects everywhere and are always in it."""
    reached, places = set(wires), []
    for place in range(len(ops) - 1, -1, -1):
        op = ops[place]
        if op.gate is POST_SELECT or not reached.isdisjoint(op.wires):
            reached.update(op.wires)
            places.append(place)
    return Cone(tuple(sorted(reached)), tuple(reversed(places)))


@dataclass(frozen=True)
class Alike:
    """Cones of equal structure.

    Args:
        circuit: theirs, on wires from 0.
        weights: (cones, W) which weights of the whole circuit are those of each cone.
        inputs: (cones, I) likewise.
        pieces: what is measured of each, on its wires.
        columns: (cones, pieces) places in the list of all pieces.
    """

    circuit: Circuit
    weights: Tensor
    inputs: Tensor
    pieces: tuple[Observable, ...]
    columns: tuple[tuple[int, ...], ...]

    def tables(self, weights: Tensor, inputs: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """The vectors of the whole circuit, each with the places of those of the cones."""
        return (weights, self.weights), (inputs, self.inputs)

    def size(self, mixed: bool) -> int:
        """Numbers of one state, or of one density matrix."""
        return (4 if mixed else 2) ** self.circuit.n_qubits

    def at_once(self, batch: int, mixed: bool) -> int:
        """How many cones run as one batch: all, or one. Compilation and export decide it for a batch of one."""
        count, samples = len(self.columns), 1 if torch.compiler.is_compiling() else batch
        return count if count * samples * self.size(mixed) <= _AT_ONCE else 1


@dataclass(frozen=True)
class Cones:
    """All cones of a measurement.

    Args:
        groups: cones of equal structure.
        pieces: Pauli words, projectors and matrices; each has one cone.
        coefficients: (pieces, observables).
        constants: one an observable.
    """

    groups: tuple[Alike, ...]
    pieces: int
    coefficients: tuple[tuple[float, ...], ...]
    constants: tuple[float, ...]

    @property
    def widest(self) -> int:
        """Qubits of the widest cone."""
        return max((group.circuit.n_qubits for group in self.groups), default=0)

    def amplitudes(self, batch: int, mixed: bool = False) -> int:
        """The most that are held at once, of states or of density matrices."""
        return max((batch * group.at_once(batch, mixed) * group.size(mixed) for group in self.groups), default=0)

    def all_amplitudes(self, batch: int, mixed: bool = False) -> int:
        """What a gradient keeps: the states of all cones; of density matrices one a gate."""
        kept = ((len(group.circuit) if mixed else 1) * len(group.columns) * group.size(mixed) for group in self.groups)
        return batch * sum(kept)


def cones(circuit: Circuit, observables: Sequence[Observable]) -> Cones:
    """The cones of observables; kept for the next call with a circuit of the same structure."""
    return getattr(_CONES, _find(circuit, *observables))


def work(circuit: Circuit, *observables: Observable) -> tuple[int, int]:
    """Of the cones of observables, whose circuits are not made for it.

    Returns:
        Amplitudes times gates for one sample, and the wires of the widest cone.
    """

    def reckon() -> tuple[int, int]:
        found = {cone(circuit.ops, piece.wires) for piece in _pieces(observables)}
        widths = [len(one.wires) for one in found]
        return sum(len(one.places) * 2**n for one, n in zip(found, widths, strict=True)), max(widths, default=0)

    return getattr(_WORK, _WORK.name((circuit.key, observables), reckon))


def _find(circuit: Circuit, *observables: Observable) -> str:
    """Find the cones unless they are kept; their name."""
    return _CONES.name((circuit.key, observables), lambda: _found(circuit, observables))


# What `torch.compiler.assume_constant_result` sets; see `zoo.quantum.engine.evolve`.
_find._dynamo_marked_constant = work._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def lightcone_expectations(
    circuit: Circuit,
    weights: Tensor,
    inputs: Tensor,
    observables: Sequence[Observable],
    evolve: Evolve = reference_state,
    measure: Measure = expectations,
    mixed: bool = False,
) -> Tensor:
    """(B, n_observables) real expectations for a circuit that begins with every wire in 0; differentiable.

    Equal to those of the whole circuit, to rounding.

    Args:
        circuit: what `evolve` takes.
        weights: (W,) or (B, W) real.
        inputs: (I,) or (B, I) real, of the type of `weights`.
        observables: as `parse_observables` gives them.
        evolve: (circuit, weights, inputs) -> (B, 2^n) states, by which each cone is run.
        measure: (states, observables, n) -> (B, n_observables).
        mixed: `evolve` gives density matrices.
    """
    found = cones(circuit, observables)
    (batch,) = torch.broadcast_shapes((1,), weights.shape[:-1], inputs.shape[:-1])
    columns: list[Tensor] = [weights.new_zeros(batch)] * found.pieces
    for group in found.groups:
        run = functools.partial(_run, group, weights, inputs, evolve, measure, batch)
        together = group.at_once(batch, mixed) > 1
        values = run(slice(None)) if together else torch.cat([run(i) for i in range(len(group.columns))])
        for cone_values, places in zip(values, group.columns, strict=True):
            for place, column in zip(places, cone_values.unbind(-1), strict=True):
                columns[place] = column
    result = weights.new_tensor(found.constants).expand(batch, -1)
    if columns:
        result = result + torch.stack(columns, dim=-1) @ weights.new_tensor(found.coefficients)
    return _tied(result, weights, inputs)


def lightcone_state(
    circuit: Circuit, weights: Tensor, inputs: Tensor, wires: Sequence[int], evolve: Evolve = reference_state
) -> tuple[Tensor, int, tuple[int, ...]]:
    """The state of the cone of some wires, (B, ...) or (1, ...), its number of wires, and where these wires are in it.

    Arguments as `lightcone_expectations`.
    """
    (group,) = cones(circuit, (state_of(wires),)).groups
    state = evolve(group.circuit, *(v[..., t[0].to(v.device)] for v, t in group.tables(weights, inputs)))
    return _tied(state, weights, inputs), group.circuit.n_qubits, group.pieces[0].wires


def _tied(result: Tensor, *vectors: Tensor) -> Tensor:
    """The result with a gradient of zeros in what no cone reads."""
    for vector in vectors:
        if vector.requires_grad:
            result = result + vector[..., :0].sum()
    return result


def _run(
    group: Alike,
    weights: Tensor,
    inputs: Tensor,
    evolve: Evolve,
    measure: Measure,
    batch: int,
    chosen: int | slice,
) -> Tensor:
    """(cones, B, pieces) of some cones of a group, or of one."""
    vectors = []
    for vector, table in group.tables(weights, inputs):
        mine = vector[..., table[chosen].to(vector.device)]  # (B, cones, k), (B, k), (cones, k) or (k,)
        if isinstance(chosen, slice):
            mine = mine.movedim(-2, 0)
            mine = (mine if mine.dim() == 3 else mine[:, None].expand(-1, batch, -1)).flatten(0, 1)
        vectors.append(mine)
    state = evolve(group.circuit, *vectors)
    values = measure(state, group.pieces, group.circuit.n_qubits)
    if isinstance(chosen, slice):
        return values.expand(len(group.columns) * batch, -1).unflatten(0, (len(group.columns), batch))
    return values.expand(batch, -1)[None]


def _parts(observable: Observable) -> Sequence[tuple[float, Piece]]:
    return observable.terms if isinstance(observable, PauliSum) else ((1.0, observable),)


def _pieces(observables: Sequence[Observable]) -> dict[Piece, int]:
    """All that has a cone, numbered."""
    parts = (part for observable in observables for _, part in _parts(observable) if part.wires)
    return {part: place for place, part in enumerate(dict.fromkeys(parts))}


def _found(circuit: Circuit, observables: tuple[Observable, ...]) -> Cones:
    ops = circuit.ops
    pieces = _pieces(observables)
    terms = [{pieces[part]: c for c, part in _parts(observable) if part.wires} for observable in observables]

    by_cone: dict[Cone, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_cone[cone(ops, piece.wires)].append(piece)
    alike: dict[tuple[Any, ...], list[tuple[_Small, tuple[int, ...]]]] = defaultdict(list)
    for one, members in by_cone.items():
        small = _cut_out(ops, one)
        measured = tuple(_identity(piece, one.wires) for piece in members)
        alike[small.circuit.key, measured].append((small, tuple(pieces[piece] for piece in members)))
    groups = []
    of_place = {place: piece for piece, place in pieces.items()}
    for found in alike.values():
        small, columns = found[0]
        measured = tuple(_moved(of_place[place], small.wires) for place in columns)
        with torch.inference_mode(False):  # what is kept must serve training too
            weights = torch.tensor([one.weights for one, _ in found], dtype=torch.long)
            inputs = torch.tensor([one.inputs for one, _ in found], dtype=torch.long)
        groups.append(Alike(small.circuit, weights, inputs, measured, tuple(places for _, places in found)))
    coefficients = tuple(tuple(term.get(place, 0.0) for term in terms) for place in range(len(pieces)))
    sums = [o.terms if isinstance(o, PauliSum) else () for o in observables]
    constants = tuple(sum((c for c, word in terms if not word.letters), 0.0) for terms in sums)
    return Cones(tuple(groups), len(pieces), coefficients, constants)


@dataclass(frozen=True)
class _Small:
    """A cone as a circuit, its wires in the whole, and which weights and inputs of the whole its own are."""

    circuit: Circuit
    wires: tuple[int, ...]
    weights: list[int]
    inputs: list[int]


def _cut_out(ops: Sequence[Op], one: Cone) -> _Small:
    wires = {wire: place for place, wire in enumerate(one.wires)}
    own: dict[str, dict[int, int]] = {"weight": {}, "input": {}}

    def move(angle: Angle) -> Angle:
        if angle.source == "constant":
            return angle
        places = own[angle.source]
        return replace(angle, index=places.setdefault(angle.place, len(places)))

    small = Circuit(len(wires))
    for place in one.places:
        op = ops[place]
        here = tuple(wires[wire] for wire in op.wires)
        small.append(replace(op, wires=here, angles=tuple(move(angle) for angle in op.angles)))
    return _Small(small, one.wires, list(own["weight"]), list(own["input"]))


def _moved(piece: Piece, wires: Sequence[int]) -> Observable:
    """What is measured, on the wires of its cone."""
    if isinstance(piece, PauliWord):
        return PauliSum(((1.0, PauliWord(tuple((wires.index(wire), letter) for wire, letter in piece.letters))),))
    moved = tuple(wires.index(wire) for wire in piece.wires)
    if isinstance(piece, Projector):
        return replace(piece, wires=moved)
    assert isinstance(piece, Hermitian)
    return Hermitian(piece.matrix, moved)


def _identity(piece: Piece, wires: Sequence[int]) -> tuple[Any, ...]:
    """What tells two pieces apart, but for where their cones are; a matrix is equal to itself alone."""
    moved = tuple(wires.index(wire) for wire in piece.wires)
    if isinstance(piece, PauliWord):
        return moved, tuple(letter for _, letter in piece.letters)
    return moved, piece.bits if isinstance(piece, Projector) else piece
