"""The end of a simulation, however it was run, and what is measured of it.

All of them are asked the same: `chances`, `expectations`, `second_moments`, `reduced`, `read`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.quantum import expectation
from zoo.quantum.apply import split_wires
from zoo.quantum.circuit import Circuit
from zoo.quantum.lightcone import Evolve, lightcone_expectations, lightcone_state
from zoo.quantum.mps import MPS
from zoo.quantum.mps.shots import estimate
from zoo.quantum.noise.density import density_expectations, density_in_basis, density_probs
from zoo.quantum.noise.read import read_as
from zoo.quantum.observables import Observable, squared
from zoo.quantum.shots import Reading, as_read


@dataclass(frozen=True)
class Pure:
    """(B, 2^n) amplitudes."""

    state: Tensor
    n: int

    def chances_in(self, basis: dict[int, str]) -> Tensor:
        """(B, 2^n) probabilities where every wire is measured in `basis` (wire -> letter), by default in Z."""
        return expectation.probabilities(expectation.in_basis(self.state, basis, self.n))

    def chances(self, wires: Sequence[int]) -> Tensor:
        """(B, 2^k) probabilities of the outcomes of k wires."""
        return expectation.marginal(self.chances_in({}), wires, self.n)

    def expectations(self, observables: Sequence[Observable]) -> Tensor:
        """(B, n_observables)."""
        return expectation.expectations(self.state, observables, self.n)

    def second_moments(self, observables: Sequence[Observable]) -> Tensor:
        """(B, n_observables) expectations of the observables' squares."""
        return expectation.second_moments(self.state, observables, self.n)

    def reduced(self, wires: Sequence[int]) -> Tensor:
        """(B, 2^k, 2^k) density matrices of k wires."""
        return expectation.reduced_density(self.state, wires, self.n)

    def read(self, observables: Sequence[Observable], reading: Reading) -> Tensor:
        """(B, n_observables) expectations as a device finds them."""
        return expectation.measured(as_read(self.chances_in, self.n, reading), observables, self.n)


@dataclass(frozen=True)
class Mixed:
    """(B, 2^n, 2^n) density matrices."""

    rho: Tensor
    n: int

    def chances_in(self, basis: dict[int, str]) -> Tensor:
        return density_probs(density_in_basis(self.rho, basis, self.n))

    def chances(self, wires: Sequence[int]) -> Tensor:
        return expectation.marginal(self.chances_in({}), wires, self.n)

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

    def read(self, observables: Sequence[Observable], reading: Reading) -> Tensor:
        return expectation.measured(as_read(self.chances_in, self.n, reading), observables, self.n)


@dataclass(frozen=True)
class Chain:
    """A matrix product state."""

    mps: MPS

    def chances(self, wires: Sequence[int]) -> Tensor:
        return self.mps.probs(wires)

    def expectations(self, observables: Sequence[Observable]) -> Tensor:
        return self.mps.expectations(observables)

    def second_moments(self, observables: Sequence[Observable]) -> Tensor:
        return self.mps.expectations([squared(observable) for observable in observables])

    def reduced(self, wires: Sequence[int]) -> Tensor:
        return self.mps.density_matrix(wires)

    def read(self, observables: Sequence[Observable], reading: Reading) -> Tensor:
        if reading.shots is None:
            return self.expectations(_as_read(observables, reading))
        return estimate(self.mps, observables, reading)


@dataclass(frozen=True)
class Cones:
    """A circuit that begins with every wire in 0, of which only the causal cones are run.

    Args:
        circuit, weights, inputs: what is run.
        evolve: how, to states or to density matrices.
        mixed: to density matrices.
    """

    circuit: Circuit
    weights: Tensor
    inputs: Tensor
    evolve: Evolve
    mixed: bool = False

    def chances(self, wires: Sequence[int]) -> Tensor:
        state, moved = self._state(wires)
        return state.chances(moved)

    def expectations(self, observables: Sequence[Observable]) -> Tensor:
        measure = density_expectations if self.mixed else expectation.expectations
        return lightcone_expectations(
            self.circuit, self.weights, self.inputs, observables, self.evolve, measure, self.mixed
        )

    def second_moments(self, observables: Sequence[Observable]) -> Tensor:
        return self.expectations([squared(observable) for observable in observables])

    def reduced(self, wires: Sequence[int]) -> Tensor:
        state, moved = self._state(wires)
        return state.reduced(moved)

    def read(self, observables: Sequence[Observable], reading: Reading) -> Tensor:
        if reading.shots is not None:
            raise ValueError("expectations by method='lightcone' are exact: no shots")
        return self.expectations(_as_read(observables, reading))

    def _state(self, wires: Sequence[int]) -> tuple[Pure | Mixed, tuple[int, ...]]:
        state, n, moved = lightcone_state(self.circuit, self.weights, self.inputs, wires, self.evolve)
        return (Mixed if self.mixed else Pure)(state, n), moved


Outcome = Pure | Mixed | Chain | Cones


def _as_read(observables: Sequence[Observable], reading: Reading) -> list[Observable]:
    """Observables whose exact expectations are what is read of the given ones, without shots."""
    assert reading.readout is not None
    return [read_as(observable, reading.readout) for observable in observables]
