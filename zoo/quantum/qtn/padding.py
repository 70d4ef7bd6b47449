"""Sequences of several lengths: where there is no word, and the tokens as a topology takes them."""

from typing import NamedTuple

import torch
from torch import Tensor

PADS = ("identity", "token", "none")


class Grid(NamedTuple):
    """Tokens that a topology takes.

    Attributes:
        tokens: (B, T').
        absent: (B, T') where there is no word; None where there are words everywhere.
    """

    tokens: Tensor
    absent: Tensor | None


def words_in(tokens: Tensor, lengths: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """How many words each sequence has, (B,); None where neither lengths nor a mask say that some are shorter.

    Raises:
        ValueError: both are given, or of another shape; a length below 2 or above T; words behind padding.
    """
    batch, longest = tokens.shape
    if lengths is not None and mask is not None:
        raise ValueError("give lengths or mask, not both")
    if mask is not None:
        if mask.shape != tokens.shape or mask.dtype is not torch.bool:
            raise ValueError(
                f"mask must be bool of the tokens' shape {tuple(tokens.shape)}, True for padding, got {mask.dtype} "
                f"{tuple(mask.shape)}"
            )
        lengths = (~mask).sum(1)
        behind = torch.arange(longest, device=mask.device) >= lengths.unsqueeze(1)
        _refuse((behind != mask).any(1), "sample {k}: padding lies behind the words, at the end of the sequence")
    if lengths is None:
        return None
    lengths = torch.as_tensor(lengths, device=tokens.device)
    if lengths.shape != (batch,) or lengths.is_floating_point():
        raise ValueError(f"lengths must be ({batch},) whole numbers, got {lengths.dtype} {tuple(lengths.shape)}")
    wrong = (lengths < 2) | (lengths > longest)
    _refuse(wrong, f"sample {{k}} has {{value}} words; a sequence has from 2 to the {longest} of the batch", lengths)
    return lengths


def check_tokens(tokens: Tensor, vocabulary: int, absent: Tensor | None) -> None:
    """Refuse numbers of no word; what stands where there is none is of no account.

    Raises:
        ValueError: naming one.
    """
    wrong = (tokens < 0) | (tokens >= vocabulary)
    if absent is not None:
        wrong = wrong & ~absent
    if torch.compiler.is_compiling() or tokens.is_meta or not bool(wrong.any()):
        return
    row, column = (int(k) for k in wrong.nonzero()[0])
    raise ValueError(
        f"token {int(tokens[row, column])} at place {column} of sample {row} is outside the vocabulary, which has the "
        f"numbers 0 to {vocabulary - 1}"
    )


def right_padded(tokens: Tensor, lengths: Tensor | None, length: int, token: int | None) -> Grid:
    """Words first, up to `length` places; behind them `token`, or nothing if None."""
    batch, there = tokens.shape
    if lengths is None and there == length:
        return Grid(tokens, None)
    tokens = torch.nn.functional.pad(tokens, (0, length - there))
    places = torch.arange(length, device=tokens.device)
    absent = places >= (there if lengths is None else lengths.unsqueeze(1))
    absent = absent.expand(batch, length)
    if token is None:
        return Grid(tokens.masked_fill(absent, 0), absent)
    return Grid(tokens.masked_fill(absent, token), None)


def centred(tokens: Tensor, lengths: Tensor | None, length: int, token: int) -> Grid:
    """Every sequence in the middle of the least power of two that holds it, the odd place on the right.

    Around it stands `token`; what is beyond, up to `length` places, has no word.
    """
    batch, there = tokens.shape
    if lengths is None:
        lengths = torch.full((batch,), there, device=tokens.device)
    powers = 2 ** torch.arange(1, length.bit_length(), device=tokens.device)
    whole = powers[torch.searchsorted(powers, lengths)]
    places = torch.arange(length, device=tokens.device)
    source = places - ((whole - lengths) // 2).unsqueeze(1)
    inside = (source >= 0) & (source < lengths.unsqueeze(1))
    moved = torch.nn.functional.pad(tokens, (0, length - there)).gather(1, source.clamp(0, length - 1))
    absent = places >= whole.unsqueeze(1)
    return Grid(torch.where(inside, moved, token), absent)


def power_of_two(length: int) -> int:
    """The least one that is not smaller."""
    return 1 << (length - 1).bit_length()


def _refuse(wrong: Tensor, text: str, values: Tensor | None = None) -> None:
    if torch.compiler.is_compiling() or wrong.is_meta or not bool(wrong.any()):
        return
    k = int(wrong.nonzero()[0])
    raise ValueError(text.format(k=k, value=None if values is None else int(values[k])))
