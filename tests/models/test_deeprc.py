"""DeepRC on ragged bags: the same as padded and alone, with counts, gradients and attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.models.deeprc import AMINO_ACIDS, deeprc_cnn

SIZES = (3, 12, 1, 6)
OFFSETS = [0, 3, 15, 16, 22]


def sequences(longest: int = 14) -> tuple[Tensor, Tensor]:
    """(22, L) sequences as files are read, in single bytes, and how often each was seen."""
    draw = torch.Generator().manual_seed(2)
    length = torch.randint(4, longest + 1, (22, 1), generator=draw)
    x = torch.randint(0, 20, (22, longest), generator=draw).where(torch.arange(longest) < length, -1)
    return x.to(torch.int8), torch.randint(1, 9, (22,), generator=draw)


def padded(rows: Tensor, value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows.split(SIZES)), batch_first=True, padding_value=value)


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("counted", [False, True])
def test_ragged_padded_and_alone_are_the_same(official: bool, counted: bool) -> None:
    torch.manual_seed(0)
    model = deeprc_cnn(3, keep=0.5, official=official).double()
    x, counts = sequences()
    mask = torch.arange(max(SIZES)) >= torch.tensor(SIZES)[:, None]
    found, gradients, weights = [], [], []
    for function in (model, model.association):
        ragged = function(x, counts=counts if counted else None, offsets=OFFSETS)
        whole = function(padded(x, -1), mask, padded(counts, 1) if counted else None)
        alone = [function(part[None], counts=seen[None] if counted else None)
                 for part, seen in zip(x.split(SIZES), counts.split(SIZES), strict=True)]  # fmt: skip
        torch.testing.assert_close(ragged, whole)
        for one, lonely in zip(ragged, alone, strict=True):
            torch.testing.assert_close(one[..., : lonely.shape[-1]], lonely[0])
            assert not one[..., lonely.shape[-1] :].any()
        found.append(ragged)
        if function is model:
            for out in (ragged, whole):
                gradients.append(torch.autograd.grad(out.square().sum(), list(model.parameters()), retain_graph=True))
        else:
            weights.append(ragged)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0][0].any()
    assert (weights[0][:, 0, 0] > 0).sum(1).tolist() == [1, 6, 1, 3]


def test_a_sequence_is_read_by_its_letters_and_length_alone() -> None:
    """Neither the type of the numbers nor the room behind the longest sequence counts."""
    assert len(set(AMINO_ACIDS)) == len(AMINO_ACIDS) == 20
    torch.manual_seed(0)
    model = deeprc_cnn(keep=0.5).double()
    x, _ = sequences()
    wide = torch.nn.functional.pad(x.long(), (0, 7), value=-1)
    torch.testing.assert_close(model(wide, offsets=torch.tensor(OFFSETS)), model(x, offsets=OFFSETS))


def test_order_is_of_no_account_over_many_blocks() -> None:
    torch.manual_seed(0)
    model = deeprc_cnn(num_kernels=2, kernel_size=3, attention_dims=(2,)).double()
    x = torch.randint(0, 20, (9_000, 5))
    torch.testing.assert_close(model(x.flip(0), offsets=[0, 9_000]), model(x, offsets=[0, 9_000]))


def test_refused() -> None:
    model = deeprc_cnn()
    x, _ = sequences()
    with pytest.raises(ValueError, match=r"expected sequences \(bags, sequences, positions\), got \(22, 14\)"):
        model(x)
    with pytest.raises(ValueError, match=r"expected sequences \(rows, positions\) with offsets, got \(1, 22, 14\)"):
        model(x[None], offsets=[0, 22])
    for offsets in ([0, 21], [1, 22], [0, 5, 3, 22]):
        with pytest.raises(ValueError, match="offsets must rise from 0 to the 22 rows"):
            model(x, offsets=offsets)
    with pytest.raises(ValueError, match="ragged bags come without a padding mask"):
        model(x, torch.zeros(1, 22, dtype=torch.bool), offsets=[0, 22])
