"""Gates as sums of few products of one-qubit matrices, exactly and without a decomposition.

A Pauli rotation is cos(t/2) 1 - i sin(t/2) P, a controlled gate is 1 + Π ⊗ (U - 1): two products, on any wires. Any
other gate on k wires is the sum of 4^(k-1) products of a matrix unit on all wires but the last with a block of it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.quantum.gates import PAULIS, complex_type
from zoo.quantum.matrices import op_angles, op_matrices
from zoo.quantum.op import Op

#: (wire, matrices): the operator is the sum over k of the products of `matrices[..., k, :, :]` over the wires.
Products = list[tuple[int, Tensor]]

#: Gates that are a rotation about a word, with their word where their name has it.
_ROTATIONS = {"rxx": "xx", "ryy": "yy", "rzz": "zz", "multirz": "", "pauli_rot": ""}
#: Gates that turn the last wire if all others are 1.
_CONTROLLED = {"cx", "cy", "cz", "ch", "crx", "cry", "crz", "cphase", "crot", "ccx", "ccz"}
#: More wires of a gate that is neither have too many products.
MOST_WIRES = 4


def as_products(ops: Sequence[Op], weights: Tensor, inputs: Tensor) -> list[Products]:
    """Every gate as products, wires in ascending order; the angles of all gates are found at once.

    Raises:
        ValueError: a gate on more than 4 wires that is no Pauli rotation.
    """
    rotations = {i: op for i, op in enumerate(ops) if op.gate.name in _ROTATIONS}
    others = {i: op for i, op in enumerate(ops) if i not in rotations}
    found: dict[int, Products] = {}
    for (i, op), angles in zip(rotations.items(), op_angles([*rotations.values()], weights, inputs), strict=True):
        assert angles is not None
        found[i] = _rotation(op.word or _ROTATIONS[op.gate.name], op.wires, angles[..., 0])
    for (i, op), matrix in zip(others.items(), op_matrices([*others.values()], weights, inputs), strict=True):
        if matrix is None:
            found[i] = [(op.wires[0], _kept(int(op.word), weights))]
        elif op.gate.name in _CONTROLLED:
            found[i] = _controlled(op.wires, matrix[..., -2:, -2:])
        else:
            found[i] = of_matrix(op.wires, matrix)
    return [found[i] for i in range(len(ops))]


def has_products(op: Op) -> bool:
    """Whether an op is one of those that `as_products` takes."""
    few = len(op.wires) <= MOST_WIRES or op.gate.name in _ROTATIONS
    return few and op.gate.name != "channel"


def widest_bond(ops: Sequence[Op], n: int) -> int:
    """The width that a bond of n wires has at most after the gates, none of them narrowed."""
    doubled = [0] * (n - 1)
    for op in ops:
        two = op.gate.name in _ROTATIONS or op.gate.name in _CONTROLLED
        for bond in range(min(op.wires), max(op.wires)):
            doubled[bond] += 1 if two else 2 * (len(op.wires) - 1)
    return 2 ** max((min(times, i + 1, n - 1 - i) for i, times in enumerate(doubled)), default=0)


# What `torch.compiler.assume_constant_result` sets; see `zoo.quantum.engine.evolve`.
widest_bond._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def of_matrix(wires: Sequence[int], matrix: Tensor) -> Products:
    """Any (..., d, d) matrix on at most 4 wires."""
    k = len(wires)
    if k > MOST_WIRES:
        raise ValueError(
            f"a matrix product state takes matrices on at most {MOST_WIRES} wires, got one on {k}: {tuple(wires)}; "
            "Pauli words may have any length"
        )
    if k == 1:
        return [(wires[0], matrix.unsqueeze(-3))]
    lead = matrix.shape[:-2]
    pairs = [axis for wire in range(k) for axis in (wire, k + wire)]  # a row bit and its column bit
    split = matrix.reshape(*lead, *[2] * (2 * k))
    split = split.permute(*range(len(lead)), *(len(lead) + axis for axis in pairs))
    blocks = split.reshape(*lead, 4 ** (k - 1), 2, 2)
    units = torch.eye(4, dtype=matrix.dtype, device=matrix.device).reshape(4, 2, 2)
    products = []
    for place, wire in enumerate(wires[:-1]):
        digit = torch.arange(4 ** (k - 1), device=matrix.device) // 4 ** (k - 2 - place) % 4
        products.append((wire, units[digit]))
    return sorted([*products, (wires[-1], blocks)], key=lambda factor: factor[0])


def word_products(letters: Sequence[tuple[int, str]], like: Tensor) -> Products:
    """A Pauli word as one product."""
    return [(wire, _letters(letter, like)) for wire, letter in letters]


def _letters(letters: str, like: Tensor) -> Tensor:
    return torch.tensor([PAULIS[letter] for letter in letters], dtype=complex_type(like.dtype), device=like.device)


def _rotation(word: str, wires: Sequence[int], angle: Tensor) -> Products:
    factors = torch.stack([(angle / 2).cos().to(complex_type(angle.dtype)), -1j * (angle / 2).sin()], dim=-1)
    products = [
        (wire, _letters(f"i{letter}", angle)) for wire, letter in zip(wires, word, strict=True) if letter != "i"
    ]
    wire, pair = products[0] if products else (wires[0], _letters("ii", angle))
    products[:1] = [(wire, factors[..., None, None] * pair)]
    if len(products) == 1:
        return [(wire, products[0][1].sum(-3, keepdim=True))]
    return sorted(products, key=lambda factor: factor[0])


def _controlled(wires: Sequence[int], turn: Tensor) -> Products:
    one = torch.eye(2, dtype=turn.dtype, device=turn.device)
    control = torch.stack([one, torch.diag(one[1])])
    target = torch.stack([one.expand_as(turn), turn - one], dim=-3)
    products = [*((wire, control) for wire in wires[:-1]), (wires[-1], target)]
    return sorted(products, key=lambda factor: factor[0])


def _kept(bit: int, like: Tensor) -> Tensor:
    """The projector on a bit."""
    return torch.diag(torch.eye(2, dtype=complex_type(like.dtype), device=like.device)[bit])[None]
