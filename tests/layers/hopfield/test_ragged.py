"""Ragged bags, as flat rows with offsets or as a nested tensor: equal to the same bags padded and masked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.layers.answers import answers
from tests.layers.hopfield.pooling_options import OPTIONS, pooling_with
from zoo.layers.hopfield import HopfieldPooling
from zoo.layers.hopfield.bags import RaggedBags, rows_of_block

_SIZES = [3, 5, 0, 2, 5]
_OFFSETS = torch.tensor([0, 3, 8, 8, 10, 15])
#: Options that pad ragged bags after all.
_PADDED: dict[str, dict[str, Any]] = {
    "sparsemax": {"association": "sparsemax"},
    "norm_association": {"norm_association": True, "num_updates": 2},
    "to convergence": {"num_updates": None, "tol": 1e-3},
}


def padded(rows: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    x = torch.nn.utils.rnn.pad_sequence(list(rows.split(sizes)), batch_first=True)
    return x, torch.arange(x.shape[1]) >= torch.tensor(sizes).unsqueeze(1)


def check_equal(pooling: HopfieldPooling, rows: Tensor, sizes: list[int], limit: float) -> None:
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    x, mask = padded(rows, sizes)
    leaves = {"rows": rows, **dict(pooling.named_parameters())}
    wanted, got = pooling(x, mask), pooling(rows, offsets=offsets)
    torch.testing.assert_close(got, wanted, rtol=limit, atol=limit)
    cotangent = torch.linspace(-1, 2, got.numel(), dtype=got.dtype).view_as(got)
    grads = [torch.autograd.grad((y * cotangent).sum(), list(leaves.values())) for y in (got, wanted)]
    for name, *pair in zip(leaves, *grads, strict=True):
        scale = max(1.0, float(pair[1].abs().max()))
        torch.testing.assert_close(*pair, rtol=limit, atol=limit * scale, msg=lambda t, n=name: f"{n}: {t}")


@pytest.mark.parametrize("options", [*OPTIONS, *_PADDED])
def test_equal_to_padded(options):
    pooling = pooling_with(OPTIONS.get(options, _PADDED.get(options, {})))
    check_equal(pooling, torch.randn(15, 4, dtype=torch.float64, requires_grad=True), _SIZES, 1e-10)


@pytest.mark.parametrize("options", ["plain", "updates", "both patterns"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_bags_of_all_sizes(options, dtype, limit):
    """Bags longer than a block, bags alone in a block, and blocks of bags of one and of nearly one length."""
    pooling = pooling_with(options).to(dtype)
    sizes = [1, 9000, 40, 0, 1, 700, 41, 38, 40, 6000, 1, 40, 33, 0, 50]
    rows = torch.randn(sum(sizes), 4, dtype=dtype, requires_grad=True)
    step = rows_of_block(rows, 4)
    blocks = list(RaggedBags(sizes, rows.device).blocks(step))
    assert {block.part for block in blocks} == {True, False}
    assert {block.mask is None for block in blocks if block.shape[0] > 1} == {True, False}
    assert all(block.shape[0] * block.shape[1] <= step for block in blocks)
    check_equal(pooling, rows, sizes, limit)


@pytest.mark.parametrize("step", [1, 3, 7, 64, 10_000])
def test_blocks_have_every_row_once(step):
    torch.manual_seed(0)
    sizes = torch.randint(0, 60, (40,)).tolist()
    bags = RaggedBags(sizes, torch.device("cpu"))
    owner = torch.arange(40).repeat_interleave(torch.tensor(sizes))
    numbers = torch.arange(len(owner))
    seen = []
    places = 0
    for block in bags.blocks(step):
        mine = numbers[block.rows].view(block.shape)
        within = torch.ones(block.shape, dtype=torch.bool) if block.mask is None else block.mask[:, 0] == 0
        assert (owner[mine] == torch.arange(40)[block.bags].unsqueeze(1))[within].all()
        if block.within is not None:
            assert torch.equal(mine.flatten()[block.within], mine[within])
        seen.append(mine[within])
        places += mine.numel()
    assert torch.equal(torch.cat(seen).sort().values, numbers)
    assert places <= 1.25 * len(owner)


@pytest.mark.parametrize(
    "options",
    ["both patterns", *(pytest.param(name, marks=pytest.mark.slow) for name in ("plain", "stops", "connected"))],
)
def test_gradients_are_the_derivatives(options):
    pooling = pooling_with(options, tol=None)
    names = dict(pooling.named_parameters())
    rows = torch.randn(15, 4, dtype=torch.float64, requires_grad=True)

    def output(rows: Tensor, *_: Tensor) -> Tensor:
        return pooling(rows, offsets=_OFFSETS)

    assert torch.autograd.gradcheck(output, (rows, *names.values()), atol=1e-6)


def test_second_derivatives():
    pooling = pooling_with("zero pattern")
    rows = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda rows: pooling(rows, offsets=[0, 2, 2, 6]), rows)


def test_nested_tensors():
    pooling = pooling_with("updates")
    parts = [torch.randn(size, 4, dtype=torch.float64, requires_grad=True) for size in _SIZES]
    wanted = pooling(torch.cat(parts), offsets=_OFFSETS)
    grads = torch.autograd.grad(wanted.square().sum(), parts)
    got = pooling(torch.nested.as_nested_tensor(parts, layout=torch.jagged))
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    for grad, part in zip(torch.autograd.grad(got.square().sum(), parts), grads, strict=True):
        torch.testing.assert_close(grad, part, rtol=1e-10, atol=1e-10)


def test_nested_tensors_with_gaps():
    """Bags that are the beginnings of rows of a larger tensor."""
    pooling, x = pooling_with("plain"), torch.randn(3, 6, 4, dtype=torch.float64)
    sizes = torch.tensor([4, 6, 1])
    nested = torch.nested.narrow(x, 1, torch.zeros(3, dtype=torch.int64), sizes, layout=torch.jagged)
    wanted = pooling(x, torch.arange(6) >= sizes.unsqueeze(1))
    torch.testing.assert_close(pooling(nested), wanted, rtol=1e-12, atol=1e-12)


def test_each_bag_is_alone():
    pooling, rows = pooling_with("updates"), torch.randn(15, 4, dtype=torch.float64)
    got = pooling(rows, offsets=_OFFSETS.tolist())
    for bag, part in enumerate(rows.split(_SIZES)):
        if len(part):
            torch.testing.assert_close(got[bag], pooling(part.unsqueeze(0))[0], rtol=1e-12, atol=1e-12)
    assert not got[2].any()
    assert pooling(rows[:0], offsets=[0]).shape == (0, 4)


def test_an_empty_bag_may_be_refused():
    pooling = pooling_with({"empty": "raise"})
    with pytest.raises(ValueError, match="no stored pattern"):
        pooling(torch.randn(15, 4, dtype=torch.float64), offsets=_OFFSETS)


def test_association_of_ragged_bags():
    pooling, rows = pooling_with("zero pattern"), torch.randn(15, 4, dtype=torch.float64)
    found = pooling.recall(rows, offsets=_OFFSETS)
    torch.testing.assert_close(found.output, pooling(rows, offsets=_OFFSETS), rtol=1e-12, atol=1e-12)
    x, mask = padded(rows, _SIZES)
    assert torch.equal(found.association, pooling.association(x, mask))
    assert torch.equal(found.association, pooling.association(rows, offsets=_OFFSETS))


def test_dropout_in_training():
    """Padded then, and in evaluation without dropout again."""
    pooling, rows = pooling_with({"dropout": 0.5}), torch.randn(15, 4, dtype=torch.float64)
    assert not torch.equal(pooling(rows, offsets=_OFFSETS), pooling(rows, offsets=_OFFSETS))
    without = pooling_with("plain")
    without.load_state_dict(pooling.state_dict())
    assert torch.equal(pooling.eval()(rows, offsets=_OFFSETS), without(rows, offsets=_OFFSETS))


_POOL = "HopfieldPooling(4)(torch.zeros(6, 4), "
_REFUSED = {
    f"{_POOL}offsets=[0, 2, 5])": ["ValueError", "from 0 to the 6 rows", "[0, 2, 5]"],
    f"{_POOL}offsets=[1, 2, 6])": ["ValueError", "from 0 to the 6 rows", "[1, 2, 6]"],
    f"{_POOL}offsets=[])": ["ValueError", "from 0 to the 6 rows", "[]"],
    f"{_POOL}offsets=list(range(9)))": ["ValueError", "[0, 1, 2, ..., 7, 8]"],
    f"{_POOL}offsets=[0, 4, 3, 6])": ["ValueError", "must not go back", "4 and then 3", "bag 1"],
    f"{_POOL}offsets=torch.tensor([0.0, 6.0]))": ["TypeError", "offsets must be integers", "torch.float32"],
    f"{_POOL}offsets=torch.tensor([[0, 6]]))": ["TypeError", "one axis", "(1, 2)"],
    f"{_POOL}torch.zeros(1, 6, dtype=torch.bool), offsets=[0, 6])": ["ValueError", "without masks", "padding_mask"],
    f"{_POOL}values=torch.zeros(1, 6, 4), offsets=[0, 6])": ["ValueError", "got values"],
    "HopfieldPooling(4)(torch.zeros(1, 6, 4), offsets=[0, 6])": ["ValueError", "(rows, 4)", "(1, 6, 4)"],
    "HopfieldPooling(5)(torch.zeros(6, 4), offsets=[0, 6])": ["ValueError", "(rows, 5)", "(6, 4)"],
    "HopfieldPooling(4)(torch.zeros(6, 4).int(), offsets=[0, 6])": ["TypeError", "floating", "torch.int32"],
    "HopfieldPooling(4)(JAGGED, offsets=[0, 6])": ["ValueError", "without offsets"],
    "HopfieldPooling(5)(JAGGED)": ["ValueError", "(rows, 5)", "(5, 4)"],
    "HopfieldPooling(4)(JAGGED.transpose(1, 2))": ["ValueError", "ragged in the rows"],
    "HopfieldPooling(4)(torch.nested.nested_tensor(BAGS))": ["TypeError", "torch.jagged", "torch.strided"],
    "HopfieldPooling(4)(torch.zeros(6, 4))": ["ValueError", "three axes", "(6, 4)"],
}
_PREPARATION = """
from zoo.layers.hopfield import HopfieldPooling
BAGS = [torch.zeros(2, 4), torch.zeros(3, 4)]
JAGGED = torch.nested.nested_tensor(BAGS, layout=torch.jagged)
"""


@pytest.fixture(scope="module")
def messages():
    return answers(_REFUSED, _PREPARATION)


@pytest.mark.parametrize("case", _REFUSED)
def test_refused(case, messages):
    for part in _REFUSED[case]:
        assert part in messages[case], messages[case]
