"""Circuits too wide for a vector of all amplitudes: the state as a chain of small tensors."""

import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from zoo.eager import must_compose
from zoo.quantum.circuit import Circuit
from zoo.quantum.mps.chain import apply_products, to_state, zero_chain
from zoo.quantum.mps.measure import Measured
from zoo.quantum.mps.narrowing import also_lost, narrow, widest
from zoo.quantum.mps.products import as_products
from zoo.quantum.observables import Observable
from zoo.quantum.op import Op
from zoo.quantum.reference import check_selected
from zoo.quantum.shots import AT_ONCE

#: Bonds are looked at from this width on: they may be wider than the state needs.
_WIDE = 16
#: More discarded weight than this is warned of.
_MUCH = 1e-3


class MPS:
    """A matrix product state: one (B, left, 2, right) tensor a qubit; B = 1 where nothing has a batch.

    Gates are applied without decompositions: a Pauli rotation of any length or a controlled gate multiplies the bonds
    between its wires by 2, any other gate on two wires by 4. Bonds wider than 16 are looked at now and then: they lose
    what the state does not need, and what exceeds `max_bond`. The state is exact while its Schmidt ranks are at most
    `max_bond`.

    Differentiable by autograd, to any order. If something is discarded, the gradient is that of the circuit with the
    kept Schmidt vectors held fixed. At points where the state has fewer of them than its neighbours have (all angles
    exactly zero, say), a bond that was narrowed hides those: begin training elsewhere.

    Args:
        chain: the tensors.
        max_bond: the widest bond.
    """

    def __init__(self, chain: Sequence[Tensor], max_bond: int = 64) -> None:
        if isinstance(max_bond, bool) or not isinstance(max_bond, int) or max_bond < 1:
            raise ValueError(f"max_bond must be an integer of at least 1, got {max_bond!r}")
        self.chain = list(chain)
        self.max_bond = max_bond
        #: (B,) the part of the squared norm that was discarded so far.
        self.truncation_error = self.chain[0].new_zeros(1).real
        self._measured: Measured | None = None

    @staticmethod
    def run(circuit: Circuit, weights: Tensor, inputs: Tensor, *, max_bond: int = 64) -> "MPS":
        """The state after a circuit that begins with every wire in 0.

        Args:
            circuit: gates and post-selections.
            weights: (W,) or (B, W) real.
            inputs: (I,) or (B, I) real, of the type of `weights`.
            max_bond: the widest bond.

        Warns:
            UserWarning: more than 1e-3 of the squared norm was discarded.

        Raises:
            ValueError: a channel, or a gate on more than 4 wires that is no Pauli rotation.
            PostSelectionError: an outcome that is kept and never comes.
        """
        if any(op.gate.name == "channel" for op in circuit):
            raise ValueError("a channel turns a state into a mixture: use method='density' or 'trajectories'")
        mps = MPS(zero_chain(circuit.n_qubits, weights), max_bond)
        limit = min(_WIDE, max_bond)
        for op, products in zip(circuit, as_products(circuit.ops, weights, inputs), strict=True):
            apply_products(mps.chain, products)
            if op.gate.name == "post_select":
                mps._normalise(op)
            if len(products) > 1 and widest(mps.chain) > limit:
                mps.truncation_error = also_lost(mps.truncation_error, narrow(mps.chain, limit // 2, max_bond))
                # What could not be narrowed is let grow before the next try.
                limit = min(max_bond, max(_WIDE, 2 * widest(mps.chain)))
        if not must_compose(mps.truncation_error):
            mps._warn()
        return mps

    def _warn(self) -> None:
        error = float(self.truncation_error.max()) if self.truncation_error.numel() else 0.0
        if error > _MUCH:
            warnings.warn(
                f"the matrix product state discarded {error:.2g} of its squared norm (max_bond={self.max_bond}); "
                "expectations may be off by about the square root of that; a larger max_bond is more exact",
                stacklevel=3,
            )

    def _normalise(self, op: Op) -> None:
        """After a post-selection; a constant for autograd, as expectations are those of the normalised state."""
        with torch.no_grad():
            norm = Measured(self.chain).norm
        if not must_compose(norm):
            check_selected(norm, op)
        wire = op.wires[0]
        self.chain[wire] = self.chain[wire] / norm.sqrt()[:, None, None, None]

    @property
    def n_qubits(self) -> int:
        """Qubits of the state."""
        return len(self.chain)

    @property
    def bonds(self) -> tuple[int, ...]:
        """Widths of the n - 1 bonds."""
        return tuple(site.shape[-1] for site in self.chain[:-1])

    def expectations(self, observables: Sequence[Observable]) -> Tensor:
        """(B, n_observables) real expectations of the normalised state; differentiable.

        Args:
            observables: as `parse_observables` gives them; Hermitian matrices on at most 4 wires.
        """
        columns = [self._contracted().expectation(observable) for observable in observables]
        return torch.stack(torch.broadcast_tensors(*columns), dim=-1)

    def state(self) -> Tensor:
        """(B, 2^n) amplitudes, normalised."""
        return to_state(self.chain) / self._contracted().norm.sqrt()[:, None]

    def probs(self, wires: Sequence[int]) -> Tensor:
        """(B, 2^k) probabilities of the outcomes of k wires, the first the most significant bit; differentiable."""
        return self._contracted().probs(wires)

    def density_matrix(self, wires: Sequence[int]) -> Tensor:
        """(B, 2^k, 2^k) density matrix of k wires, the others traced out; differentiable."""
        return self._contracted().density_matrix(wires)

    def sample(self, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """(B, shots, n) bits of measurements of all wires.

        Args:
            shots: how many.
            generator: what draws.
        """
        return torch.cat([*self.samples(shots, generator)], dim=1)

    def samples(self, shots: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
        """The same, (B, some, n) bits after one another, as many at a time as take little memory."""
        batch = max(len(site) for site in self.chain)
        at_once = max(1, AT_ONCE // (max(1, batch) * max(self.n_qubits, 4 * widest(self.chain))))
        for done in range(0, shots, at_once):
            with torch.no_grad():
                yield self._contracted().sample(min(at_once, shots - done), generator)

    def _contracted(self) -> Measured:
        if self._measured is None:
            self._measured = Measured(self.chain)
        return self._measured
