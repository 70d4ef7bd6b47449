"""Farhi-Neven circuits as circuits: the network's, and those that represent a label exactly.

Source: Farhi and Neven, "Classification with Quantum Neural Networks on Near Term Processors" (2018, arXiv 1802.06002).
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from zoo.quantum.circuit import Circuit, weight
from zoo.quantum.farhi_neven.options import check_choice

#: Gates that take |0> to the state in which the readout starts.
_READOUT_GATES: dict[str, tuple[str, ...]] = {
    "0": (),
    "1": ("x",),
    "+": ("h",),
    "-": ("x", "h"),
    "+i": ("h", "s"),
    "-i": ("h", "sdg"),
}
KINDS = ("parity", "majority", "boolean")
#: A truth table has 2**n rows, and the circuit may have a gate for each.
_MOST_BITS = 16


def readout_circuit(
    n_data: int, layers: Sequence[str], *, angle_scale: float, readout_init: str, bits: Sequence[int] | None
) -> Circuit:
    """The network: weight l * n_data + j turns data qubit j and the readout, wire n_data, in layer l.

    Args:
        n_data, layers, angle_scale, readout_init: see `QNN`.
        bits: of an input, to begin with; None begins with the data qubits and the readout in their states already.
    """
    circuit = Circuit(n_data + 1)
    if bits is not None:
        if len(bits) != n_data:
            raise ValueError(f"expected {n_data} bits, got {len(bits)}; n_data= sets this")
        for j, bit in enumerate(bits):
            if bit not in (0, 1):
                raise ValueError(f"bits must be 0 and 1, got {bit} at bit {j}")
            if bit:
                circuit.x(j)
        for gate in _READOUT_GATES[readout_init]:
            getattr(circuit, gate)(n_data)
    for i, layer in enumerate(layers):
        for j in range(n_data):
            # exp(i theta P Q) is the rotation by -2 theta.
            circuit.pauli_rot(layer.lower(), -2 * angle_scale * weight(i * n_data + j), [j, n_data])
    return circuit


@lru_cache(maxsize=32)
def kept_circuit(n_data: int, layers: tuple[str, ...], angle_scale: float) -> Circuit:
    """The network without an input, made once; nobody adds to it."""
    return readout_circuit(n_data, layers, angle_scale=angle_scale, readout_init="0", bits=None)


def label_circuit(
    kind: str,
    subset: Sequence[int] | Tensor | None = None,
    *,
    truth_table: Sequence[int] | Tensor | None = None,
    beta: float | None = None,
) -> Circuit:
    """A circuit whose <Y_readout> is the label of the input, for all inputs.

    "parity" gives prod_{j in S} z_j, with z = +1 for bit 0 and -1 for bit 1: exp(-i pi/4 X) exp(i pi/4 Z_j X) for each
    bit of S, then exp(i pi/4 X). "majority" gives sin(beta sum_{j in S} z_j), of which the sign is the majority:
    exp(i beta/2 Z_j X) for each bit. "boolean" gives any l(z) of +1 and -1: exp(i pi/4 l(Z) X), which is a product of
    rotations about words of Z, one for each Walsh coefficient of l that is not 0; there may be 2**n of them.

    Args:
        kind: "parity", "majority" or "boolean".
        subset: a 0 or 1 for each data qubit: 1 where it counts, of parity and majority.
        truth_table: +1 and -1 (or 1 and 0) for all 2**n inputs in binary order, bit 0 the most significant; of boolean.
        beta: of majority; 0.9 pi / n by default, below pi / n as it must be for the sign to be right.

    Returns:
        A circuit on n + 1 qubits without weights; the data qubits start in |z>, the readout, the last one, in |0>.

    Raises:
        ValueError: another kind; a subset or truth table that is missing, or has other values or another length.
    """
    if check_choice("kind", kind, KINDS) == "boolean":
        return _boolean(truth_table)
    if subset is None:
        raise ValueError(f"kind={kind!r} takes subset=, a 0 or 1 for each data qubit")
    chosen = [int(bit) for bit in subset]
    if not chosen or not set(chosen) <= {0, 1}:
        raise ValueError(f"subset must have a 0 or 1 for each data qubit, got {chosen}")
    n = len(chosen)
    circuit = Circuit(n + 1)
    places = [j for j, bit in enumerate(chosen) if bit]
    if kind == "majority":
        beta = 0.9 * math.pi / n if beta is None else beta
        for j in places:
            circuit.pauli_rot("zx", -beta, [j, n])
        return circuit
    for j in places:
        circuit.rx(math.pi / 2, n).pauli_rot("zx", -math.pi / 2, [j, n])
    return circuit.rx(-math.pi / 2, n)


def _boolean(truth_table: Sequence[int] | Tensor | None) -> Circuit:
    if truth_table is None:
        raise ValueError("kind='boolean' takes truth_table=, a label for each of the 2**n inputs")
    table = torch.as_tensor(truth_table).flatten().double().cpu()
    n = len(table).bit_length() - 1
    if len(table) != 2**n or not 1 <= n <= _MOST_BITS:
        raise ValueError(f"truth_table must have 2**n labels with n from 1 to {_MOST_BITS}, got {len(table)}")
    if not bool(((table == 1) | (table == 0) | (table == -1)).all()):
        raise ValueError(f"labels must be +1 and -1, or 1 and 0, got {table.unique().tolist()[:5]}")
    coefficients = torch.where(table > 0, 1.0, -1.0).double().reshape([2] * n)
    for axis in range(n):  # l(z) = sum_S c_S prod_{j in S} z_j
        zero, one = coefficients.unbind(axis)
        coefficients = torch.stack([zero + one, zero - one], axis) / 2
    circuit = Circuit(n + 1)
    for place in coefficients.nonzero().tolist():
        wires = [j for j, bit in enumerate(place) if bit]
        angle = -math.pi / 2 * float(coefficients[tuple(place)])
        circuit.pauli_rot("z" * len(wires) + "x", angle, [*wires, n])
    return circuit
