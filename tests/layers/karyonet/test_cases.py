"""What is no case of chromosomes is refused before anything is computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.layers.karyonet.cases import check_case, check_case_mask


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.zeros((4, 3)), TypeError, r"logits must be a tensor, got ndarray; torch.as_tensor\(logits\) makes one"),
        ([[0.0]], TypeError, "logits must be a tensor, got list"),
        (
            torch.zeros(4, 3, dtype=torch.long),
            TypeError,
            r"logits must be floating point, got torch.int64; .*float\(\)",
        ),
        (torch.zeros(4), ValueError, r"\[N, C\] or \[cases, N, C\] of one chromosome at least, got \[4\]"),
    ],
)
def test_cases(given, error, message):
    with pytest.raises(error, match=message):
        check_case(given, "logits")


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones(3, bool), TypeError, "mask must be a tensor of torch.bool, .*, got ndarray"),
        (torch.ones(2, 3), TypeError, "mask must be a tensor of torch.bool, .*, got torch.float32"),
        (torch.ones(3, dtype=torch.bool), ValueError, r"mask must be \[2, 3\], a value per chromosome, got \[3\]"),
        (torch.tensor([[True] * 3, [False] * 3]), ValueError, "case 1 has no chromosomes: its mask is all False"),
    ],
)
def test_masks(mask, error, message):
    with pytest.raises(error, match=message):
        check_case_mask(mask, (2, 3))


def test_masks_of_nothing():
    assert check_case_mask(None, (2, 3)) is None
    assert check_case_mask(torch.ones(2, 3, dtype=torch.bool), (2, 3)) is None
