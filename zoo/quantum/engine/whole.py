"""Runs of stages of a small circuit contracted to one matrix on all wires.

Each layer is a wall of turns, as one Kronecker product, whose rows are then permuted and multiplied with phases; the
layers are multiplied in pairs. The cost is independent of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zoo.quantum.angle import Angle
from zoo.quantum.engine.layout import BitMap, inverse_of, shuffled, signs
from zoo.quantum.engine.schedule import KEPT, Chain, Monomial, Shuffle, Wall
from zoo.quantum.engine.tables import Affine, Chains, Locate, Table, kronecker

#: The widest circuit that is contracted.
SMALL = 5


@dataclass
class _Layer:
    """A wall, then a permutation with phases: row y of the product is row source[y] of the wall's, turned."""

    chains: list[Chain]
    source: Tensor
    words: list[tuple[Angle, Tensor]] = field(default_factory=list)

    def permute(self, moved: Tensor) -> None:
        back = inverse_of(moved)
        self.source = self.source[back]
        self.words = [(angle, column[back]) for angle, column in self.words]


def _layers(run: Sequence[Wall | Monomial | Shuffle], n: int) -> list[_Layer]:
    layers: list[_Layer] = []
    for stage in run:
        if isinstance(stage, Wall) or not layers:
            chains = stage.chains if isinstance(stage, Wall) else {}
            layers.append(_Layer([chains.get(wire, KEPT) for wire in range(n)], torch.arange(2**n)))
        if isinstance(stage, Monomial):
            for phase in stage.phases:
                layers[-1].words.append((phase.angle, signs([phase.wires], 0, n)[:, 0]))
            if stage.rows:
                layers[-1].permute(BitMap.of_parities(stage.rows, n).table())
        elif isinstance(stage, Shuffle):
            for piece in stage.pieces:
                layers[-1].permute(shuffled(torch.arange(2**n), piece, n))
    return layers


class Whole(Table):
    """(runs, 2^n, 2^n) matrices.

    Args:
        runs: stages whose angles all samples share.
        n: the number of wires.
        locate: where the angles lie.
        real: whether all matrices are real.
    """

    def __init__(self, runs: Sequence[Sequence[Wall | Monomial | Shuffle]], n: int, locate: Locate, real: bool):
        self.runs, self.d = len(runs), 2**n
        of_runs = [_layers(run, n) for run in runs]
        self.depth = max(map(len, of_runs))
        none = _Layer([KEPT] * n, torch.arange(self.d))
        layers = [layer for run in of_runs for layer in [*run, *[none] * (self.depth - len(run))]]
        self.chains = Chains([chain for layer in layers for chain in layer.chains], locate, real)
        self.source = torch.cat([self.d * place + layer.source for place, layer in enumerate(layers)])
        self.moves = not torch.equal(self.source, torch.arange(len(self.source)))
        self._set_phases(layers, locate, real)

    def _set_phases(self, layers: list[_Layer], locate: Locate, real: bool) -> None:
        constant = torch.zeros(len(layers), self.d, dtype=torch.float64)
        varied: list[list[tuple[Angle, Tensor]]] = [[] for _ in layers]
        for place, layer in enumerate(layers):
            for angle, column in layer.words:
                if angle.source == "constant":
                    constant[place] += angle.offset * column
                else:
                    varied[place].append((angle, column))
        most = max(map(len, varied))
        self.columns = torch.zeros(len(layers), self.d, most, dtype=torch.float64)
        for place, words in enumerate(varied):
            for index, (_, column) in enumerate(words):
                self.columns[place, :, index] = column
        angles = [angle for words in varied for angle in [*(a for a, _ in words), *[Angle()] * (most - len(words))]]
        self.words = Affine(angles, locate) if most else None
        factor = torch.polar(torch.ones_like(constant), constant).view(-1, 1)
        self.factor = factor.real.round() if real else factor
        self.turned = bool((self.factor != 1).any())

    def __call__(self, vector: Tensor) -> Tensor:
        matrices = kronecker(self.chains(vector).unflatten(0, (self.runs * self.depth, -1)))
        rows = matrices.flatten(0, 1)
        if self.moves:
            rows = rows.index_select(0, self.source)
        if self.words is not None:
            phases = torch.bmm(self.columns, self.words(vector).view(len(self.columns), -1, 1)).flatten(0, 1)
            rows = rows * torch.complex(phases.cos(), phases.sin())
        if self.turned:
            rows = rows * self.factor
        found = rows.view(self.runs, self.depth, self.d, self.d)
        while (depth := found.shape[1]) > 1:
            even = found if depth % 2 == 0 else found[:, :-1]
            first, second = even.reshape(-1, 2, self.d, self.d).unbind(1)
            pairs = torch.bmm(second, first).view(self.runs, -1, self.d, self.d)
            found = pairs if depth % 2 == 0 else torch.cat([pairs, found[:, -1:]], dim=1)
        return found[:, 0]
