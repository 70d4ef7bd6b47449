"""What is measured of a chain of tensors: overlaps, expectations of products and of matrices, outcomes.

An environment (B, bond, bond) is everything on one side of a bond, bra index first.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.quantum.mps.chain import apply_products
from zoo.quantum.mps.products import of_matrix, word_products
from zoo.quantum.observables import Hermitian, Observable, PauliSum, Projector, matrix_of
from zoo.quantum.paulis import PauliWord


class Measured:
    """A chain with the environments of all its bonds."""

    def __init__(self, chain: Sequence[Tensor]) -> None:
        self.chain = chain
        self.like = chain[0].real
        self.left = [chain[0].new_ones(1, 1, 1)]
        for site in chain:
            self.left.append(_step_right(self.left[-1], site, site))
        self.right = [chain[-1].new_ones(1, 1, 1)]
        for site in reversed(chain):
            self.right.append(_step_left(self.right[-1], site))
        self.right.reverse()  # right[i] is what follows the bond left of site i
        self.norm = self.left[-1][:, 0, 0].real

    def expectation(self, observable: Observable) -> Tensor:
        """(B,) real."""
        if isinstance(observable, PauliSum):
            parts = [coefficient * self.word(word) for coefficient, word in observable.terms]
            return torch.stack(torch.broadcast_tensors(*parts)).sum(0) if parts else torch.zeros_like(self.norm)
        if isinstance(observable, Projector):
            diagonals = torch.eye(2, dtype=self.chain[0].dtype, device=self.like.device)
            bits = [torch.diag(diagonals[int(bit)]) for bit in observable.bits]
            return self._product(dict(zip(observable.wires, bits, strict=True)))
        return self._matrix(observable)

    def word(self, word: PauliWord) -> Tensor:
        """(B,) expectation of a Pauli word."""
        if not word.letters:
            return torch.ones_like(self.norm)
        return self._product({wire: matrices[0] for wire, matrices in word_products(word.letters, self.like)})

    def _product(self, matrices: dict[int, Tensor]) -> Tensor:
        first, last = min(matrices), max(matrices)
        between = self.left[first]
        for wire in range(first, last + 1):
            site = self.chain[wire]
            between = _step_right(between, site, matrices[wire] @ site if wire in matrices else site)
        return (between * self.right[last + 1]).sum((-2, -1)).real / self.norm

    def _matrix(self, observable: Hermitian) -> Tensor:
        after = list(self.chain)
        apply_products(after, of_matrix(observable.wires, matrix_of(observable, self.chain[0])))
        first, last = min(observable.wires), max(observable.wires)
        between = self.left[first]
        for wire in range(first, last + 1):
            between = _step_right(between, self.chain[wire], after[wire])
        return (between * self.right[last + 1]).sum((-2, -1)).real / self.norm

    def sample(self, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """(B, shots, n) bits, drawn wire by wire from the probabilities given those before."""
        batch = max(len(site) for site in self.chain)
        row = self.chain[0].new_ones(batch, shots, 1)
        bits = []
        for wire, site in enumerate(self.chain):
            both = (row @ site.flatten(-2)).unflatten(-1, site.shape[2:])  # (B, shots, 2, right)
            after = both @ self.right[wire + 1].mT[:, None]
            weight = (both.conj() * after).sum(-1).real.clamp(min=0).double()
            uniform = torch.rand(batch, shots, dtype=torch.float64, device=row.device, generator=generator)
            one = uniform * weight.sum(-1) >= weight[..., 0]
            bits.append(one)
            row = both.gather(-2, one[..., None, None].expand(-1, -1, 1, both.shape[-1]).long()).squeeze(-2)
            row = row / row.abs().amax(-1, keepdim=True)
        return torch.stack(bits, dim=-1).long()


def _step_right(left: Tensor, bra: Tensor, ket: Tensor) -> Tensor:
    between = (left @ ket.flatten(-2)).unflatten(-1, ket.shape[2:]).flatten(1, 2)
    return bra.flatten(1, 2).mH @ between


def _step_left(right: Tensor, site: Tensor) -> Tensor:
    """right[bra, ket] of a bond -> that of the one before."""
    between = (site @ right.mT[:, None]).flatten(-2)  # (B, left, 2, bra)
    return (between @ site.flatten(-2).mH).mT
