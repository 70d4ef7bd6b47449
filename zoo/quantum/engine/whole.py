"""Runs of stages of a small circuit contracted to one matrix on all wires.

Each layer is a wall of turns, as one Kronecker product, whose rows are then permuted and multiplied with phases; the
products of the first layers are made one after the other, or from those within blocks where there are many. The cost
is independent of the batch.

With G the gradient of a unitary K, all that is needed of it is E = G K^H. For a layer it is P M^H G P^H, where M is the
product of all and P that of the layers up to this one.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zoo.quantum.angle import Angle
from zoo.quantum.engine.layout import BitMap, basis_states, inverse_of, shuffled, signs
from zoo.quantum.engine.schedule import KEPT, Chain, Monomial, Shuffle, Wall
from zoo.quantum.engine.tables import Affine, Locate, Table
from zoo.quantum.engine.walls import RealWalls, Rotation, Walls

#: The widest circuit that is contracted.
SMALL = 5
#: So many layers are multiplied one after the other.
_IN_A_ROW = 8


@dataclass
class _Layer:
    """A wall between permutations with phases.

    Args:
        chains: one a wire.
        source: row y of the layer is row source[y] of the wall's, turned.
        words: what turns the rows.
        columns: column x is column columns[x] of the wall's, turned.
        lead: the numbers that turn the columns.
    """

    chains: list[Chain]
    source: Tensor
    columns: Tensor
    lead: Tensor
    words: list[tuple[Angle, Tensor]] = field(default_factory=list)

    @staticmethod
    def of(chains: list[Chain]) -> "_Layer":
        states = basis_states(len(chains))
        return _Layer(chains, states, states, torch.zeros(len(states), dtype=torch.float64))

    def permute(self, moved: Tensor) -> None:
        back = inverse_of(moved)
        self.source = self.source[back]
        self.words = [(angle, column[back]) for angle, column in self.words]

    def fixed_phases(self) -> Tensor:
        """(2^n,): what the constant words turn the rows by."""
        parts = [angle.offset * column for angle, column in self.words if angle.source == "constant"]
        return sum(parts, torch.zeros_like(self.lead))

    @property
    def fixed(self) -> bool:
        """Whether it is a permutation with phases that are numbers."""
        still = all(chain is KEPT for chain in self.chains)
        return still and all(angle.source == "constant" for angle, _ in self.words)

    def follow(self, first: "_Layer") -> None:
        """Take a fixed layer before this one into the columns."""
        self.columns = inverse_of(first.source)
        self.lead = first.fixed_phases()[self.columns]


def _layers(run: Sequence[Wall | Monomial | Shuffle], n: int) -> list[_Layer]:
    layers: list[_Layer] = []
    for stage in run:
        if isinstance(stage, Wall) or not layers:
            chains = stage.chains if isinstance(stage, Wall) else {}
            layers.append(_Layer.of([chains.get(wire, KEPT) for wire in range(n)]))
        if isinstance(stage, Monomial):
            for phase in stage.phases:
                layers[-1].words.append((phase.angle, signs([phase.wires], 0, n)[:, 0]))
            if stage.rows:
                layers[-1].permute(BitMap.of_parities(stage.rows, n).table())
        elif isinstance(stage, Shuffle):
            for piece in stage.pieces:
                layers[-1].permute(shuffled(basis_states(n), piece, n))
    if len(layers) > 1 and layers[0].fixed:
        layers[1].follow(layers[0])
        del layers[0]
    return layers


class Whole(Table):
    """(runs, 2^n, 2^n) matrices of a vector of angles.

    Args:
        runs: stages whose angles all samples share.
        n: the number of wires.
        locate: where the angles lie.
        real: whether all matrices are real.
    """

    def __init__(self, runs: Sequence[Sequence[Wall | Monomial | Shuffle]], n: int, locate: Locate, real: bool):
        self.runs, self.n, self.d = len(runs), n, 2**n
        of_runs = [_layers(run, n) for run in runs]
        self.depth = max(map(len, of_runs))
        layers = [layer for run in of_runs for layer in run + [_Layer.of([KEPT] * n)] * (self.depth - len(run))]
        sources, columns = (
            torch.stack(states) for states in zip(*((x.source, x.columns) for x in layers), strict=True)
        )
        rotations = [[Rotation.of(chain) for chain in layer.chains] for layer in layers]
        single = [[rotation for rotation in layer if rotation is not None] for layer in rotations]
        if single == rotations:
            self.walls = RealWalls(single, sources, columns, locate)
        else:
            self.walls = Walls([layer.chains for layer in layers], sources, columns, locate, real)
        self._set_phases(layers, locate, real)
        self.size = self.depth if self.depth <= _IN_A_ROW else math.isqrt(self.depth - 1) + 1
        self.blocks = -(-self.depth // self.size)
        self.varies = self.walls.varies or self.words is not None

    def _set_phases(self, layers: list[_Layer], locate: Locate, real: bool) -> None:
        varied = [[entry for entry in layer.words if entry[0].source != "constant"] for layer in layers]
        most = max(map(len, varied))
        self.columns = torch.zeros(len(layers), self.d, most, dtype=torch.float64)
        for place, words in enumerate(varied):
            for index, (_, column) in enumerate(words):
                self.columns[place, :, index] = column
        angles = [angle for words in varied for angle in [*(a for a, _ in words), *[Angle()] * (most - len(words))]]
        self.words = Affine(angles, locate) if most else None
        rows = torch.stack([layer.fixed_phases() for layer in layers])
        leads = torch.stack([layer.lead for layer in layers])

        def factor(angles: Tensor) -> Tensor:
            found = torch.polar(torch.ones_like(angles), angles)
            return found.real.round() if real else found

        self.factor = self.walls.sign * factor(rows.unsqueeze(2) + leads.unsqueeze(1))
        self.turned = bool((self.factor != 1).any())
        # Of column against row: what takes E back to before the rows were turned.
        self.back = factor(rows.unsqueeze(1) - rows.unsqueeze(2))
        self.turned_rows = bool((self.back != 1).any())

    def __call__(self, vector: Tensor) -> Tensor:
        return self.make(vector)[0]

    def make(self, vector: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The matrices; what the walls keep, what turns the rows if anything does, and the products so far."""
        entries, kept = self.walls.make(vector)
        found = entries.view(-1, self.d, self.d)
        if self.words is not None:
            phases = torch.bmm(self.columns, self.words(vector).view(len(self.columns), -1, 1))
            kept = (*kept, torch.complex(phases.cos(), phases.sin()))
            found = found * kept[-1]
        if self.turned:
            found = found * self.factor
        if missing := self.size * self.blocks - self.depth:
            none = torch.eye(self.d, dtype=found.dtype, device=found.device).expand(self.runs, missing, -1, -1)
            found = torch.cat([found.view(self.runs, self.depth, self.d, self.d), none], dim=1)
        within = _products(found.view(self.runs * self.blocks, self.size, self.d, self.d))
        ends = _products(within[-1].view(self.runs, self.blocks, self.d, self.d)) if self.blocks > 1 else within
        return ends[-1], (*kept, *within, *(ends if self.blocks > 1 else ()))

    def pull(self, vector: Tensor, kept: tuple[Tensor, ...], gradient: Tensor) -> Tensor:
        ends = self.blocks if self.blocks > 1 else 0
        parts, kept = kept[-self.size - ends :], kept[: -self.size - ends]
        so_far = torch.stack(parts[: self.size], dim=1)
        if ends:
            so_far = so_far.view(self.runs, self.blocks, self.size, self.d, self.d)
            later = so_far[:, 1:] @ torch.stack(parts[self.size : -1], dim=1).unsqueeze(2)
            so_far = torch.cat([so_far[:, :1], later], dim=1).flatten(1, 2)[:, : self.depth]
        inner = torch.bmm(_adjoint(parts[-1]), gradient).unsqueeze(1)
        lie = (so_far @ inner @ _adjoint(so_far)).view(-1, self.d, self.d)
        found: Tensor | None = None
        if self.words is not None:
            kept, turn = kept[:-1], kept[-1]
            slopes = torch.bmm(lie.diagonal(dim1=1, dim2=2).imag.unsqueeze(1), self.columns)
            found = self.words.pull(slopes.flatten(), vector)
            lie = turn.conj() * lie * turn.mT
        if self.turned_rows:
            lie = lie * self.back
        if self.walls.varies:
            of_turns = self.walls.pull(vector, kept, lie)
            found = of_turns if found is None else of_turns + found
        return torch.zeros_like(vector) if found is None else found


def _products(layers: Tensor) -> list[Tensor]:
    """(N, count, d, d) -> the products of the first 1, 2, ... of every row, (N, d, d) each."""
    return [*itertools.accumulate(layers.unbind(1), _then)]


def _then(first: Tensor, second: Tensor) -> Tensor:
    return torch.bmm(second, first)


def _adjoint(matrices: Tensor) -> Tensor:
    return matrices.mH.resolve_conj() if matrices.is_complex() else matrices.mT
