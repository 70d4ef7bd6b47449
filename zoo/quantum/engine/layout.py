"""Wires and bits: windows of neighbouring wires, permutations and signs over all 2^n basis states."""

import itertools
from collections.abc import Iterable, Sequence

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


def basis_map(rows: dict[int, frozenset[int]], n: int) -> Tensor:
    """(2^n,): where every basis state goes, if bit w becomes the parity of the wires rows[w]."""
    # The map is linear: what a state with one more bit becomes differs by what that bit alone becomes.
    moved = torch.zeros(1, dtype=torch.long)
    for source in reversed(range(n)):
        image = sum(1 << (n - 1 - wire) for wire in range(n) if source in rows.get(wire, (wire,)))
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
