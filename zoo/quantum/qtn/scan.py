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
        self._divisors = [torch.ones(batch, 1, dtype=like.real.dtype, device=like.device)]

    def __call__(self, x: Tensor, axes: int) -> Tensor:
        """x (B, ..., *axes) over its largest number along so many last axes."""
        x, divisors = rescaled(x, range(-axes, 0))
        self.note(divisors.unsqueeze(1).flatten(1))
        return x

    def note(self, divisors: Tensor) -> None:
        """Take account of (B, n) numbers that were divided by."""
        self._divisors.append(divisors)

    @property
    def log(self) -> Tensor:
        """(B,) the logarithm of all that was divided out."""
        return torch.cat(self._divisors, 1).log().sum(1)

    @property
    def lowest(self) -> Tensor:
        """(B,) the lowest number that was divided by: of amplitudes whose largest is a rounding error it is that."""
        return torch.cat(self._divisors, 1).amin(1)


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
    table: Inexact[Tensor, "dim dim entries"], index: Int[Tensor, "steps batch"], rescale: Rescaler | None = None
) -> Inexact[Tensor, "dim dim batch"]:
    """`ordered_product` of the matrices of a table that the index names.

    Small matrices are multiplied entry by entry, each operation going over all of them, with a backward pass of its
    own.
    """
    if len(table) > _SMALL or must_compose(table):
        return _composed(table, index, rescale)
    product, divisors = _TableProduct.apply(table, index, rescale is not None)  # pyright: ignore[reportGeneralTypeIssues]
    if rescale is not None:
        rescale.note(divisors.mT)
    return product


def _composed(table: Tensor, index: Tensor, rescale: Rescaler | None) -> Tensor:
    matrices = table.permute(2, 0, 1).index_select(0, index.mT.flatten())
    return ordered_product(matrices.unflatten(0, (index.shape[1], index.shape[0])), rescale).permute(1, 2, 0)


class _TableProduct(torch.autograd.Function):
    """The product, and the numbers (n, B) that were divided by."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, rescales: bool) -> tuple[Tensor, Tensor]:
        dim, index_flat = len(table), index.flatten()
        level = table.flatten(0, 1).index_select(1, index_flat).view(dim, dim, *index.shape)
        levels, factors = [level], []
        while (steps := level.shape[2]) > 1:
            half, even = steps // 2, steps // 2 * 2
            after = level.new_empty(dim, dim, steps - half, level.shape[3])
            pairs = _multiply(level[:, :, 1:even:2], level[:, :, 0:even:2], after[:, :, :half])
            if rescales:
                factors.append(largest_of(pairs, (0, 1)).reciprocal_()[0, 0])
                pairs *= factors[-1]
            if steps % 2:
                after[:, :, half:] = level[:, :, even:]
            level = after
            levels.append(level)
        product = level[:, :, 0]
        divisors = torch.cat(factors).reciprocal_() if factors else product.new_empty(0, index.shape[1]).real
        ctx.rescales = rescales
        ctx.mark_non_differentiable(divisors)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(table, index, *levels[:-1], *factors)
        return product.clone() if len(levels) == 1 else product, divisors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        table, index, *saved = ctx.saved_tensors
        gradient = gradients[0]
        if torch.is_grad_enabled():  # a second derivative is asked for
            rescale = Rescaler(index.shape[1], table) if ctx.rescales else None
            return (
                *torch.autograd.grad(_composed(table, index, rescale), table, gradient, create_graph=True),
                None,
                None,
            )
        count = len(saved) // 2 if ctx.rescales else len(saved)
        levels, factors = saved[:count], saved[count:]
        # Of C = A B the conjugate gradients are those of A: g B^T, and of B: A^T g.
        g = gradient.conj().resolve_conj().unsqueeze(2)
        for k in range(count - 1, -1, -1):
            level, steps = levels[k], levels[k].shape[2]
            half, even = steps // 2, steps // 2 * 2
            before = torch.empty_like(level)
            pairs = g[:, :, :half] * factors[k] if ctx.rescales else g[:, :, :half]
            _multiply(pairs, level[:, :, 0:even:2].transpose(0, 1), before[:, :, 1:even:2])
            _multiply(level[:, :, 1:even:2].transpose(0, 1), pairs, before[:, :, 0:even:2])
            if steps % 2:
                before[:, :, even:] = g[:, :, half:]
            g = before
        into = torch.zeros_like(table, memory_format=torch.contiguous_format).flatten(0, 1)
        into.index_add_(1, index.flatten(), g.flatten(2).flatten(0, 1))
        return into.conj().resolve_conj().view(table.shape), None, None


def _multiply(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """The products of matrices (d, d, ...), written into `out`."""
    columns, rows = a.unsqueeze(2).unbind(1), b.unsqueeze(0).unbind(1)
    torch.mul(columns[0], rows[0], out=out)
    for column, row in zip(columns[1:], rows[1:], strict=True):
        out.addcmul_(column, row)
    return out
