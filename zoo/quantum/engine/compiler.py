"""Stages of a circuit to a program: what is built as which table, and the steps that read it."""

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from zoo.quantum.angle import Angle
from zoo.quantum.circuit import Circuit
from zoo.quantum.engine.layout import (
    BitMap,
    basis_states,
    constant_diagonal,
    inverse_of,
    shuffled,
    signs,
    windows,
)
from zoo.quantum.engine.lowering import Fixed, Phase, Turn
from zoo.quantum.engine.program import WHOLE, Bank, Kind, Program, Start
from zoo.quantum.engine.schedule import KEPT, Block, Chain, Monomial, Shuffle, Stage, Wall, parted, schedule
from zoo.quantum.engine.steps import BlockStep, DenseStep, GatherStep, PhaseStep, SignStep, TurnStep, WallStep
from zoo.quantum.engine.tables import Affine, Chains, OpMatrix, kronecker
from zoo.quantum.engine.walls import Rotation
from zoo.quantum.engine.whole import SMALL, Whole
from zoo.quantum.op import Op

#: A wall of samples' own turns is applied wire by wire where it covers less than this part of the wires.
_SPARSE = 3
#: Up to so many wires permutations are kept as they are; of more they are put together at every use.
_TABLED = 12


def compile_circuit(circuit: Circuit, kind: Kind) -> Program:
    """The program of a circuit of gates."""
    return _Compiler(circuit, kind).program


class _Compiler:
    def __init__(self, circuit: Circuit, kind: Kind):
        self.n, self.kind, self.n_weights = circuit.n_qubits, kind, circuit.n_weights
        stages = schedule(circuit)
        self.mixed = any(self._mixed(angles) for stage in stages for angles in _angles(stage))
        self.program = Program(self.n, kind, real=not kind.given and all(map(_real, stages)), mixed=self.mixed)
        self.names: dict[object, str] = {}
        self.chains: dict[str, list[Chain]] = {}
        self.rows: dict[str, list[list[int]]] = {}
        self.words: dict[str, list[Angle]] = {"own phases": [], "phases": []}
        self.moves: BitMap | Tensor = BitMap.identity(self.n)
        parts: list[Stage] = []
        for place, stage in enumerate(stages):
            starts = place == 0 and not kind.given
            parts += parted(stage.chains, self._turn_is_own, starts) if isinstance(stage, Wall) else [stage]
        if not kind.given:
            first = parts[0] if parts else None
            self.program.start = self._start(first if isinstance(first, Wall) else Wall())
            parts = parts[1:] if isinstance(first, Wall) else parts
        self.runs: list[list[Wall | Monomial | Shuffle]] = []
        for stage in self._contracted(parts) if self.n <= SMALL else parts:
            self._emit(stage)
        self._move()
        self._finish()

    # --- Whose angles

    def _is_own(self, angle: Angle) -> bool:
        if angle.source == "weight":
            return self.kind.own_weights
        return angle.source == "input" and self.kind.own_inputs

    def _mixed(self, angles: Sequence[Angle]) -> bool:
        owners = {self._is_own(angle) for angle in angles if angle.source != "constant"}
        return len(owners) > 1

    def _locate(self, angle: Angle) -> int:
        """The place of an angle in the vector of those that all samples share."""
        return angle.place + (self.n_weights if angle.source == "input" and not self.kind.own_weights else 0)

    def _locate_own(self, angle: Angle) -> int:
        """The same in that of each sample's own."""
        both = self.mixed or self.kind.own_weights
        return angle.place + (self.n_weights if angle.source == "input" and both else 0)

    def _turn_is_own(self, turn: Turn) -> bool:
        return any(map(self._is_own, turn.angles))

    def _chain_is_own(self, chain: Chain) -> bool:
        return any(isinstance(factor, Turn) and self._turn_is_own(factor) for factor in chain)

    # --- Stages

    def _start(self, wall: Wall) -> Start:
        own = [wire for wire, chain in wall.chains.items() if self._chain_is_own(chain)]
        shared = [wire for wire in range(self.n) if wire not in own]
        chains = {wire: _from_zero(wall.chains.get(wire, KEPT)) for wire in range(self.n)}

        def columns(wires: list[int], locate: object) -> Chains | None:
            chosen = [chains[wire] for wire in wires]
            real = all(factor.real for chain in chosen for factor in chain)
            return Chains(chosen, locate, real, column=True) if chosen else None  # pyright: ignore[reportArgumentType]

        wires = [*own, *shared]
        order = inverse_of(torch.tensor(wires))
        return Start(columns(own, self._locate_own), columns(shared, self._locate), order, wires == sorted(wires))

    def _contracted(self, stages: list[Stage]) -> Iterator[Stage]:
        """The stages but for runs that all samples share, which are emitted as one matrix each."""
        run: list[Wall | Monomial | Shuffle] = []

        def flush() -> Iterator[Stage]:
            if len(run) < 2:
                yield from run
            else:
                self._move()
                self.program.steps.append(BlockStep(WHOLE, len(self.runs), 0))
                self.runs.append(list(run))
            run.clear()

        for stage in stages:
            if isinstance(stage, Block) or any(self._is_own(angle) for angle in _stage_angles(stage)):
                yield from flush()
                yield stage
            else:
                run.append(stage)
        yield from flush()

    def _emit(self, stage: Stage) -> None:
        if isinstance(stage, Shuffle):
            moved = basis_states(self.n)
            for piece in stage.pieces:
                moved = shuffled(moved, piece, self.n)
            self._permute(moved)
        elif isinstance(stage, Monomial):
            if stage.phases:
                self._move()
                self._phases(stage.phases)
            if stage.rows:
                self._permute(BitMap.of_parities(stage.rows, self.n))
        elif isinstance(stage, Wall):
            self._move()
            self._wall(stage)
        else:
            self._move()
            self._dense(stage.op)

    def _permute(self, moved: BitMap | Tensor) -> None:
        if isinstance(moved, BitMap) and isinstance(self.moves, BitMap):
            self.moves = moved.after(self.moves)
        else:
            self.moves = _tabled(moved)[_tabled(self.moves)]

    def _move(self) -> None:
        """The permutations so far as one step."""
        moved, self.moves = self.moves, BitMap.identity(self.n)
        if isinstance(moved, BitMap):
            if moved == self.moves:
                return
            there, back = self._tables(moved.inverse()), self._tables(moved)
        else:
            there, back = (self._table(table) for table in (inverse_of(moved), moved))
        self.program.steps.append(GatherStep(there, back))

    def _tables(self, moved: BitMap) -> tuple[str, ...]:
        """The names of the map's table, or of the two of its first and its other wires, if the whole is large."""
        if self.n <= _TABLED:
            return self._table(moved.table())
        half = self.n // 2
        return *self._table(moved.table(0, half)), *self._table(moved.table(half))

    def _table(self, table: Tensor) -> tuple[str]:
        return (self._constant("permutation", table.int()),)

    def _constant(self, what: str, tensor: Tensor) -> str:
        """The name of a tensor of numbers; equal ones are kept once."""
        key = (what, tensor.dtype, tensor.shape, hashlib.sha256(tensor.numpy().data).digest())
        if key not in self.names:
            self.names[key] = f"{what} {len(self.names)}"
            self.program.constants[self.names[key]] = tensor
        return self.names[key]

    def _phases(self, phases: list[Phase]) -> None:
        varied = [phase for phase in phases if phase.angle.source != "constant"]
        if not varied:
            self.program.steps.append(SignStep(self._constant("diagonal", constant_diagonal(phases, self.n))))
            return
        numbers: dict[frozenset[int], float] = {}
        for phase in phases:
            if phase.angle.source == "constant":
                numbers[phase.wires] = numbers.get(phase.wires, 0.0) + phase.angle.offset
        together = [*varied, *(Phase(wires, Angle(offset=value)) for wires, value in numbers.items())]
        bank = "own phases" if any(self._is_own(phase.angle) for phase in varied) else "phases"
        words, half = [phase.wires for phase in together], self.n // 2
        high = self._constant("signs", signs(words, 0, half))
        low = self._constant("signs", signs(words, half, self.n).t().contiguous())
        first = len(self.words[bank])
        self.words[bank] += [phase.angle for phase in together]
        self.program.steps.append(PhaseStep(bank, first, len(self.words[bank]), high, low))

    def _wall(self, wall: Wall) -> None:
        own = {wire: chain for wire, chain in wall.chains.items() if self._chain_is_own(chain)}
        if len(own) * _SPARSE >= self.n:
            self._own_wall(own)
        else:
            for wire, chain in own.items():
                name = "own turns" if all(factor.real for factor in chain) else "own turns, complex"
                self.chains.setdefault(name, []).append(chain)
                self.program.steps.append(TurnStep(name, len(self.chains[name]) - 1, wire))
        shared = {wire: chain for wire, chain in wall.chains.items() if wire not in own}
        for first, last in windows(shared, self.n, self.kind.lead):
            self._window([shared.get(wire, KEPT) for wire in range(first, last)], first)

    def _own_wall(self, own: dict[int, Chain]) -> None:
        real = all(factor.real for chain in own.values() for factor in chain)
        places = []
        for first, last in windows(range(self.n), self.n, False):
            places.append(self._block([own.get(wire, KEPT) for wire in range(first, last)], real, "own wall"))
        self.program.steps.append(WallStep(tuple(places)))

    def _block(self, chains: list[Chain], real: bool, slots: str) -> tuple[str, int]:
        """The bank of a block of neighbouring wires, and its row in it."""
        slots = slots if real else f"{slots}, complex"
        known = self.chains.setdefault(slots, [])
        bank = f"{slots} on {len(chains)}"
        rows = self.rows.setdefault(bank, [])
        rows.append(list(range(len(known), len(known) + len(chains))))
        known += chains
        return bank, len(rows) - 1

    def _window(self, chains: list[Chain], wire: int) -> None:
        real = all(factor.real for chain in chains for factor in chain)
        if all(isinstance(factor, Fixed) for chain in chains for factor in chain):
            table = Chains(chains, self._locate, real)(torch.zeros(1, dtype=torch.float64))
            name = self._constant("matrix", kronecker(table.unsqueeze(0)))
            self.program.steps.append(BlockStep(name, 0, wire))
            return
        bank, row = self._block(chains, real, "turns")
        self.program.steps.append(BlockStep(bank, row, wire))

    def _dense(self, op: Op) -> None:
        real = self.program.real
        if any(angle.source != "constant" for angle in op.angles):
            own = any(self._is_own(angle) for angle in op.angles)
            name = f"{'own ' if own else ''}{op.gate.name} {len(self.program.dense)}"
            self.program.dense[name] = OpMatrix(op, self._locate_own if own else self._locate, real)
        else:
            angles = torch.tensor([angle.offset for angle in op.angles], dtype=torch.float64)
            matrix = op.unitary(angles).clone()
            name = self._constant("dense", matrix.real.clone() if real else matrix)
        self.program.steps.append(DenseStep(name, op.wires, self.n))

    def _finish(self) -> None:
        program = self.program
        if self.runs:
            real = all(_real(stage) for run in self.runs for stage in run)
            program.whole = Whole(self.runs, self.n, self._locate, real)
        for name, chains in self.chains.items():
            locate = self._locate_own if name.startswith("own") else self._locate
            program.slots[name] = Chains(chains, locate, real="complex" not in name)
        sources = [name.split(" on ")[0] for name in self.rows]
        for source, (name, rows) in zip(sources, self.rows.items(), strict=True):
            program.banks[name] = Bank(source, torch.tensor(rows), alone=sources.count(source) == 1)
        for name, angles in self.words.items():
            if angles:
                locate = self._locate_own if name.startswith("own") else self._locate
                program.phases[name] = Affine(angles, locate)
        program.settle()


def _from_zero(chain: Chain) -> Chain:
    """What makes the same state of a wire's 0, as one turn where that can be."""
    rotation = None if len(chain) == 1 else Rotation.of(chain)
    return chain if rotation is None else [Turn(rotation.angle)]


def _tabled(moved: BitMap | Tensor) -> Tensor:
    return moved.table() if isinstance(moved, BitMap) else moved


def _stage_angles(stage: Stage) -> list[Angle]:
    return [angle for angles in _angles(stage) for angle in angles]


def _angles(stage: Stage) -> list[list[Angle]]:
    """Angles by the table that must read them from one vector."""
    if isinstance(stage, Wall):
        turns = [factor for chain in stage.chains.values() for factor in chain if isinstance(factor, Turn)]
        return [list(turn.angles) for turn in turns]
    if isinstance(stage, Monomial):
        return [[phase.angle for phase in stage.phases]]
    return [list(stage.op.angles)] if isinstance(stage, Block) else []


def _real(stage: Stage) -> bool:
    if isinstance(stage, Wall):
        return all(factor.real for chain in stage.chains.values() for factor in chain)
    if isinstance(stage, Monomial):
        return _constant_sign(stage)
    return isinstance(stage, Shuffle) or stage.op.gate.real


def _constant_sign(stage: Monomial) -> bool:
    """Whether all phases are 1 or -1, or there are none."""
    if any(phase.angle.source != "constant" for phase in stage.phases):
        return False
    wires = sorted(set().union(*(phase.wires for phase in stage.phases)))
    place = {wire: i for i, wire in enumerate(wires)}
    near = [Phase(frozenset(place[wire] for wire in phase.wires), phase.angle) for phase in stage.phases]
    return not near or (len(wires) <= 20 and not constant_diagonal(near, len(wires)).is_complex())
