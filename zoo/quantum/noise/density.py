"""Noisy circuits exactly: the density matrix, (B, 4^n) numbers, as a state of 2n wires."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.quantum.apply import apply_matrix
from zoo.quantum.circuit import Circuit
from zoo.quantum.expectation import in_basis, measured
from zoo.quantum.noise.model import NoiseModel
from zoo.quantum.noise.steps import Step, steps
from zoo.quantum.observables import Hermitian, Observable, matrix_of
from zoo.quantum.op import Op
from zoo.quantum.reference import check_selected, zero_state


def density_matrix(
    circuit: Circuit,
    weights: Tensor,
    inputs: Tensor,
    state: Tensor | None = None,
    *,
    noise: NoiseModel | None = None,
) -> Tensor:
    """ρ after the circuit, (B, 2^n, 2^n); B = 1 where nothing has a batch. Differentiable.

    Args:
        circuit: gates, channels and post-selections.
        weights: (W,) or (B, W) real.
        inputs: (I,) or (B, I) real, of the type of `weights`.
        state: (B, 2^n) or (1, 2^n) pure states to begin with; every wire in 0 by default.
        noise: channels after the gates.
    """
    n = circuit.n_qubits
    state = zero_state(n, weights) if state is None else state
    rho = _Evolving((state[:, :, None] * state[:, None].conj()).flatten(1), n)
    for step in steps(circuit, weights, inputs, noise):
        rho.take(step)
    rho.finish()
    return rho.value.unflatten(-1, (2**n, 2**n))


class _Evolving:
    """A density matrix whose rows are wires 0 to n - 1 and whose columns are wires n to 2n - 1.

    What happens to one wire is collected and done at once, with one (4, 4) matrix.
    """

    def __init__(self, value: Tensor, n: int) -> None:
        self.value, self.n = value, n
        self.waiting: dict[int, Tensor] = {}

    def take(self, step: Step) -> None:
        wires = step.wires
        if step.matrix is None and step.kraus is None:
            self._post_select(step.op)
        elif len(wires) == 1:
            before = self.waiting.get(wires[0])
            mine = superoperator(step)
            self.waiting[wires[0]] = mine if before is None else mine @ before
        else:
            for wire in wires:
                self._flush(wire)
            if step.matrix is None:
                self._apply(superoperator(step), wires)
            else:  # two matrices of d^2 entries are less work than one of d^4
                self.value = apply_matrix(self.value, step.matrix, wires, 2 * self.n)
                self.value = apply_matrix(self.value, step.matrix.conj(), self._columns(wires), 2 * self.n)

    def finish(self) -> None:
        for wire in list(self.waiting):
            self._flush(wire)

    def _flush(self, wire: int) -> None:
        if wire in self.waiting:
            self._apply(self.waiting.pop(wire), (wire,))

    def _apply(self, matrix: Tensor, wires: tuple[int, ...]) -> None:
        self.value = apply_matrix(self.value, matrix, (*wires, *self._columns(wires)), 2 * self.n)

    def _columns(self, wires: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(wire + self.n for wire in wires)

    def _post_select(self, op: Op) -> None:
        """What waits on other wires leaves the trace as it is."""
        self._flush(op.wires[0])
        kept = torch.zeros(4, dtype=self.value.dtype, device=self.value.device)
        kept[3 * int(op.word)] = 1
        self._apply(torch.diag(kept), op.wires)
        trace = density_probs(self.value.unflatten(-1, (2**self.n, 2**self.n))).sum(-1)
        check_selected(trace.detach(), op)
        self.value = self.value / trace[:, None]


def superoperator(step: Step) -> Tensor:
    """(..., d^2, d^2) matrix of ρ → Σ K ρ K†, where ρ is read row by row."""
    kraus = step.matrix[..., None, :, :] if step.kraus is None and step.matrix is not None else step.kraus
    assert kraus is not None
    product = torch.einsum("...kab,...kcd->...acbd", kraus, kraus.conj())
    return product.flatten(-2).flatten(-3, -2)


def density_probs(rho: Tensor) -> Tensor:
    """(B, 2^n) probabilities of the basis states of (B, 2^n, 2^n) density matrices."""
    return rho.diagonal(dim1=-2, dim2=-1).real


def density_expectations(rho: Tensor, observables: Sequence[Observable], n: int) -> Tensor:
    """(B, n_observables) real expectations tr(ρ O); differentiable.

    Args:
        rho: (B, 2^n, 2^n).
        observables: as `parse_observables` gives them.
        n: the number of wires.
    """

    def of_matrix(observable: Hermitian) -> Tensor:
        after = apply_matrix(rho.flatten(1), matrix_of(observable, rho), observable.wires, 2 * n)
        return density_probs(after.unflatten(-1, rho.shape[1:])).sum(-1)

    return measured(lambda basis: density_probs(density_in_basis(rho, basis, n)), observables, n, of_matrix)


def density_in_basis(rho: Tensor, basis: dict[int, str], n: int) -> Tensor:
    """Density matrices in which measuring in Z gives what measuring in `basis` (wire -> letter) gave before."""
    columns = {wire + n: letter for wire, letter in basis.items()}
    rows = in_basis(rho.flatten(1), basis, 2 * n)
    return in_basis(rows.conj(), columns, 2 * n).conj().unflatten(-1, rho.shape[1:])
