"""Expectations of a Farhi-Neven circuit without its state: a sum over the branches of the readout qubit.

Every gate is exp(i theta P_j Q) with Paulis P on data qubit j and Q on the readout, and

    exp(i theta P_j Q) = sum_{s = +1, -1} exp(i s theta P_j) (1 + s Q) / 2.

Within a run of layers with the same Q the sign s is the same in all of them. With c runs there are at most K = 2^c
branches, and within one of them all data qubits turn independently: qubit j by V_kj in SU(2), while the readout is left
in the vector r_k. With the overlaps O_j[k, m] = <u_j| V_kj^+ V_mj |u_j> of data qubits that start in u_j,

    <A_readout> = Re sum_{k, m} <r_k| A |r_m> prod_j O_j[k, m].

For |u_j> = |b_j> the overlap is |O_j| exp(i z_j phi_j) with z_j = +1 for bit 0 and -1 for bit 1: the batch enters by
one matrix product, z @ phi.

Circuits of Farhi and Neven, "Classification with Quantum Neural Networks on Near Term Processors" (2018, arXiv
1802.06002); the formula is ours.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

#: Most branches that are enumerated.
MOST_BRANCHES = 256
_NOTHING = 1e-12
_HALF = 2**-0.5
PAULIS: dict[str, list[list[complex]]] = {"X": [[0, 1], [1, 0]], "Y": [[0, -1j], [1j, 0]], "Z": [[1, 0], [0, -1]]}
#: States in which the readout may start. "0" is the paper's "1": it means the eigenvalue +1 of Z.
READOUT_STATES: dict[str, list[complex]] = {
    "0": [1, 0],
    "1": [0, 1],
    "+": [_HALF, _HALF],
    "-": [_HALF, -_HALF],
    "+i": [_HALF, 1j * _HALF],
    "-i": [_HALF, -1j * _HALF],
}
#: i P times the quaternion (q0, q1, q2, q3), which stands for q0 + i (q1 X + q2 Y + q3 Z): which components of it, and
#: which of these change their sign.
_TURNS = {
    "X": ((1, 0, 3, 2), (True, False, False, True)),
    "Y": ((2, 3, 0, 1), (True, True, False, False)),
    "Z": ((3, 2, 1, 0), (True, False, True, False)),
}


class Branches(NamedTuple):
    """What the layers alone say: y = constant + Re sum_p coefficient_p prod_j O_j[left_p, right_p].

    Attributes:
        signs: (K, L), of every layer in every branch.
        left, right: (P,), pairs of branches, left < right.
        coefficients: (P,) complex, 2 <r_left| A |r_right>; pairs with 0 are left out.
        constant: sum_k <r_k| A |r_k>.
    """

    signs: Tensor
    left: Tensor
    right: Tensor
    coefficients: Tensor
    constant: float


def count_runs(layers: Sequence[str]) -> int:
    """Runs of layers with the same Pauli on the readout."""
    return sum(i == 0 or layers[i - 1][1] != layer[1] for i, layer in enumerate(layers))


@lru_cache(maxsize=256)
def find_branches(layers: tuple[str, ...], readout_init: str, observable: str) -> Branches:
    """The branches of a list of layers.

    Args:
        layers: words such as "ZX", the Pauli of the data qubits and that of the readout.
        readout_init: one of `READOUT_STATES`.
        observable: "X", "Y" or "Z", of the readout.

    Raises:
        ValueError: more than 256 branches.
    """
    signs = torch.zeros(1, 0, dtype=torch.float64, device="cpu")
    vectors = _complex([READOUT_STATES[readout_init]])
    for i, (_, letter) in enumerate(layers):
        if i and layers[i - 1][1] == letter:
            signs = torch.cat([signs, signs[:, -1:]], 1)
            continue
        flipped = vectors @ _complex(PAULIS[letter]).T
        vectors = torch.cat([vectors + flipped, vectors - flipped]) / 2
        last = torch.ones_like(vectors[:, :1].real)
        last[len(signs) :] = -1
        signs = torch.cat([torch.cat([signs, signs]), last], 1)
        there = vectors.abs().amax(1) > _NOTHING
        signs, vectors = signs[there], vectors[there]
        if len(signs) > MOST_BRANCHES:
            raise ValueError(
                f"the layers {', '.join(layers)} have {count_runs(layers)} runs of one readout Pauli, which is more "
                f"than {MOST_BRANCHES} branches; use method='statevector', or put layers with the same readout Pauli "
                "side by side"
            )
    overlap = vectors.conj() @ _complex(PAULIS[observable]) @ vectors.T
    left, right = torch.triu_indices(len(signs), len(signs), 1, device="cpu")
    coefficients = 2 * overlap[left, right]
    there = coefficients.abs() > _NOTHING
    return Branches(signs, left[there], right[there], coefficients[there], float(overlap.trace().real))


def _complex(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.complex128, device="cpu")


def working_dtype(x: Tensor) -> torch.dtype:
    """The type in which phases are summed: float64; float32 on Apple's GPUs, which have no other."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def turned(
    theta: Float[Tensor, "layers n"], layers: Sequence[str], signs: Float[Tensor, "branches layers"]
) -> Float[Tensor, "4 branches n"]:
    """V_kj as quaternions: the product over the layers of exp(i s_kl theta_lj P_l), the first layer first."""
    cos, sin = theta.cos(), theta.sin()
    none = torch.zeros_like(signs[:, :1] * theta[:1])
    q = torch.stack([none + 1, none, none, none])
    for i, (letter, _) in enumerate(layers):
        components = q.unbind()
        changed = [-components[k] if negative else components[k] for k, negative in zip(*_TURNS[letter], strict=True)]
        q = cos[i] * q + signs[:, i, None] * sin[i] * torch.stack(changed)
    return q


def overlaps(a: Float[Tensor, "4 pairs n"], b: Float[Tensor, "4 pairs n"]) -> Float[Tensor, "4 pairs n"]:
    """The quaternions of A^+ B, so that <u|A^+ B|u> = w0 + i (w1, w2, w3) . (<X>, <Y>, <Z>)."""
    a0, a1, a2, a3 = a
    b0, b1, b2, b3 = b
    return torch.stack(
        [
            a0 * b0 + a1 * b1 + a2 * b2 + a3 * b3,
            a0 * b1 - b0 * a1 + a2 * b3 - a3 * b2,
            a0 * b2 - b0 * a2 + a3 * b1 - a1 * b3,
            a0 * b3 - b0 * a3 + a1 * b2 - a2 * b1,
        ]
    )


def polar(real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithm of the magnitude, and phase.

    A number that is exactly 0 is moved aside by what no sum of the working type shows, so that gradients are finite and
    those of the product of all numbers are right.
    """
    least = 1e-30 if real.dtype == torch.float64 else 1e-15
    real = real + least * ((real == 0) & (imag == 0))
    return 0.5 * (real * real + imag * imag).log(), torch.atan2(imag, real)


def amplitudes_and_phases(
    theta: Float[Tensor, "layers n"],
    layers: Sequence[str],
    signs: Float[Tensor, "branches layers"],
    left: Tensor,
    right: Tensor,
) -> tuple[Float[Tensor, " pairs"], Float[Tensor, "pairs n"]]:
    """R_p = prod_j |O_j| and phi_pj, of data qubits in basis states: prod_j O_j = R_p exp(i sum_j z_j phi_pj)."""
    q = turned(theta, layers, signs)
    a, b = q[:, left], q[:, right]
    real = (a * b).sum(0)
    logs, phases = polar(real, a[0] * b[3] - b[0] * a[3] + a[1] * b[2] - a[2] * b[1])
    return logs.sum(1).exp(), phases


def product_amplitudes_and_phases(
    bloch: Float[Tensor, "batch n 3"],
    theta: Float[Tensor, "layers n"],
    layers: Sequence[str],
    signs: Float[Tensor, "branches layers"],
    left: Tensor,
    right: Tensor,
) -> tuple[Float[Tensor, "batch pairs"], Float[Tensor, "batch pairs"]]:
    """Magnitude and phase of prod_j O_j for data qubits with the Bloch vectors (<X>, <Y>, <Z>)."""
    q = turned(theta, layers, signs)
    w = overlaps(q[:, left], q[:, right])
    imag = torch.einsum("cpn,bnc->bpn", w[1:], bloch)
    logs, phases = polar(w[0].expand_as(imag), imag)
    return logs.sum(2).exp(), phases.sum(2)
