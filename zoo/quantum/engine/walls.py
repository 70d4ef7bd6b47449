"""Layers of turns on all wires of a small circuit, as matrices: products of an entry of each wire's turn.

A gradient comes as E = G K^H of the matrix K with the gradient G, whose trace over all wires but one is that of the
wire's turn.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.quantum.angle import Angle
from zoo.quantum.engine.layout import basis_states, bit
from zoo.quantum.engine.lowering import Turn
from zoo.quantum.engine.schedule import Chain
from zoo.quantum.engine.tables import Affine, Chains, Locate, Table, kronecker


class Walls(Table):
    """Layers of any turns.

    Args:
        layers: the chains of all wires, a layer a row.
        sources: (layers, 2^n) the basis state of the wall at every row of the layer.
        columns: the same of its columns.
        locate: where the angles lie.
        real: whether all turns are real.
    """

    def __init__(self, layers: Sequence[list[Chain]], sources: Tensor, columns: Tensor, locate: Locate, real: bool):
        self.n, d = len(layers[0]), sources.shape[1]
        self.chains = Chains([chain for chains in layers for chain in chains], locate, real)
        self.varies = self.chains.turns is not None
        self.places = _entries(d * sources.unsqueeze(2) + columns.unsqueeze(1), d * d)
        self.sign = torch.ones(len(layers), d, d, dtype=torch.float64)
        self.traces = _traces(sources, self.n).flatten()

    def make(self, vector: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All entries of all layers, and what `pull` reads."""
        table = self.chains(vector)
        entries = kronecker(table.view(-1, self.n, 2, 2)).flatten()
        return entries.index_select(0, self.places), (table,)

    def pull(self, vector: Tensor, kept: tuple[Tensor, ...], lie: Tensor) -> Tensor:
        """The gradient of the vector from E of the layers, (layers, 2^n, 2^n)."""
        (table,) = kept
        traces = lie.flatten().index_select(0, self.traces).view(len(table), 2, 2, -1).sum(3)
        return self.chains.pull(traces, table, vector)


class RealWalls(Table):
    """Layers of at most one turn a wire, all real.

    An entry is a product of cosines where row and column agree, of sines elsewhere: 2^n products a layer are enough.

    Args:
        layers: what `Rotation.of` makes of the chains of all wires, a layer a row.
        sources, columns, locate: see `Walls`.
    """

    def __init__(self, layers: Sequence[list["Rotation"]], sources: Tensor, columns: Tensor, locate: Locate):
        self.n, self.varies = len(layers[0]), True
        rotations = [rotation for layer in layers for rotation in layer]
        self.angles = Affine([rotation.angle for rotation in rotations], locate, 0.5)
        d = 2**self.n
        slots = torch.arange(len(rotations)).view(-1, self.n, 1)
        self.index = (2 * slots + _bits(basis_states(self.n).unsqueeze(0), self.n)).transpose(0, 1).flatten()
        self.places = _entries(sources.unsqueeze(2) ^ columns.unsqueeze(1), d)
        rows, across = (_bits(states, self.n) for states in (sources, columns))
        mirrored = torch.tensor([rotation.mirrored for rotation in rotations]).view(-1, self.n, 1, 1)
        negative = (rows.unsqueeze(3) < across.unsqueeze(2)) ^ (mirrored & (across.unsqueeze(2) == 1))
        self.sign = (1 - 2 * (negative.sum(1) % 2)).double()
        ends = _traces(sources, self.n)
        self.traces = torch.stack([ends[:, :, 1, 0], ends[:, :, 0, 1]], dim=2).flatten()
        self.ends = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat_interleave(d // 2)

    def make(self, vector: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All entries of all layers but for their signs."""
        angles = self.angles(vector)
        rows = torch.stack([angles.cos(), angles.sin()], dim=1).flatten()
        parts = rows.index_select(0, self.index).view(self.n, -1).unbind()
        return functools.reduce(torch.mul, parts).index_select(0, self.places), ()

    def pull(self, vector: Tensor, kept: tuple[Tensor, ...], lie: Tensor) -> Tensor:
        """See `Walls.pull`."""
        ends = (lie.real if lie.is_complex() else lie).flatten().index_select(0, self.traces)
        return self.angles.pull(torch.mv(ends.view(-1, len(self.ends)), self.ends), vector)


class Rotation:
    """A real turn after, if `mirrored`, a change of sign of 1."""

    def __init__(self, angle: Angle, mirrored: bool):
        self.angle, self.mirrored = angle, mirrored

    @staticmethod
    def of(chain: Chain) -> "Rotation | None":
        """A chain of numbers and at most one turn, if all are real."""
        if not all(factor.real for factor in chain) or sum(isinstance(factor, Turn) for factor in chain) > 1:
            return None
        angle, mirrored = Angle(), False
        for factor in chain:
            if isinstance(factor, Turn):
                angle = factor.theta + angle.offset
                continue
            a, b, c, d = (complex(entry).real for entry in factor.matrix)
            if a * d < b * c:  # a mirror turns the other way what came before it
                angle, mirrored = -angle, not mirrored
            angle = angle + 2 * math.atan2(c, a)
        return Rotation(angle, mirrored)


def _bits(states: Tensor, n: int) -> Tensor:
    """(layers, 2^n) -> (layers, n, 2^n)."""
    return torch.stack([bit(states, wire, n) for wire in range(n)], dim=1)


def _entries(places: Tensor, size: int) -> Tensor:
    """Places within each layer of so many numbers as places among all."""
    return (size * torch.arange(len(places)).view(-1, 1, 1) + places).flatten()


def _traces(sources: Tensor, n: int) -> Tensor:
    """(layers, n, 2, 2, 2^(n-1)): where the entries lie of which the trace over all other wires is the sum."""
    d = 2**n
    where = sources.argsort(dim=1)  # the rows of the layers at which the states of the walls are
    states = basis_states(n)
    zeros = torch.stack([states[bit(states, wire, n) == 0] for wire in range(n)])
    ones = zeros + (1 << torch.arange(n - 1, -1, -1)).unsqueeze(1)
    rows = where[:, torch.stack([zeros, ones], dim=1)]  # (layers, n, 2, 2^(n-1))
    first = d * d * torch.arange(len(sources)).view(-1, 1, 1, 1, 1)
    return first + d * rows.unsqueeze(3) + rows.unsqueeze(2)
