"""The angles and matrices of all gates of a circuit at once: one gather of angles and one call a kind of gate."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from zoo.quantum.gates import Gate
from zoo.quantum.op import Op


def op_matrices(ops: Sequence[Op], weights: Tensor, inputs: Tensor) -> list[Tensor | None]:
    """A matrix an op: (d, d) where all samples share it, (B, d, d) where its angles are of each sample.

    Args:
        ops: of a circuit.
        weights: (W,), or (B, W) of each sample.
        inputs: (I,) or (B, I), of the type of `weights`.

    Returns:
        Complex matrices in the order of the ops, None for those that are no gates.
    """
    found: list[Tensor | None] = [None] * len(ops)
    for places, angles in _alike(ops, weights, inputs):
        for place, matrix in zip(places, ops[places[0]].unitary(angles).unbind(-3), strict=True):
            found[place] = matrix
    return found


def op_angles(ops: Sequence[Op], weights: Tensor, inputs: Tensor) -> list[Tensor | None]:
    """The angles of every op, (n_angles,) or (B, n_angles), as `op_matrices`."""
    found: list[Tensor | None] = [None] * len(ops)
    for places, angles in _alike(ops, weights, inputs):
        for place, values in zip(places, angles.unbind(-2), strict=True):
            found[place] = values
    return found


def _alike(ops: Sequence[Op], weights: Tensor, inputs: Tensor) -> Iterator[tuple[list[int], Tensor]]:
    """Places of ops that differ in their angles only, and these: (places, n_angles) or (B, places, n_angles)."""
    own = {"constant": False, "weight": weights.dim() > 1, "input": inputs.dim() > 1}
    groups: dict[tuple[Gate, str, tuple[complex, ...], bool], list[int]] = defaultdict(list)
    for place, op in enumerate(ops):
        if op.gate.unitary:
            batched = any(own[angle.source] for angle in op.angles)
            groups[op.gate, op.word, op.matrix, batched].append(place)

    # Constants read the zero in front; what is of each sample is not read from the shared vector.
    parts = (weights.new_zeros(1), weights, inputs)
    vectors = {False: torch.cat([part if part.dim() == 1 else part.new_zeros(part.shape[-1]) for part in parts])}
    if own["weight"] or own["input"]:
        rows = torch.broadcast_shapes(weights.shape[:-1], inputs.shape[:-1])
        vectors[True] = torch.cat([part.expand(*rows, part.shape[-1]) for part in parts], dim=-1)
    start = {"constant": 0, "weight": 1, "input": 1 + weights.shape[-1]}

    for (gate, _, _, batched), places in groups.items():
        angles = [angle for place in places for angle in ops[place].angles]
        index = [0 if angle.source == "constant" else start[angle.source] + angle.place for angle in angles]
        values = vectors[batched][..., torch.tensor(index, dtype=torch.long, device=weights.device)]
        scale = weights.new_tensor([angle.scale for angle in angles])
        shift = weights.new_tensor([angle.offset for angle in angles])
        yield places, (values * scale + shift).unflatten(-1, (len(places), gate.n_angles))
