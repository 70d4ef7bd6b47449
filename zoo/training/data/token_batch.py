"""Sequences as a model takes them: numbers of words, padded to the longest of a batch, and how many each has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Tokens(NamedTuple):
    """A batch of sequences.

    Attributes:
        words: (B, T) numbers, 0 behind the end of a sequence.
        lengths: (B,) words of each.
    """

    words: Tensor
    lengths: Tensor

    def to(self, device: torch.device | str, **options: Any) -> Tokens:
        """The batch on `device`."""
        return Tokens(self.words.to(device, **options), self.lengths.to(device, **options))


@dataclass(frozen=True)
class TokenRow:
    """One sequence that is ready for a model.

    Attributes:
        words: (T,) numbers.
    """

    words: Tensor


def join_tokens(rows: Sequence[TokenRow]) -> Tokens:
    """A batch."""
    return Tokens(
        pad_sequence([row.words for row in rows], batch_first=True),
        torch.tensor([len(row.words) for row in rows]),
    )
