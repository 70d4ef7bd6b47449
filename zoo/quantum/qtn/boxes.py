"""Words, boxes and readouts as tensors, out of the unitaries of their circuits.

With D = 2**q amplitudes on the q qubits of a wire, a box takes two wires and keeps the even ones of their 2 q qubits.
The odd ones are found in 0 (post-selection), or are left alone, which sums over all that they might be found in
(discarding).
"""

import math

from jaxtyping import Complex
from torch import Tensor


def word_states(unitary: Complex[Tensor, "words dim dim"]) -> Complex[Tensor, "words dim"]:
    """What circuits make of |0...0>, (V, D)."""
    return unitary[..., 0]


def kept_wires(unitary: Tensor, kept: list[int]) -> Tensor:
    """The rows of unitaries by what is left and what is found on the other wires, (R, outcomes, 2**kept, columns)."""
    rules, dim = unitary.shape[0], unitary.shape[-1]
    wires = int(math.log2(dim))
    others = [wire for wire in range(wires) if wire not in kept]
    bits = unitary.reshape(rules, *[2] * wires, dim)
    order = [0, *(1 + wire for wire in others), *(1 + wire for wire in kept), 1 + wires]
    return bits.permute(order).reshape(rules, 2 ** len(others), 2 ** len(kept), dim)


def box_outcomes(unitary: Complex[Tensor, "rules two two"]) -> Complex[Tensor, "rules outcomes out left right"]:
    """Boxes of two wires into one: for every outcome of the odd wires a map (D, D, D), the first that of all zeros."""
    wires = int(math.log2(unitary.shape[-1]))
    rows = kept_wires(unitary, list(range(0, wires, 2)))
    dim = rows.shape[2]
    return rows.unflatten(-1, (dim, dim))


def readout_wires(qubits: int, outputs: int) -> list[int]:
    """The wires whose bits are the class: the middle ones; of one bit wire q // 2."""
    first = (qubits - outputs + 1) // 2
    return list(range(first, first + outputs))
