"""The state of a circuit, gate after gate by plain torch operations: what every faster way must equal."""

import torch
from torch import Tensor

from zoo.eager import must_compose
from zoo.errors import PostSelectionError
from zoo.quantum.angle import Angle
from zoo.quantum.apply import apply_matrix, split_wires
from zoo.quantum.circuit import Circuit
from zoo.quantum.gates import complex_type
from zoo.quantum.op import Op


def angle_value(angle: Angle, weights: Tensor, inputs: Tensor) -> Tensor:
    """The angle for (W,) or (B, W) weights and (I,) or (B, I) inputs: one number, or (B,)."""
    if angle.source == "constant":
        return weights.new_tensor(angle.offset)
    values = weights if angle.source == "weight" else inputs
    return angle.scale * values[..., angle.place] + angle.offset


def op_matrix(op: Op, weights: Tensor, inputs: Tensor) -> Tensor:
    """(d, d) or (B, d, d) matrix of a gate in a circuit; differentiable in weights and inputs."""
    values = [angle_value(angle, weights, inputs) for angle in op.angles]
    angles = torch.stack(torch.broadcast_tensors(*values), dim=-1) if values else weights.new_empty(0)
    return op.unitary(angles)


def zero_state(n: int, like: Tensor) -> Tensor:
    """(1, 2^n): every wire in 0, complex to match the real `like`."""
    state = torch.zeros(1, 2**n, dtype=complex_type(like.dtype), device=like.device)
    state[:, 0] = 1
    return state


def project(state: Tensor, op: Op, n: int) -> Tensor:
    """(B, 2^n) states after a post-selection, normalised."""
    sizes, (axis,), _ = split_wires(op.wires, n)
    keep = state.new_zeros(2).real
    keep[int(op.word)] = 1
    shape = [2 if i == axis else 1 for i in range(len(sizes))]
    kept = (state.reshape(state.shape[0], *sizes) * keep.reshape(shape)).reshape(state.shape)
    norm = torch.linalg.vector_norm(kept, dim=-1, keepdim=True)
    if not must_compose(state):
        check_selected(norm[:, 0].detach().square(), op)
    return kept / norm


def check_selected(chances: Tensor, op: Op) -> None:
    """Refuse a post-selection of what never happens.

    Args:
        chances: (B,) probabilities of the outcome that is kept.
        op: the post-selection.

    Raises:
        PostSelectionError: naming the first sample where the outcome has no probability.
    """
    never = (chances < 1e-30).nonzero()
    if len(never):
        raise PostSelectionError(
            f"wire {op.wires[0]} is never {op.word} in sample {never[0].item()}: its probability is below 1e-30"
        )


def reference_state(circuit: Circuit, weights: Tensor, inputs: Tensor, state: Tensor | None = None) -> Tensor:
    """(B, 2^n) amplitudes after the circuit; B = 1 where nothing has a batch.

    Args:
        circuit: the gates.
        weights: (W,) or (B, W) real.
        inputs: (I,) or (B, I) real, of the type of `weights`.
        state: (B, 2^n) or (1, 2^n) complex to begin with; every wire in 0 by default.
    """
    n = circuit.n_qubits
    state = zero_state(n, weights) if state is None else state
    for op in circuit:
        if op.gate.name == "post_select":
            state = project(state, op, n)
        elif op.gate.name == "channel":
            raise ValueError("a channel turns a state into a mixture: use method='density' or 'trajectories'")
        else:
            state = apply_matrix(state, op_matrix(op, weights, inputs), op.wires, n)
    return state
