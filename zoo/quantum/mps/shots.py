"""Expectations of a matrix product state from a finite number of runs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.quantum.expectation import in_basis, plan
from zoo.quantum.mps.state import MPS
from zoo.quantum.noise.readout import ReadoutError
from zoo.quantum.observables import Observable, Projector
from zoo.quantum.shots import check_shots


def estimate(
    mps: MPS,
    observables: Sequence[Observable],
    shots: int,
    *,
    readout: ReadoutError | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """(B, n_observables) means over runs; words that agree on every wire share theirs. Has no gradient.

    Args:
        mps: the state.
        observables: sums of Pauli words, and projectors.
        shots: runs a basis.
        readout: error of the readout.
        generator: what draws.

    Raises:
        ValueError: a Hermitian matrix, which cannot be read wire by wire.
    """
    check_shots(shots)
    found = plan(tuple(observables))
    like = mps.chain[0].real.detach()

    def runs(basis: dict[int, str]) -> Tensor:
        bits = _in_basis(mps, basis).sample(shots, generator)
        return bits if readout is None else readout.misread(bits, range(mps.n_qubits), generator)

    total = like.new_zeros(1, len(observables))
    for group in found.groups:
        bits = runs(dict(group.basis))
        signs = torch.stack([1 - 2 * (bits[..., list(word)].sum(-1) % 2) for word in group.words], dim=-1)
        means = signs.to(like.dtype).mean(1)
        total = total + (means @ like.new_tensor(group.columns) if group.columns else means)
    if found.constants:
        total = total + like.new_tensor(found.constants)
    if found.others:
        bits, columns = runs({}), list(total.unbind(-1))
        for place in found.others:
            observable = observables[place]
            if not isinstance(observable, Projector):
                raise ValueError("a Hermitian matrix cannot be read wire by wire; write it as a sum of Pauli words")
            wanted = bits.new_tensor([int(bit) for bit in observable.bits])
            columns[place] = (bits[..., list(observable.wires)] == wanted).all(-1).to(like.dtype).mean(1)
        total = torch.stack(torch.broadcast_tensors(*columns), dim=-1)
    return total


def _in_basis(mps: MPS, basis: dict[int, str]) -> MPS:
    """The state in which measuring Z gives what measuring the letters gave."""
    chain = list(mps.chain)
    one = torch.eye(2, dtype=chain[0].dtype, device=chain[0].device)
    for wire, letter in basis.items():
        chain[wire] = in_basis(one, {0: letter}, 1).mT @ chain[wire]
    return MPS(chain, mps.max_bond)
