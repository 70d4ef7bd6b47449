"""The end of a simulation, pure or mixed, and what is measured of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.quantum import expectation
from zoo.quantum.apply import split_wires
from zoo.quantum.noise.density import density_expectations, density_in_basis, density_probs
from zoo.quantum.observables import Observable


@dataclass(frozen=True)
class Pure:
    """(B, 2^n) amplitudes."""

    state: Tensor
    n: int

    def chances_in(self, basis: dict[int, str]) -> Tensor:
        """(B, 2^n) probabilities where every wire is measured in `basis` (wire -> letter), by default in Z."""
        return expectation.probabilities(expectation.in_basis(self.state, basis, self.n))

    def expectations(self, observables: Sequence[Observable]) -> Tensor:
        """(B, n_observables)."""
        return expectation.expectations(self.state, observables, self.n)

    def second_moments(self, observables: Sequence[Observable]) -> Tensor:
        """(B, n_observables) expectations of the observables' squares."""
        return expectation.second_moments(self.state, observables, self.n)

    def reduced(self, wires: Sequence[int]) -> Tensor:
        """(B, 2^k, 2^k) density matrices of k wires."""
        return expectation.reduced_density(self.state, wires, self.n)


@dataclass(frozen=True)
class Mixed:
    """(B, 2^n, 2^n) density matrices; asked as `Pure` is."""

    rho: Tensor
    n: int

    def chances_in(self, basis: dict[int, str]) -> Tensor:
        return density_probs(density_in_basis(self.rho, basis, self.n))

    def expectations(self, observables: Sequence[Observable]) -> Tensor:
        return density_expectations(self.rho, observables, self.n)

    def second_moments(self, observables: Sequence[Observable]) -> Tensor:
        columns = []
        for observable in observables:
            rows = self.rho.flatten(1)
            for _ in range(2):  # the first n of 2n wires are the rows
                rows = expectation.apply_observable(rows, observable, 2 * self.n)
            columns.append(density_probs(rows.unflatten(-1, self.rho.shape[1:])).sum(-1))
        return torch.stack(columns, dim=-1)

    def reduced(self, wires: Sequence[int]) -> Tensor:
        sizes, chosen, rest = split_wires(wires, self.n)
        kept, traced = 2 ** len(chosen), 2 ** (self.n - len(chosen))
        half = [*chosen, *rest]
        view = self.rho.reshape(self.rho.shape[0], *sizes, *sizes)
        view = view.permute(0, *(axis + 1 for axis in half), *(axis + 1 + len(sizes) for axis in half))
        view = view.reshape(self.rho.shape[0], kept, traced, kept, traced)
        return view.diagonal(dim1=2, dim2=4).sum(-1)


Outcome = Pure | Mixed
