"""The unitaries of one small circuit for many rows of angles, by a product with constants."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from zoo.eager import must_compose
from zoo.quantum.circuit import Circuit
from zoo.quantum.op import Op

#: Angles a chunk, by the largest dimension of a unitary for which its 3**angles constant matrices are worth it.
_CHUNKS = ((4, 4), (16, 2))


class SmallCircuit:
    """A circuit of gates with weights, prepared for `unitaries`.

    Every entry of a gate is linear in 1, cos(k t), sin(k t) of each of its angles t, with k = 1/2 or 1. So are those of
    a chunk of gates in the products of these numbers: a chunk is one matrix product with constants.

    Args:
        circuit: all of whose ops are gates, none of which reads an input.
    """

    def __init__(self, circuit: Circuit):
        self.circuit, self.n_weights, self.dim = circuit, circuit.n_weights, 2**circuit.n_qubits
        chunks = _chunks(circuit.ops, next((size for dim, size in _CHUNKS if self.dim <= dim), 1))
        most = max(sum(len(op.angles) for op in chunk) for chunk in chunks)
        self._size = 1 << max(most - 1, 0).bit_length()
        #: Of all angles, those of one chunk behind the other: the weight, and by what it is multiplied and moved.
        angles: list[tuple[int, float, float]] = []
        constants = torch.stack([self._constants(chunk, angles) for chunk in chunks])
        #: (chunks, 3**size, real numbers of a unitary)
        self._matrix = torch.nn.functional.hardshrink(torch.view_as_real(constants), 1e-14).flatten(2)
        self._columns, *lines = map(list, zip(*angles, strict=True))
        self._lines = torch.tensor(lines, dtype=torch.float64, device="cpu")

    def _constants(self, chunk: Sequence[Op], angles: list[tuple[int, float, float]]) -> Tensor:
        """(3**size, D, D); the chunk's angles are appended."""
        made = torch.eye(self.dim, dtype=torch.complex128, device="cpu")[None]
        for op in chunk:
            waves, small = _waves(op)
            gate = torch.nn.functional.pad(small, (0, 1))[:, self._places(op)].unflatten(1, (self.dim, self.dim))
            made = torch.einsum("gij,fjk->fgik", gate, made).flatten(0, 1)
            for wave, angle in zip(waves, op.angles, strict=True):
                weight, scale = (angle.place, wave * angle.scale) if angle.source == "weight" else (0, 0.0)
                angles.append((weight, scale, wave * angle.offset))
        for _ in range(self._size - sum(len(op.angles) for op in chunk)):  # an angle that nothing depends on
            made = torch.nn.functional.pad(made.unsqueeze(1), (0, 0, 0, 0, 0, 2)).flatten(0, 1)
            angles.append((0, 0.0, 0.0))
        return made

    def _places(self, op: Op) -> list[int]:
        """Where each entry of the unitary of the whole circuit lies in the gate's matrix, row by row; behind its end
        for zeros.
        """
        n, small = self.circuit.n_qubits, 2 ** len(op.wires)
        shifts = [n - 1 - wire for wire in op.wires]
        chosen = sum(1 << shift for shift in shifts)

        def inner(state: int) -> int:
            return sum((state >> shift & 1) << k for k, shift in enumerate(reversed(shifts)))

        return [
            inner(row) * small + inner(column) if row & ~chosen == column & ~chosen else small**2
            for row in range(self.dim)
            for column in range(self.dim)
        ]

    def unitaries(self, weights: Float[Tensor, "rows weights"]) -> Complex[Tensor, "rows dim dim"]:
        """One for every row; differentiable."""
        angles = weights
        if self._columns != list(range(self.n_weights)):
            angles = weights.index_select(1, torch.tensor(self._columns, device=weights.device))
        scales, offsets = self._lines.to(weights)
        angles = angles * scales + offsets
        angles = angles.view(len(weights), -1, self._size).transpose(0, 1)
        matrix = self._matrix.to(weights)
        made = _composed(angles, matrix) if must_compose(angles) else _Chunks.apply(angles, matrix)
        first, *others = torch.view_as_complex(made.unflatten(2, (self.dim, self.dim, 2))).unbind(0)
        return functools.reduce(lambda before, chunk: chunk @ before, others, first)


class _Chunks(torch.autograd.Function):
    """The matrices of chunks, as real numbers: (C, R, n), of angles (C, R, a) and constants (C, 3**a, n)."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, matrix: Tensor) -> Tensor:
        levels = _products(angles)
        ctx.save_for_backward(angles, matrix, *levels[:-1])
        return levels[-1].squeeze(2) @ matrix

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        angles, matrix, *levels = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():  # a second derivative is asked for
            return *torch.autograd.grad(_composed(angles, matrix), angles, gradient, create_graph=True), None
        g = (gradient @ matrix.mT).unsqueeze(2)
        for level in reversed(levels):
            before, width = torch.empty_like(level), level.shape[3]
            g = g.unflatten(3, (width, width))
            torch.sum(g * level[:, :, 1::2, None, :], 4, out=before[:, :, 0::2])
            torch.sum(g * level[:, :, 0::2, :, None], 3, out=before[:, :, 1::2])
            g = before
        numbers = levels[0] if levels else _numbers(angles)
        return numbers[..., 1] * g[..., 2] - numbers[..., 2] * g[..., 1], None


def _composed(angles: Tensor, matrix: Tensor) -> Tensor:
    return _products(angles)[-1].squeeze(2) @ matrix


def _products(angles: Tensor) -> list[Tensor]:
    """(C, R, a, 3) the numbers of each angle, (C, R, a / 2, 9) their products in pairs ... (C, R, 1, 3**a)."""
    levels = [_numbers(angles)]
    while levels[-1].shape[2] > 1:
        last = levels[-1]
        levels.append((last[:, :, 0::2, :, None] * last[:, :, 1::2, None, :]).flatten(3))
    return levels


def _chunks(ops: Sequence[Op], size: int) -> list[list[Op]]:
    """The ops in runs of `size` angles at most; an op of more is alone."""
    chunks: list[list[Op]] = [[]]
    for op in ops:
        if chunks[-1] and sum(len(other.angles) for other in [*chunks[-1], op]) > size:
            chunks.append([])
        chunks[-1].append(op)
    return chunks


def _waves(op: Op) -> tuple[tuple[float, ...], Tensor]:
    """The k of each angle of a gate, and its matrices, (3**angles, entries), that 1, cos(k t), sin(k t) multiply."""
    count = len(op.angles)
    at = torch.arange(3, dtype=torch.float64, device="cpu") * (2 * math.pi / 3)
    solve = torch.linalg.inv(_numbers(at)).to(torch.complex128)
    probe = torch.linspace(0.3, 4.0, max(count, 1), dtype=torch.float64, device="cpu")[:count]
    for waves in itertools.product((0.5, 1.0), repeat=count):
        k = torch.tensor(waves, dtype=torch.float64, device="cpu")
        grid = torch.cartesian_prod(*[at] * count).view(3**count, count) if count else at.new_empty(1, 0)
        rows = op.unitary(grid / k).to(torch.complex128).reshape(3**count, -1)
        numbers = at.new_ones(1).to(torch.complex128)
        for angle in range(count):
            rows = torch.einsum("st,atb->asb", solve, rows.view(3**angle, 3, -1)).reshape(3**count, -1)
            numbers = (numbers[:, None] * _numbers(probe[angle] * k[angle])).flatten()
        if torch.allclose(numbers @ rows, op.unitary(probe).flatten().to(torch.complex128), rtol=0, atol=1e-12):
            return waves, rows
    raise ValueError(f"the gate {op.gate!r} has angles that it depends on by other than one sine wave")


def _numbers(angles: Tensor) -> Tensor:
    return torch.stack([torch.ones_like(angles), angles.cos(), angles.sin()], -1)
