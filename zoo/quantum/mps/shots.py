"""Expectations of a matrix product state from a finite number of runs."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from zoo.quantum.expectation import in_basis, plan
from zoo.quantum.mps.state import MPS
from zoo.quantum.observables import Observable, Projector
from zoo.quantum.shots import Reading, check_shots


def estimate(mps: MPS, observables: Sequence[Observable], reading: Reading) -> Tensor:
    """(B, n_observables) means over runs; words that agree on every wire share theirs. Has no gradient.

    Args:
        mps: the state.
        observables: sums of Pauli words, and projectors.
        reading: how many runs, and how they are read.

    Raises:
        ValueError: a Hermitian matrix, which cannot be read wire by wire.
    """
    shots, readout, generator = reading.shots, reading.readout, reading.generator
    check_shots(shots)
    assert shots is not None
    found = plan(tuple(observables))
    like = mps.chain[0].real.detach()

    def mean(basis: dict[int, str], of: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, k) mean over runs of `of`: (B, runs, n) bits -> (B, runs, k) whole numbers."""
        total = torch.zeros(1, 1, dtype=torch.long, device=like.device)
        for bits in _in_basis(mps, basis).samples(shots, generator):
            read = bits if readout is None else readout.misread(bits, range(mps.n_qubits), generator)
            total = total + of(read).sum(1)
        return (total.double() / shots).to(like.dtype)

    total = like.new_zeros(1, len(observables))
    for group in found.groups:
        means = mean(dict(group.basis), partial(_signs, group.words))
        total = total + (means @ like.new_tensor(group.columns) if group.columns else means)
    if found.constants:
        total = total + like.new_tensor(found.constants)
    if found.others:
        columns = list(total.unbind(-1))
        means = mean({}, partial(_hits, [observables[place] for place in found.others]))
        for place, column in zip(found.others, means.unbind(-1), strict=True):
            columns[place] = column
        total = torch.stack(torch.broadcast_tensors(*columns), dim=-1)
    return total


def _signs(words: Sequence[tuple[int, ...]], bits: Tensor) -> Tensor:
    """(B, runs, words) of 1 and -1."""
    return torch.stack([1 - 2 * (bits[..., list(word)].sum(-1) % 2) for word in words], dim=-1)


def _hits(observables: Sequence[Observable], bits: Tensor) -> Tensor:
    """(B, runs, observables) of 1 where the bits are those of a projector, and 0."""
    columns = []
    for observable in observables:
        if not isinstance(observable, Projector):
            raise ValueError("a Hermitian matrix cannot be read wire by wire; write it as a sum of Pauli words")
        wanted = bits.new_tensor([int(bit) for bit in observable.bits])
        columns.append((bits[..., list(observable.wires)] == wanted).all(-1))
    return torch.stack(columns, dim=-1).long()


def _in_basis(mps: MPS, basis: dict[int, str]) -> MPS:
    """The state in which measuring Z gives what measuring the letters gave."""
    chain = list(mps.chain)
    one = torch.eye(2, dtype=chain[0].dtype, device=chain[0].device)
    for wire, letter in basis.items():
        chain[wire] = in_basis(one, {0: letter}, 1).mT @ chain[wire]
    return MPS(chain, mps.max_bond)
