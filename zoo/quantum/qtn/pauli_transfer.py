"""Discarded wires: density matrices as real vectors of Pauli expectations, and channels as real matrices between them.

rho = sum_a r_a P_a / D with r_a = Tr(P_a rho), P_0 = 1 and so r_0 = 1. What keeps the trace keeps r_0, so that nothing
can underflow, however long the sequence.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from zoo.quantum.gates import PAULIS


def pauli_basis(qubits: int, like: Tensor) -> Tensor:
    """All words of Pauli matrices, (4**q, D, D), in the type and on the device of `like`; the first is the identity."""
    single = torch.tensor([PAULIS[letter] for letter in "ixyz"], dtype=like.dtype, device=like.device)
    made = torch.ones(1, 1, 1, dtype=like.dtype, device=like.device)
    for _ in range(qubits):
        made = torch.einsum("aij,bkl->abikjl", made, single).flatten(0, 1).flatten(1, 2).flatten(2, 3)
    return made


def pauli_states(states: Complex[Tensor, "words dim"], paulis: Tensor) -> Float[Tensor, "words numbers"]:
    """<w| P_a |w>, (V, 4**q)."""
    return torch.einsum("vi,aij,vj->va", states.conj(), paulis, states).real


def pauli_channel(outcomes: Tensor, paulis: Tensor, *, inputs: int, outputs: int = 1) -> Tensor:
    """The channel rho -> sum_s K_s rho K_s^* between Pauli vectors, (R, 4**q a wire out ..., 4**q a wire in ...).

    Args:
        outcomes: (R, S, D a wire out ..., D a wire in ...) the K_s.
        paulis: of `pauli_basis`.
        inputs, outputs: how many wires go in and come out.
    """
    wires = inputs + outputs
    letters = [("abcdefgh"[k], "ijklmnop"[k], "ABCDEFGH"[k]) for k in range(wires)]
    out, into = letters[:outputs], letters[outputs:]
    dim = paulis.shape[-1]
    terms = [
        "rs" + "".join(first for first, _, _ in letters),
        "rs" + "".join(second for _, second, _ in letters),
        *(f"{name}{second}{first}" for first, second, name in out),  # Tr(P K rho K^*)
        *(f"{name}{first}{second}" for first, second, name in into),
    ]
    result = "r" + "".join(name for _, _, name in letters)
    made = torch.einsum(f"{','.join(terms)}->{result}", outcomes, outcomes.conj(), *[paulis] * wires)
    return made.real / dim**inputs


def pauli_effects(rows: Tensor, paulis: Tensor) -> Tensor:
    """Probabilities of outcomes as linear maps of Pauli vectors, (K, 4**q).

    Args:
        rows: (S, K, D) for each outcome S of the other wires and each K of those read.
        paulis: of `pauli_basis`.
    """
    return torch.einsum("ski,aij,skj->ka", rows, paulis, rows.conj()).real / paulis.shape[-1]
