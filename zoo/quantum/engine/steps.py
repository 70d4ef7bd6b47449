"""What a compiled circuit does to states, one large operation a step.

States are (L, 2^n, T) with the batch in L (T = 1) or in T (L = 1), whichever makes long rows. Every step knows how to
`run`, to `undo` and, for backward, how its tensor's gradient follows from the state before it and the gradient after
it. With `out` given, results go there and nothing is differentiable.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

#: Numbers of a state from which a product is summed at once: more would need as much memory as the states.
_PIECE = 1 << 16
#: From so many amplitudes on samples are permuted one by one.
_LONG = 1 << 12
#: Gradients by the name of the tensor.
Gradients = dict[str, Tensor]
Tensors = dict[str, Tensor]


@runtime_checkable
class Step(Protocol):
    def run(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        """The state after the step."""
        ...

    def undo(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        """The state before the step; also takes a gradient after it to that before it."""
        ...

    def grade(self, before: Tensor, after: Tensor, gradient: Tensor, tensors: Tensors, found: Gradients) -> None:
        """Add the gradient of the step's tensor, where it is asked for.

        Args:
            before: the state before the step.
            after: the state after it.
            gradient: that of the loss in the state after it.
            tensors: what the steps are made of.
            found: where to add.
        """
        ...


def _multiply(matrix: Tensor, state: Tensor, place: int, out: Tensor | None) -> Tensor:
    """(d, d) on the log2(d) neighbouring wires of (L, 2^n, T) from wire `place` on."""
    d = matrix.shape[-1]
    shape = state.shape
    if state.is_complex() and not matrix.is_complex():
        if shape[1] > d << place or shape[2] > 1:
            view = torch.view_as_real(state).reshape(shape[0] << place, d, -1)
            target = None if out is None else torch.view_as_real(out).view(view.shape)
            after = torch.bmm(matrix.expand(len(view), d, d), view, out=target)
            return torch.view_as_complex(after.view(*shape, 2)) if out is None else out
        matrix = matrix.to(state.dtype)
    view = state.reshape(shape[0] << place, d, -1)
    if len(view) == 1:
        target = None if out is None else out.view(d, -1)
        after = torch.mm(matrix, view[0], out=target)
    elif view.shape[2] == 1:
        target = None if out is None else out.view(len(view), d)
        after = torch.mm(view[:, :, 0], matrix.t(), out=target)
    else:
        target = None if out is None else out.view(view.shape)
        after = torch.bmm(matrix.expand(len(view), d, d), view, out=target)
    return after.view(shape) if out is None else out


def _matrix_gradient(before: Tensor, gradient: Tensor, place: int, d: int, real: bool) -> Tensor:
    """The sum over all but the d indices of gradient before^H."""
    rows = before.shape[0] << place
    if real and before.is_complex():
        if before.shape[1] == d << place and before.shape[2] == 1:
            return _matrix_gradient(before, gradient, place, d, False).real
        before, gradient = torch.view_as_real(before), torch.view_as_real(gradient)
    left, right = gradient.reshape(rows, d, -1), before.reshape(rows, d, -1)
    if left.shape[2] == 1:
        return left[:, :, 0].t() @ right[:, :, 0].conj()
    if rows == 1:
        return left[0] @ right[0].mH
    found = left.new_zeros(d, d)
    for start in range(0, rows, some := max(1, rows * _PIECE // left.numel())):
        found = found + torch.bmm(left[start : start + some], _adjoint(right[start : start + some])).sum(0)
    return found


@dataclass(frozen=True)
class BlockStep:
    """A (2^k, 2^k) matrix of a bank on k neighbouring wires from `wire` on."""

    bank: str
    row: int
    wire: int

    def run(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return _multiply(tensors[self.bank][self.row], state, self.wire, out)

    def undo(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return _multiply(tensors[self.bank][self.row].mH.resolve_conj(), state, self.wire, out)

    def grade(self, before: Tensor, after: Tensor, gradient: Tensor, tensors: Tensors, found: Gradients) -> None:
        if self.bank in found:
            bank = tensors[self.bank]
            d = bank.shape[-1]
            found[self.bank][self.row] += _matrix_gradient(before, gradient, self.wire, d, not bank.is_complex())


@dataclass(frozen=True)
class TurnStep:
    """A matrix of each sample's own on one wire."""

    bank: str
    row: int
    wire: int

    def _apply(self, matrix: Tensor, state: Tensor, out: Tensor | None) -> Tensor:
        view, m = self._view(state), self._matrix(matrix, state)
        first, second = view[:, :, 0], view[:, :, 1]
        if out is None:
            rows = [m[i, 0] * first + m[i, 1] * second for i in (0, 1)]
            return torch.stack(rows, dim=2).reshape(state.shape)
        target = self._view(out)
        for i in (0, 1):
            torch.mul(first, m[i, 0], out=target[:, :, i])
            target[:, :, i].addcmul_(second, m[i, 1])
        return out

    def _view(self, state: Tensor) -> Tensor:
        lead, size, tail = state.shape
        return state.reshape(lead, 1 << self.wire, 2, size >> (self.wire + 1), tail)

    def _matrix(self, matrix: Tensor, state: Tensor) -> Tensor:
        """(2, 2, batch) with its batch where that of (L, 2^wire, rest, T) is."""
        shape = (len(state), 1, 1, state.shape[2])
        return matrix.reshape(2, 2, *shape).to(state.dtype)

    def run(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return self._apply(tensors[self.bank][self.row], state, out)

    def undo(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return self._apply(tensors[self.bank][self.row].transpose(0, 1).conj(), state, out)

    def grade(self, before: Tensor, after: Tensor, gradient: Tensor, tensors: Tensors, found: Gradients) -> None:
        if self.bank not in found:
            return
        view, seen = self._view(gradient), self._view(before).conj()
        parts = [(view[:, :, i] * seen[:, :, j]).sum((1, 2)).flatten() for i in (0, 1) for j in (0, 1)]
        matrix = torch.stack(parts).view(2, 2, -1)
        found[self.bank][self.row] += matrix if tensors[self.bank].is_complex() else matrix.real


@dataclass(frozen=True)
class WallStep:
    """Matrices of each sample's own, (batch, rows, d, d) a bank, on windows of wires that follow one another.

    Each product turns the order of the wires on by its window, so that nothing has to be moved; after the last the
    order is the first again.

    Args:
        windows: (bank, row) of every window, from the first wire on; together they cover all wires.
    """

    windows: tuple[tuple[str, int], ...]

    def _matrices(self, state: Tensor, tensors: Tensors) -> list[Tensor]:
        return [tensors[bank][:, row].to(state.dtype) for bank, row in self.windows]

    @staticmethod
    def _rows(state: Tensor) -> Tensor:
        """(batch, 2^n)."""
        return state[:, :, 0] if state_is_lead(state) else state[0].t()

    def _apply(self, matrices: list[Tensor], state: Tensor, out: Tensor | None) -> Tensor:
        rows = self._rows(state)
        for matrix in matrices:
            rows = _turned(matrix, rows)
        after = rows.unsqueeze(2) if state_is_lead(state) else rows.t().unsqueeze(0)
        return after if out is None else out.copy_(after)

    def run(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return self._apply(self._matrices(state, tensors), state, out)

    def undo(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return self._apply([_adjoint(matrix) for matrix in self._matrices(state, tensors)], state, out)

    def grade(self, before: Tensor, after: Tensor, gradient: Tensor, tensors: Tensors, found: Gradients) -> None:
        if not any(bank in found for bank, _ in self.windows):
            return
        matrices = self._matrices(before, tensors)
        some = max(1, _PIECE // before.shape[1])
        for part in range(0, len(matrices[0]), some):
            samples = slice(part, part + some)
            rows, grown = self._rows(after)[samples], self._rows(gradient)[samples]
            for (bank, row), matrix in reversed(list(zip(self.windows, matrices, strict=True))):
                back = _adjoint(matrix[samples])
                right, left = (x.reshape(len(x), -1, back.shape[-1]).mT for x in (rows, grown))
                right = back @ right
                if bank in found:
                    grade = left @ _adjoint(right)
                    found[bank][samples, row] += grade if tensors[bank].is_complex() else grade.real
                rows, grown = right.flatten(1), (back @ left).flatten(1)


def _adjoint(matrices: Tensor) -> Tensor:
    """The conjugate transpose, the conjugate computed: batched products take lazy ones matrix by matrix."""
    return matrices.conj().resolve_conj().mT


def _turned(matrix: Tensor, rows: Tensor) -> Tensor:
    """(batch, d, d) on the first index of (batch, d, R), which becomes the last: (batch, R d)."""
    batch, d = matrix.shape[0], matrix.shape[-1]
    return (rows.reshape(batch, d, -1).mT @ matrix.mT).flatten(1)


@dataclass(frozen=True)
class PhaseStep:
    """exp(i sum of coefficient times sign) on every basis state: a run of rotations that commute.

    Args:
        bank: the name of the coefficients, (all, ) or (all, batch).
        start: the first coefficient of the step.
        stop: the one after its last.
        high: name of the (2^h, words) signs of the first h wires.
        low: name of the (words, 2^(n-h)) signs of the others.
    """

    bank: str
    start: int
    stop: int
    high: str
    low: str

    def _factor(self, state: Tensor, tensors: Tensors, sign: float) -> Tensor:
        """(1, 2^n, 1), or with a batch axis where that of the state is."""
        coefficients = tensors[self.bank][self.start : self.stop] * sign
        high, low = tensors[self.high], tensors[self.low]
        if coefficients.dim() == 1:
            phases = ((high * coefficients) @ low).reshape(1, -1, 1)
        else:
            phases = ((high * coefficients.t().unsqueeze(1)) @ low).flatten(1)
            phases = phases.unsqueeze(2) if state.shape[2] == 1 else phases.t().unsqueeze(0)
        return torch.complex(phases.cos(), phases.sin())

    def run(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return torch.mul(state, self._factor(state, tensors, 1.0), out=out)

    def undo(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return torch.mul(state, self._factor(state, tensors, -1.0), out=out)

    def grade(self, before: Tensor, after: Tensor, gradient: Tensor, tensors: Tensors, found: Gradients) -> None:
        if self.bank not in found:
            return
        high, low = tensors[self.high], tensors[self.low]
        seen, grown = torch.view_as_real(after), torch.view_as_real(gradient)
        slopes = grown[..., 1] * seen[..., 0] - grown[..., 0] * seen[..., 1]
        if tensors[self.bank].dim() == 1:
            slopes = slopes.sum((0, 2)).view(len(high), -1)
            grade = ((high.t() @ slopes) * low).sum(1)
        else:
            slopes = (slopes[..., 0] if state_is_lead(after) else slopes[0].t()).reshape(-1, len(high), low.shape[1])
            grade = ((high.t() @ slopes) * low).sum(2).t()
        found[self.bank][self.start : self.stop] += grade


def state_is_lead(state: Tensor) -> bool:
    """Whether the batch is the first axis of a state."""
    return state.shape[2] == 1


@dataclass(frozen=True)
class SignStep:
    """A diagonal of numbers, (2^n,)."""

    name: str

    def run(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return torch.mul(state, tensors[self.name].unsqueeze(1), out=out)

    def undo(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return torch.mul(state, tensors[self.name].conj().resolve_conj().unsqueeze(1), out=out)

    def grade(self, before: Tensor, after: Tensor, gradient: Tensor, tensors: Tensors, found: Gradients) -> None:
        pass


@dataclass(frozen=True)
class GatherStep:
    """A permutation of basis states: what lay at index[x] comes to x.

    Args:
        there: the name of the index, or of two: of the first and of the other bits of x, to be joined by xor.
        back: the same of the inverse.
    """

    there: tuple[str, ...]
    back: tuple[str, ...]

    @staticmethod
    def _apply(names: tuple[str, ...], state: Tensor, tensors: Tensors, out: Tensor | None) -> Tensor:
        index, *rest = (tensors[name] for name in names)
        for other in rest:
            index = (index.unsqueeze(1) ^ other).flatten()
        if out is None or state.shape[2] > 1 or len(index) < _LONG:
            return torch.index_select(state, 1, index, out=out)
        for row, target in zip(state, out, strict=True):  # half the time where single numbers are moved
            torch.index_select(row[:, 0], 0, index, out=target[:, 0])
        return out

    def run(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return self._apply(self.there, state, tensors, out)

    def undo(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return self._apply(self.back, state, tensors, out)

    def grade(self, before: Tensor, after: Tensor, gradient: Tensor, tensors: Tensors, found: Gradients) -> None:
        pass


@dataclass(frozen=True)
class DenseStep:
    """A gate's (d, d) matrix, or one a sample (batch, d, d), on any wires of n."""

    name: str
    wires: tuple[int, ...]
    n: int

    def _moved(self, state: Tensor) -> Tensor:
        """(L, d, rest, T) with the gate's wires in their order first."""
        rest = [1 + wire for wire in range(self.n) if wire not in self.wires]
        order = [0, *(1 + wire for wire in self.wires), *rest, self.n + 1]
        axes = state.reshape(len(state), *[2] * self.n, state.shape[2]).permute(order)
        return axes.reshape(len(state), 1 << len(self.wires), -1, state.shape[2])

    def _back(self, moved: Tensor, shape: torch.Size) -> Tensor:
        rest = [wire for wire in range(self.n) if wire not in self.wires]
        place = {wire: 1 + i for i, wire in enumerate([*self.wires, *rest])}
        order = [0, *(place[wire] for wire in range(self.n)), self.n + 1]
        return moved.reshape(shape[0], *[2] * self.n, shape[2]).permute(order).reshape(shape)

    def _apply(self, matrix: Tensor, state: Tensor, out: Tensor | None) -> Tensor:
        moved = self._moved(state)
        matrix = matrix.to(state.dtype)
        if matrix.dim() == 2:
            after = (matrix @ moved.flatten(2)).view(moved.shape)
        elif state_is_lead(state):
            after = (matrix @ moved[..., 0]).unsqueeze(3)
        else:
            after = (matrix @ moved[0].permute(2, 0, 1)).permute(1, 2, 0).unsqueeze(0)
        result = self._back(after, state.shape)
        return result if out is None else out.copy_(result)

    def run(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return self._apply(tensors[self.name], state, out)

    def undo(self, state: Tensor, tensors: Tensors, out: Tensor | None = None) -> Tensor:
        return self._apply(tensors[self.name].mH, state, out)

    def grade(self, before: Tensor, after: Tensor, gradient: Tensor, tensors: Tensors, found: Gradients) -> None:
        if self.name not in found:
            return
        left, right = self._moved(gradient), self._moved(before)
        matrix = tensors[self.name]
        if matrix.dim() == 2:
            grade = (left.flatten(2) @ right.flatten(2).mH).sum(0)
        elif state_is_lead(after):
            grade = left[..., 0] @ right[..., 0].mH
        else:
            grade = left[0].permute(2, 0, 1) @ right[0].permute(2, 0, 1).mH
        found[self.name] += grade if matrix.is_complex() else grade.real
