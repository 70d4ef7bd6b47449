"""Bags of rows: equally many each, or ragged; and the blocks in which a pass goes through them."""

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

#: Numbers of a block: what stays in a core's own cache, and what keeps another device busy.
_BLOCK_CPU, _BLOCK_DEVICE = 2**18, 2**24
_MOST_ROWS_CPU = 8192
#: Places at most for each row, where ragged bags lie side by side.
_FILLED = 1.25


class Block(NamedTuple):
    """Part of one bag, or some whole bags of nearly one length side by side.

    Attributes:
        bags: which, a range or their numbers.
        rows: of all rows those of the block, a range or (bags * length,) numbers.
        shape: bags and their length in the block.
        mask: added to scores, broadcasts to (bags, directions, length), -inf forbids; None for nothing.
        within: numbers of the (bags * length) places that hold a row of a bag; None where all do.
        part: the bag has more blocks than this.
    """

    bags: slice | Tensor
    rows: slice | Tensor
    shape: tuple[int, int]
    mask: Tensor | None
    within: Tensor | None
    part: bool


def rows_of_block(x: Tensor, directions: int) -> int:
    """How many rows a block has at most."""
    on_cpu = x.device.type == "cpu"
    rows = max((_BLOCK_CPU if on_cpu else _BLOCK_DEVICE) // max(x.shape[-1], 2 * directions, 1), 256)
    return min(rows, _MOST_ROWS_CPU) if on_cpu else rows


class EqualBags:
    """`count` bags of `length` rows, one behind the other.

    Args:
        count, length: bags, rows of each.
        mask: (bags or 1, heads or 1, states or 1, length), added to the scores.
        heads, states: of the mask; the directions are their pairs.
    """

    def __init__(self, count: int, length: int, mask: Tensor | None, heads: int, states: int) -> None:
        self.count, self.length, self.mask = count, length, mask
        self.heads, self.states = heads, states

    def blocks(self, step: int) -> Iterator[Block]:
        """All rows, at most `step` at a time."""
        length = self.length
        if not length:
            return
        if length > step:
            for bag in range(self.count):
                for start in range(0, length, step):
                    stop = min(start + step, length)
                    rows = slice(bag * length + start, bag * length + stop)
                    yield Block(
                        slice(bag, bag + 1), rows, (1, stop - start), self._mask(bag, 1, start, stop), None, True
                    )
            return
        many = step // length
        for bag in range(0, self.count, many):
            some = min(many, self.count - bag)
            rows = slice(bag * length, (bag + some) * length)
            yield Block(slice(bag, bag + some), rows, (some, length), self._mask(bag, some, 0, length), None, False)

    def _mask(self, bag: int, some: int, start: int, stop: int) -> Tensor | None:
        if self.mask is None:
            return None
        mask = self.mask[..., start:stop]
        return self._by_direction(mask if mask.shape[0] == 1 else mask[bag : bag + some])

    def _by_direction(self, mask: Tensor) -> Tensor:
        if mask.shape[1] * mask.shape[2] != 1:
            mask = mask.expand(-1, self.heads, self.states, -1)
        return mask.flatten(1, 2)

    def padded(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """The bags as (bags, length, width), and the mask of all; empty bags as one row that is forbidden."""
        if not self.length:
            return rows.new_zeros(self.count, 1, rows.shape[-1]), rows.new_full((1, 1, 1), -torch.inf)
        mask = None if self.mask is None else self._by_direction(self.mask)
        return rows.unflatten(0, (self.count, self.length)), mask


class RaggedBags:
    """Bags of different numbers of rows, one behind the other.

    Args:
        sizes: rows of each bag; 0 is possible.
        device: of the rows.
    """

    def __init__(self, sizes: list[int], device: torch.device) -> None:
        self.sizes, self.count = sizes, len(sizes)
        self.starts = [0, *accumulate(sizes)][:-1]
        self.device = device

    def blocks(self, step: int) -> Iterator[Block]:
        """All rows, about `step` at a time: long bags in parts, the others beside those of nearly their length."""
        group: list[int] = []
        taken = 0
        for bag in sorted(range(self.count), key=self.sizes.__getitem__):
            size, start = self.sizes[bag], self.starts[bag]
            if size > step:
                for begin in range(start, start + size, step):
                    end = min(begin + step, start + size)
                    yield Block(slice(bag, bag + 1), slice(begin, end), (1, end - begin), None, None, True)
                continue
            places = size * (len(group) + 1)
            if group and (places > step or places > _FILLED * (taken + size)):
                yield self._group(group)
                group, taken = [], 0
            if size:
                group.append(bag)
                taken += size
        if group:
            yield self._group(group)

    def _group(self, group: list[int]) -> Block:
        """Bags in the order of their length."""
        shortest, longest = self.sizes[group[0]], self.sizes[group[-1]]
        if len(group) == 1:
            start = self.starts[group[0]]
            rows = slice(start, start + longest)
            return Block(slice(group[0], group[0] + 1), rows, (1, longest), None, None, False)
        rows, inside = self._places(group, longest)
        mask, within = None, None
        if shortest != longest:
            mask, within = _forbid(inside).unsqueeze(1), inside.flatten().nonzero().squeeze(1)
        return Block(torch.tensor(group, device=self.device), rows, (len(group), longest), mask, within, False)

    def _places(self, group: list[int], length: int) -> tuple[Tensor, Tensor]:
        """(bags * length,) numbers of rows, any behind the end of a bag, and (bags, length) where it has rows."""
        starts = torch.tensor([self.starts[bag] for bag in group], device=self.device).unsqueeze(1)
        sizes = torch.tensor([self.sizes[bag] for bag in group], device=self.device).unsqueeze(1)
        place = torch.arange(length, device=self.device)
        inside = place < sizes
        return torch.where(inside, starts + place, 0).flatten(), inside

    def padded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The bags as (bags, longest, width), and the mask of what is none of theirs, (bags, 1, longest)."""
        bags, inside = self.padding(rows)
        return bags, _forbid(inside).unsqueeze(1)

    def padding(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The bags as (bags, longest, width), and where they have rows, (bags, longest)."""
        longest = max([1, *self.sizes])
        places, inside = self._places(list(range(self.count)), longest)
        if not rows.shape[0]:
            return rows.new_zeros(self.count, longest, rows.shape[-1]), inside
        return rows.index_select(0, places).unflatten(0, (self.count, longest)), inside


def _forbid(inside: Tensor) -> Tensor:
    return torch.zeros_like(inside, dtype=torch.float32).masked_fill(~inside, -torch.inf)
