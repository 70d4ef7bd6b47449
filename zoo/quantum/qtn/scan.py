"""The product of many small matrices in log2(T) rounds, and the scales that are taken out on the way."""

from typing import Any

import torch
from jaxtyping import Inexact, Int
from torch import Tensor

from zoo.eager import must_compose

#: The largest matrices that are multiplied entry by entry; larger ones one by one.
_SMALL = 4


class Rescaler:
    """Divides amplitudes by the largest of them and keeps account, sample by sample.

    A factor cancels where probabilities are divided by their sum, so no gradient is taken of it and none is lost.

    Args:
        batch: samples.
        like: whose precision and device the logarithms have.
    """

    def __init__(self, batch: int, like: Tensor):
        one = torch.ones(batch, 1, dtype=like.real.dtype, device=like.device)
        self._divisors: list[tuple[Tensor, Tensor | None]] = [(one, None)]

    def __call__(self, x: Tensor, axes: int) -> Tensor:
        """x (B, ..., *axes) over its largest number along so many last axes."""
        x, divisors = rescaled(x, range(-axes, 0))
        self.note(divisors.unsqueeze(1).flatten(1))
        return x

    def note(self, divisors: Tensor, index: Tensor | None = None) -> None:
        """Take account of (B, n) numbers that were divided by, or of those that an index (B, n) names of a list."""
        self._divisors.append((divisors, index))

    @property
    def least(self) -> Tensor:
        """No sample was divided by less; of all at once, it is quicker than `lowest`."""
        return torch.cat([divisors.flatten() for divisors, _ in self._divisors]).amin()

    @property
    def log(self) -> Tensor:
        """(B,) the logarithm of all that was divided out."""
        return self._of_samples().log().sum(1)

    @property
    def lowest(self) -> Tensor:
        """(B,) the lowest number that was divided by: of amplitudes whose largest is a rounding error it is that."""
        return self._of_samples().amin(1)

    def _of_samples(self) -> Tensor:
        return torch.cat([divisors if index is None else divisors[index] for divisors, index in self._divisors], 1)


def rescaled(x: Tensor, axes: "range | tuple[int, ...]") -> tuple[Tensor, Tensor]:
    """x over its largest real or imaginary part along some axes, and that number; 0 stays 0."""
    largest = largest_of(x, axes)
    return x * largest.reciprocal(), largest.squeeze(tuple(axes))


def largest_of(x: Tensor, axes: "range | tuple[int, ...]") -> Tensor:
    """The largest real or imaginary part along some axes, which are kept; not below the least normal number."""
    x = x.detach()
    if x.is_complex():
        parts = torch.view_as_real(x.resolve_conj()).abs().amax([axis - 1 if axis < 0 else axis for axis in axes], True)
        x = parts.amax(-1)
    else:
        x = x.abs().amax(tuple(axes), True)
    return x.clamp_min(torch.finfo(x.dtype).tiny)


def ordered_product(
    matrices: Inexact[Tensor, "batch steps dim dim"], rescale: Rescaler | None = None
) -> Inexact[Tensor, "batch dim dim"]:
    """M_{T-1} ... M_1 M_0 for every sample, by multiplying neighbours.

    Args:
        matrices: (B, T, d, d), T at least 1.
        rescale: called after every round; then the product of any number of matrices is finite.
    """
    while matrices.shape[1] > 1:
        odd = matrices[:, -1:] if matrices.shape[1] % 2 else None
        even = matrices.shape[1] // 2 * 2
        matrices = matrices[:, 1:even:2] @ matrices[:, 0:even:2]
        if rescale is not None:
            matrices = rescale(matrices, 2)
        if odd is not None:
            matrices = torch.cat([matrices, odd], 1)
    return matrices[:, 0]


def table_product(
    table: Inexact[Tensor, "dim dim entries"],
    index: Int[Tensor, "steps batch"],
    start: Inexact[Tensor, "dim batch"],
    rescale: Rescaler | None = None,
) -> Inexact[Tensor, "dim batch"]:
    """M_{T-1} ... M_1 M_0 v for every sample, of matrices M that the index names in a table.

    Small matrices are multiplied entry by entry, each operation going over all of them, with a backward pass of its
    own.
    """
    if len(table) > _SMALL or must_compose(table, start):
        return _composed(table, index, start, rescale)
    state, own, pairs = _TableProduct.apply(table, index, start, rescale is not None)  # pyright: ignore[reportGeneralTypeIssues]
    if rescale is not None:
        rescale.note(own, index.mT)
        rescale.note(pairs.mT)
    return state


def _composed(table: Tensor, index: Tensor, start: Tensor, rescale: Rescaler | None) -> Tensor:
    if rescale is not None:
        table, divisors = rescaled(table, (0, 1))
        rescale.note(divisors, index.mT)
    matrices = table.permute(2, 0, 1).index_select(0, index.mT.flatten())
    product = ordered_product(matrices.unflatten(0, (index.shape[1], index.shape[0])), rescale)
    return (product @ start.mT.unsqueeze(-1)).squeeze(-1).mT


class _TableProduct(torch.autograd.Function):
    """The state, and the numbers that the table, (N,), and products, (n, B), were divided by."""

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, index: Tensor, start: Tensor, rescales: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        dim, factors, divisors = len(table), [], []

        def scale(x: Tensor) -> None:
            largest = largest_of(x, (0, 1))[0, 0]
            divisors.append(largest)
            factors.append(largest.reciprocal())
            x *= factors[-1]

        entries = table.clone(memory_format=torch.contiguous_format) if rescales else table
        if rescales:
            scale(entries)
        level = entries.flatten(0, 1).index_select(1, index.flatten()).view(dim, dim, *index.shape)
        levels = [level]
        while (steps := level.shape[2]) > 1:
            half = steps // 2
            after = level.new_empty(dim, dim, steps - half, level.shape[3])
            pairs = after[:, :, :half] if steps % 2 else after
            earlier, later = _neighbours(level)
            _multiply(later, earlier, pairs)
            if rescales:
                scale(pairs)
            if steps % 2:
                after[:, :, half:] = level[:, :, -1:]
            level = after
            levels.append(level)
        product = level[:, :, 0]
        ctx.rescales = rescales
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[2]:
            ctx.save_for_backward(table, index, start, *levels, *factors)
        state = (product * start).sum(1)
        if not rescales:
            return state, None, None
        noted = divisors[0], torch.cat([start.new_empty(0, start.shape[1]).real, *divisors[1:]])
        ctx.mark_non_differentiable(*noted)
        return state, *noted

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        table, index, start, *saved = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for
            given = (table, start)
            state = _composed(table, index, start, Rescaler(index.shape[1], table) if ctx.rescales else None)
            asked = [part for part, wanted in zip(given, ctx.needs_input_grad[::2], strict=True) if wanted]
            found = iter(torch.autograd.grad(state, asked, gradient, create_graph=True))
            return tuple(next(found) if wanted else None for wanted in ctx.needs_input_grad)
        rounds = (len(saved) - 1) // 2 if ctx.rescales else len(saved) - 1
        levels, factors = saved[: rounds + 1], saved[rounds + 1 :]
        # Conjugate gradients: of C = A B they are g B^T of A, and A^T g of B.
        g = gradient.conj().resolve_conj()
        product = levels.pop()[:, :, 0]
        of_start = (product * g.unsqueeze(1)).sum(0)
        g = (g.unsqueeze(1) * start).unsqueeze(2)
        for level in reversed(levels):
            steps = level.shape[2]
            half = steps // 2
            before = torch.empty_like(level)
            pairs = g[:, :, :half] if steps % 2 else g
            if ctx.rescales:
                pairs = pairs * factors.pop()
            (earlier, later), (of_earlier, of_later) = _neighbours(level), _neighbours(before)
            _multiply(pairs, earlier.transpose(0, 1), of_later)
            _multiply(later.transpose(0, 1), pairs, of_earlier)
            if steps % 2:
                before[:, :, -1:] = g[:, :, half:]
            g = before
        into = table.new_zeros(table.shape).flatten(0, 1)
        into.index_add_(1, index.flatten(), g.flatten(2).flatten(0, 1))
        if ctx.rescales:
            into *= factors.pop()
        return into.conj().resolve_conj().view(table.shape), None, of_start.conj().resolve_conj(), None


def _neighbours(level: Tensor) -> tuple[Tensor, Tensor]:
    """Views of the pairs of a level (d, d, steps, B): the first of each, and the second."""
    even = level.shape[2] // 2 * 2
    first, second = level[:, :, :even].unflatten(2, (-1, 2)).unbind(3)
    return first, second


def _multiply(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """The products of matrices (d, d, ...), written into `out`."""
    columns, rows = a.unsqueeze(2).unbind(1), b.unsqueeze(0).unbind(1)
    torch.mul(columns[0], rows[0], out=out)
    for column, row in zip(columns[1:], rows[1:], strict=True):
        out.addcmul_(column, row)
    return out
