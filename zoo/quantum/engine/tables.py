"""All matrices of a call at once: angles gathered by index, one sine and cosine, products of 2 x 2 and of Kronecker.

Tables of what all samples share have no batch axis; those of each sample's own angles have it last.
"""

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from zoo.quantum.angle import Angle
from zoo.quantum.engine.lowering import Fixed, Turn
from zoo.quantum.engine.schedule import Chain
from zoo.quantum.gates import complex_type
from zoo.quantum.op import Op

Self = TypeVar("Self", bound="Table")

#: The place of an angle in the vector that a table reads.
Locate = Callable[[Angle], int]

_IDENTITY = Fixed((1, 0, 0, 1))


def _columns(values: Tensor, like: Tensor) -> Tensor:
    """Values a row, shaped to be multiplied with (rows, ...) or (rows, ..., batch)."""
    return values if like.dim() == 1 else values.unsqueeze(-1)


class Table:
    """What holds tensors of numbers."""

    def moved(self: Self, device: torch.device, real: torch.dtype) -> Self:
        """A copy with all tensors on the device and in the precision of `real`."""
        new = copy.copy(self)
        for name, entry in vars(self).items():
            setattr(new, name, _moved(entry, device, real))
        return new


def _moved(entry: object, device: torch.device, real: torch.dtype) -> object:
    if isinstance(entry, Table):
        return entry.moved(device, real)
    if isinstance(entry, dict):
        return {name: _moved(part, device, real) for name, part in entry.items()}
    if not isinstance(entry, Tensor):
        return entry
    if entry.is_complex():
        return entry.to(device, complex_type(real))
    return entry.to(device, real) if entry.is_floating_point() else entry.to(device)


class Affine(Table):
    """scale * vector[index] + shift, an angle an entry.

    Args:
        angles: what to gather.
        locate: where they lie in the vector.
        factor: what scale and shift are multiplied with.
    """

    def __init__(self, angles: Sequence[Angle], locate: Locate, factor: float = 1.0):
        varied = [angle.source != "constant" for angle in angles]
        self.index = torch.tensor(
            [locate(angle) if free else 0 for angle, free in zip(angles, varied, strict=True)], dtype=torch.long
        )
        scale = [factor * angle.scale if free else 0.0 for angle, free in zip(angles, varied, strict=True)]
        self.scale = torch.tensor(scale, dtype=torch.float64)
        self.shift = factor * torch.tensor([angle.offset for angle in angles], dtype=torch.float64)
        self.shifted = bool(self.shift.any())

    def __call__(self, vector: Tensor) -> Tensor:
        """(rows,) or (rows, batch) of a vector (N,) or (N, batch)."""
        found = vector.index_select(0, self.index) * _columns(self.scale, vector)
        return found + _columns(self.shift, vector) if self.shifted else found


class Turns(Table):
    """(rows, 2, 2) matrices of turns, or (rows, 2, 2, batch); real if all of the turns are and `real` is asked for."""

    def __init__(self, turns: Sequence[Turn], locate: Locate, real: bool):
        self.theta = Affine([turn.theta for turn in turns], locate, 0.5)
        self.real = real
        self.phased = any(a.source != "constant" for turn in turns for a in (turn.phi, turn.omega))
        kinds = torch.tensor([turn.kind for turn in turns], dtype=torch.float64)[:, None]
        phi = torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64) + kinds
        omega = torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64) + kinds
        self.phi = Affine([turn.phi for turn in turns], locate, 0.5)
        self.omega = Affine([turn.omega for turn in turns], locate, 0.5)
        constant = phi * self.phi.shift[:, None] + omega * self.omega.shift[:, None]
        self.factor = torch.polar(torch.ones_like(constant), constant)
        self.plain = not bool(constant.any())
        self.of_phi, self.of_omega = phi * self.phi.scale[:, None], omega * self.omega.scale[:, None]

    def __call__(self, vector: Tensor) -> Tensor:
        theta = self.theta(vector)
        c, s = theta.cos(), theta.sin()
        entries = torch.stack([c, -s, s, c], dim=1)
        if not self.real:
            if self.phased:
                phi = vector.index_select(0, self.phi.index).unsqueeze(1)
                omega = vector.index_select(0, self.omega.index).unsqueeze(1)
                turns = _columns(self.of_phi, vector) * phi + _columns(self.of_omega, vector) * omega
                entries = torch.complex(entries * turns.cos(), entries * turns.sin())
            if not self.plain:
                entries = entries * _columns(self.factor, vector)
            elif not self.phased:
                entries = torch.complex(entries, torch.zeros_like(entries))
        return entries.unflatten(1, (2, 2))


class Chains(Table):
    """Products of turns a slot: (slots, 2, 2), or (slots, 2, 2, batch).

    Args:
        chains: the factors of every slot in the order in which they act.
        locate: where their angles lie.
        real: whether all of them are real.
        column: give only the first column, the state that the wire's 0 becomes.
    """

    def __init__(self, chains: Sequence[Chain], locate: Locate, real: bool, column: bool = False):
        self.real, self.column = real, column
        longest = max(map(len, chains))
        turns: list[Turn] = []
        fixed: list[Fixed] = []
        rows: list[list[tuple[bool, int]]] = []
        for place in range(longest):
            rows.append([])
            for chain in chains:
                factor = chain[place] if place < len(chain) else _IDENTITY
                known = fixed if isinstance(factor, Fixed) else turns
                if isinstance(factor, Turn):
                    turns.append(factor)
                elif factor not in fixed:
                    fixed.append(factor)
                rows[-1].append((known is fixed, fixed.index(factor) if isinstance(factor, Fixed) else len(turns) - 1))
        self.turns = Turns(turns, locate, real) if turns else None
        entries = torch.tensor([factor.matrix for factor in fixed], dtype=torch.complex128).view(-1, 2, 2)
        self.fixed = entries.real.clone() if real else entries
        self.rows = torch.tensor(
            [[len(turns) + place if given else place for given, place in row] for row in rows], dtype=torch.long
        )
        self.direct = not fixed and longest == 1

    def __call__(self, vector: Tensor) -> Tensor:
        parts = [] if self.turns is None else [self.turns(vector)]
        if len(self.fixed):
            constant = self.fixed
            if vector.dim() > 1:
                constant = constant.unsqueeze(-1).expand(*constant.shape, vector.shape[1])
            parts.append(constant)
        table = parts[0] if len(parts) == 1 else torch.cat(parts)
        found = table if self.direct else table.index_select(0, self.rows[0])
        if self.column:
            found = found[:, :, :1]
        for row in self.rows[1:]:
            factor = table.index_select(0, row)
            if vector.dim() > 1:
                found = (factor.unsqueeze(3) * found.unsqueeze(1)).sum(2)
            else:
                found = factor @ found
        return found


class OpMatrix(Table):
    """The matrix of a gate, (d, d), or (batch, d, d)."""

    def __init__(self, op: Op, locate: Locate, real: bool):
        self.op, self.real = op, real
        self.angles = Affine(op.angles, locate)

    def __call__(self, vector: Tensor) -> Tensor:
        angles = self.angles(vector)
        matrix = self.op.unitary(angles if vector.dim() == 1 else angles.t())
        return matrix.real if self.real else matrix


def kronecker(matrices: Tensor) -> Tensor:
    """(N, k, d, d) -> (N, d^k, d^k), the first of the k the most significant."""
    rest: list[Tensor] = []
    while matrices.shape[1] > 1:
        if matrices.shape[1] % 2:
            rest.append(matrices[:, -1:])
            matrices = matrices[:, :-1]
        matrices = _pair(matrices[:, 0::2], matrices[:, 1::2])
    for last in reversed(rest):
        matrices = _pair(matrices, last)
    return matrices[:, 0]


def _pair(left: Tensor, right: Tensor) -> Tensor:
    product = left.unsqueeze(-1).unsqueeze(-3) * right.unsqueeze(-2).unsqueeze(-4)
    size = left.shape[-1] * right.shape[-1]
    return product.reshape(*left.shape[:-2], size, size)


def outer(vectors: Tensor) -> Tensor:
    """(m, L, d, T) -> (L, d^m, T): the product state of m wires, the first the most significant."""
    rest: list[Tensor] = []
    while len(vectors) > 1:
        if len(vectors) % 2:
            rest.append(vectors[-1:])
            vectors = vectors[:-1]
        vectors = _outer_pair(vectors[0::2], vectors[1::2])
    for last in reversed(rest):
        vectors = _outer_pair(vectors, last)
    return vectors[0]


def _outer_pair(left: Tensor, right: Tensor) -> Tensor:
    return (left.unsqueeze(3) * right.unsqueeze(2)).flatten(2, 3)
