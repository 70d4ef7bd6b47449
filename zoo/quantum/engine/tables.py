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
    if isinstance(entry, list):
        return [_moved(part, device, real) for part in entry]
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
        self.straight = self.index.tolist() == list(range(len(angles)))
        self.common = scale[0] if len(set(scale)) == 1 else None

    def __call__(self, vector: Tensor) -> Tensor:
        """(rows,) or (rows, batch) of a vector (N,) or (N, batch)."""
        straight = self.straight and len(vector) == len(self.index)
        found = vector if straight else vector.index_select(0, self.index)
        if self.common is not None and self.shifted:
            return torch.add(_columns(self.shift, vector), found, alpha=self.common)
        found = found * (_columns(self.scale, vector) if self.common is None else self.common)
        return found + _columns(self.shift, vector) if self.shifted else found

    def pull(self, gradient: Tensor, vector: Tensor) -> Tensor:
        """The gradient of the vector from that of the angles."""
        gradient = gradient * (_columns(self.scale, vector) if self.common is None else self.common)
        if self.straight and len(vector) == len(self.index):
            return gradient
        return torch.zeros_like(vector).index_add(0, self.index, gradient)


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
        self.column = column
        longest = max(map(len, chains))
        places = [[chain[i] if i < len(chain) else _IDENTITY for chain in chains] for i in range(longest)]
        turns = [factor for place in places for factor in place if isinstance(factor, Turn)]
        self.turns = Turns(turns, locate, real) if turns else None
        self.places: list[_Place] = []
        first = 0
        for place in places:
            self.places.append(_Place(place, first, real))
            first += self.places[-1].count

    def __call__(self, vector: Tensor) -> Tensor:
        table = None if self.turns is None else self.turns(vector)
        found: Tensor | None = None
        for place in self.places:
            factor = place(table, vector)
            if found is None:
                found = factor[:, :, :1] if self.column else factor
            elif self.column:
                found = (factor * found.transpose(1, 2)).sum(2, keepdim=True)
            elif vector.dim() > 1:
                found = (factor.unsqueeze(3) * found.unsqueeze(1)).sum(2)
            else:
                found = torch.bmm(factor, found)
        assert found is not None
        return found

    @property
    def single(self) -> bool:
        """Whether every slot is one real turn."""
        return self.turns is not None and self.turns.real and len(self.places) == 1 and not len(self.places[0].fixed)

    def pull(self, lie: Tensor, table: Tensor, vector: Tensor) -> Tensor:
        """The gradient of a vector that all samples share, where some slot has a turn.

        Args:
            lie: (slots, 2, 2) the gradient of each slot's matrix, times its adjoint.
            table: the slots' matrices.
            vector: of the angles.
        """
        with torch.enable_grad():
            leaf = vector.detach().requires_grad_()
            return torch.autograd.grad(self(leaf), leaf, torch.bmm(lie, table))[0]


class _Place(Table):
    """The factors at one place of all chains: turns, numbers, or some of both."""

    def __init__(self, factors: Sequence[Turn | Fixed], first: int, real: bool):
        self.first = first
        self.count = sum(isinstance(factor, Turn) for factor in factors)
        fixed = [factor.matrix for factor in factors if isinstance(factor, Fixed)]
        entries = torch.tensor(fixed, dtype=torch.complex128).view(-1, 2, 2)
        self.fixed = entries.real.clone() if real else entries
        order = sorted(range(len(factors)), key=lambda i: isinstance(factors[i], Fixed))
        self.order = torch.tensor(order).argsort()

    def __call__(self, table: Tensor | None, vector: Tensor) -> Tensor:
        """(slots, 2, 2) or (slots, 2, 2, batch or 1) of the table of all turns."""
        fixed = self.fixed if vector.dim() == 1 else self.fixed.unsqueeze(-1)
        if not self.count:
            return fixed
        assert table is not None
        turns = table if self.count == len(table) else table[self.first : self.first + self.count]
        if not len(fixed):
            return turns
        fixed = fixed.expand(*fixed.shape[:3], *turns.shape[3:])
        return torch.cat([turns, fixed]).index_select(0, self.order)


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
    while (count := matrices.shape[1]) > 1:
        if count % 2:
            rest.append(matrices[:, -1:])
            matrices = matrices[:, :-1]
        matrices = _pair(*matrices.unflatten(1, (count // 2, 2)).unbind(2))
    for last in reversed(rest):
        matrices = _pair(matrices, last)
    return matrices[:, 0]


def _pair(left: Tensor, right: Tensor) -> Tensor:
    (*lead, d, _), e = left.shape, right.shape[-1]
    return (left.reshape(*lead, d, 1, d, 1) * right.reshape(*lead, 1, e, 1, e)).reshape(*lead, d * e, d * e)


def outer(vectors: Tensor) -> Tensor:
    """(m, L, d, T) -> (L, d^m, T): the product state of m wires, the first the most significant."""
    rest: list[Tensor] = []
    while (count := len(vectors)) > 1:
        if count % 2:
            rest.append(vectors[-1:])
            vectors = vectors[:-1]
        vectors = _outer_pair(*vectors.unflatten(0, (count // 2, 2)).unbind(1))
    for last in reversed(rest):
        vectors = _outer_pair(vectors, last)
    return vectors[0]


def _outer_pair(left: Tensor, right: Tensor) -> Tensor:
    return (left.unsqueeze(3) * right.unsqueeze(2)).flatten(2, 3)
