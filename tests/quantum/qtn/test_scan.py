"""Products of many matrices of a table, held to multiplying them one after the other."""

from __future__ import annotations

import pytest
import torch

from zoo.quantum.qtn.scan import Rescaler, table_product


def drawn(dim: int, steps: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A table of seven matrices, which of them three samples take, and where those begin."""
    torch.manual_seed(steps)
    table, start = torch.randn(dim, dim, 7, dtype=dtype), torch.randn(dim, 3, dtype=dtype)
    return table.requires_grad_(), torch.randint(0, 7, (steps, 3)), start.requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("dim", [2, 4, 5])
@pytest.mark.parametrize("steps", [1, 2, 7, 12])
def test_the_product_its_scale_and_gradients_are_those_of_one_after_the_other(
    steps: int, dim: int, dtype: torch.dtype
) -> None:
    table, index, start = drawn(dim, steps, dtype)
    expected = start
    for row in index:
        expected = torch.einsum("olb,lb->ob", table[:, :, row], expected)
    torch.testing.assert_close(table_product(table, index, start), expected)
    rescale = Rescaler(3, table)
    state = table_product(table, index, start, rescale)
    torch.testing.assert_close(state * rescale.log.exp(), expected)
    assert rescale.least <= rescale.lowest.min()

    def direction(state: torch.Tensor) -> torch.Tensor:
        """Of which a factor has no part."""
        return (state / state.abs().square().sum(0).sqrt()).abs().square()[0].sum()

    for got, wanted in zip(
        torch.autograd.grad(direction(state), (table, start)),
        torch.autograd.grad(direction(expected), (table, start)),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("wanted", [0, 1])
def test_second_derivatives_where_one_of_table_and_start_is_asked_for(wanted: int) -> None:
    table, index, start = drawn(2, 3, torch.complex128)
    given = [table, start]
    given[1 - wanted] = given[1 - wanted].detach()
    rest = given[wanted]

    def product(x: torch.Tensor) -> torch.Tensor:
        return table_product(x if wanted == 0 else given[0], index, x if wanted == 1 else given[1])

    assert torch.autograd.gradcheck(product, rest)
    assert torch.autograd.gradgradcheck(product, rest)


def test_nothing_stays_nothing_and_is_told() -> None:
    table, index, start = drawn(2, 4, torch.complex64)
    with torch.no_grad():
        table[:, :, 0] = 0
        index[:, 1], index[2, 1] = 1, 0
        rescale = Rescaler(3, table)
        state = table_product(table, index, start, rescale)
    assert torch.equal(state[:, 1], torch.zeros(2, dtype=torch.complex64))
    assert float(rescale.lowest[1]) < 1e-37
