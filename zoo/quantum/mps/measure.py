"""What is measured of a chain of tensors: overlaps, expectations of products and of matrices, outcomes.

An environment (B, bond, bond) is everything on one side of a bond, bra index first.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.quantum.mps.chain import apply_products
from zoo.quantum.mps.products import of_matrix, word_products
from zoo.quantum.observables import Hermitian, Observable, PauliSum, Projector, matrix_of
from zoo.quantum.paulis import PauliWord

#: Numbers of environments that are held at once, one for every outcome.
_AT_ONCE = 2**22


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

    def probs(self, wires: Sequence[int]) -> Tensor:
        """(B, 2^k) probabilities of the outcomes of k wires."""
        chances = self._opened(sorted(wires), False).real.unflatten(-1, [2] * len(wires))
        places = [sorted(wires).index(wire) for wire in wires]
        return chances.permute(0, *(1 + place for place in places)).flatten(1)

    def density_matrix(self, wires: Sequence[int]) -> Tensor:
        """(B, 2^k, 2^k) density matrices of k wires."""
        k = len(wires)
        # Of every wire the bit of the row, then that of the column.
        bits = self._opened(sorted(wires), True).unflatten(-1, [2] * (2 * k))
        places = [sorted(wires).index(wire) for wire in wires]
        bits = bits.permute(0, *(1 + 2 * place for place in places), *(2 + 2 * place for place in places))
        return bits.reshape(len(bits), 2**k, 2**k)

    def _opened(self, wires: Sequence[int], both: bool) -> Tensor:
        """(B, 2^k), or (B, 4^k) with both bits of every wire: the state with some wires not summed over."""
        last = wires[-1]

        def onward(between: Tensor, wire: int) -> Tensor:
            """(B, bits so far, bond, bond) -> (B, bits)."""
            if wire > last:
                return (between * self.right[wire][:, None]).sum((-2, -1))
            if between.shape[1] > 1 and between[0].numel() > _AT_ONCE:
                return torch.cat([onward(half, wire) for half in between.chunk(2, dim=1)], dim=1)
            site = self.chain[wire][:, None]  # (B, 1, left, 2, right)
            if wire not in wires:
                return onward(_step_right(between, site, site), wire + 1)
            bits = site.unbind(-2)
            pairs = itertools.product(bits, bits) if both else zip(bits, bits, strict=True)
            opened = torch.stack([bra.mH @ (between @ ket) for ket, bra in pairs], dim=2)
            return onward(opened.flatten(1, 2), wire + 1)

        return onward(self.left[wires[0]][:, None], wires[0]) / self.norm[:, None]

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
    between = (left @ ket.flatten(-2)).unflatten(-1, ket.shape[-2:]).flatten(-3, -2)
    return bra.flatten(-3, -2).mH @ between


def _step_left(right: Tensor, site: Tensor) -> Tensor:
    """right[bra, ket] of a bond -> that of the one before."""
    between = (site @ right.mT[:, None]).flatten(-2)  # (B, left, 2, bra)
    return (between @ site.flatten(-2).mH).mT
