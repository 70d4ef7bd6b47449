"""Wires and bits: windows of neighbouring wires, permutations and signs over all 2^n basis states."""

import functools
import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.quantum.engine.lowering import Phase, Swapped

#: The most wires a block spans: from there on the arithmetic grows faster than the passes over the state shrink.
WIDEST = 4


def windows(wires: Iterable[int], n: int, aligned: bool) -> list[tuple[int, int]]:
    """Ranges (first, one after the last) of at most `WIDEST` neighbouring wires that cover `wires` and little else.

    Args:
        wires: what to cover.
        n: the number of wires of the circuit.
        aligned: a window that ends near the last wire, but not at it, leaves short rows: let it end there.
    """
    covered = sorted(set(wires))
    tail = [wire for wire in covered if wire >= n - WIDEST] if aligned else []
    runs: list[list[int]] = []
    for wire in covered[: len(covered) - len(tail)]:
        if runs and runs[-1][-1] == wire - 1:
            runs[-1].append(wire)
        else:
            runs.append([wire])
    found = []
    for run in runs:
        count = -(-len(run) // WIDEST)
        edges = [run[0] + len(run) * part // count for part in range(count + 1)]
        found += list(itertools.pairwise(edges))
    return [*found, (tail[0], n)] if tail else found


def basis_states(n: int) -> Tensor:
    """(2^n,): 0, 1, 2, ..."""
    return torch.arange(1 << n)


def bit(states: Tensor, wire: int, n: int) -> Tensor:
    """The bit of a wire in every state."""
    return states >> (n - 1 - wire) & 1


@dataclass(frozen=True)
class BitMap:
    """A permutation of the basis states of n wires that is linear in their bits.

    Args:
        images: what each basis state with a single 1 becomes, from that of wire 0 on.
    """

    images: tuple[int, ...]

    @staticmethod
    def identity(n: int) -> "BitMap":
        """The map that changes nothing."""
        return BitMap(tuple(1 << place for place in reversed(range(n))))

    @staticmethod
    def of_parities(rows: Mapping[int, Iterable[int]], n: int) -> "BitMap":
        """Bit w becomes the parity of the wires rows[w], of w itself where there is none."""
        images = [0] * n
        for wire in range(n):
            for source in rows.get(wire, (wire,)):
                images[source] |= 1 << (n - 1 - wire)
        return BitMap(tuple(images))

    def __call__(self, state: int) -> int:
        """Where a basis state goes."""
        return functools.reduce(operator.xor, (image for place, image in self._places if state >> place & 1), 0)

    @property
    def _places(self) -> Iterable[tuple[int, int]]:
        return zip(reversed(range(len(self.images))), self.images, strict=True)

    def after(self, first: "BitMap") -> "BitMap":
        """This map after another one."""
        return BitMap(tuple(map(self, first.images)))

    def inverse(self) -> "BitMap":
        """The map back, by elimination."""
        n = len(self.images)
        pairs = list(zip(self.images, BitMap.identity(n).images, strict=True))  # (what it is, where it comes from)
        for place in range(n):
            found = next(i for i in range(place, n) if pairs[i][0] >> (n - 1 - place) & 1)
            pairs[place], pairs[found] = pairs[found], pairs[place]
            pivot = pairs[place]
            for i, (image, source) in enumerate(pairs):
                if i != place and image >> (n - 1 - place) & 1:
                    pairs[i] = (image ^ pivot[0], source ^ pivot[1])
        return BitMap(tuple(source for _, source in pairs))

    def table(self, first: int = 0, last: int | None = None) -> Tensor:
        """(2^(last-first),): where the states go that are 0 on all wires but those from `first` up to `last`."""
        # What a state with one more bit becomes differs by what that bit alone becomes.
        moved = torch.zeros(1, dtype=torch.long)
        for image in reversed(self.images[first:last]):
            moved = torch.cat([moved, moved ^ image])
        return moved


def shuffled(states: Tensor, piece: Swapped, n: int) -> Tensor:
    """Where `states` go under a Toffoli or Fredkin gate."""
    control, first, second = piece.wires
    if piece.name == "ccx":
        return states ^ ((bit(states, control, n) & bit(states, first, n)) << (n - 1 - second))
    differ = bit(states, control, n) & (bit(states, first, n) ^ bit(states, second, n))
    return states ^ (differ << (n - 1 - first)) ^ (differ << (n - 1 - second))


def inverse_of(moved: Tensor) -> Tensor:
    """The inverse permutation."""
    inverse = torch.empty_like(moved)
    inverse[moved] = torch.arange(len(moved))
    return inverse


def signs(words: Sequence[frozenset[int]], first: int, last: int) -> Tensor:
    """(2^(last-first), words) of +-1: each word's parity over the wires from `first` up to `last`."""
    n = last - first
    states = basis_states(n)
    columns = []
    for word in words:
        parity = torch.zeros_like(states)
        for wire in word:
            if first <= wire < last:
                parity ^= bit(states, wire - first, n)
        columns.append(1 - 2 * parity)
    return torch.stack(columns, dim=1).double()


def constant_diagonal(phases: Sequence[Phase], n: int) -> Tensor:
    """(2^n,): the diagonal of phases that are all numbers; real where it is."""
    words = [phase.wires for phase in phases]
    angles = torch.tensor([phase.angle.offset for phase in phases], dtype=torch.float64)
    half = n // 2
    turns = ((signs(words, 0, half) * angles) @ signs(words, half, n).t()).flatten()
    diagonal = torch.polar(torch.ones_like(turns), turns)
    return diagonal.real.round() if bool((diagonal.imag.abs() < 1e-12).all()) else diagonal
