"""Noisy circuits by quantum trajectories: pure states, with one Kraus operator drawn a channel and sample.

Of a channel, operator k is drawn with p_k = |K_k ψ|², and ψ → K_k ψ / sqrt(p_k). The mean of an expectation over
trajectories is that of the density matrix. The p_k in the denominator are constants for autograd, so that the mean of
the gradients is the gradient of the mean, though the drawing depends on the weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from zoo.quantum.apply import apply_matrix
from zoo.quantum.circuit import Circuit
from zoo.quantum.expectation import reduced_density
from zoo.quantum.noise.model import NoiseModel
from zoo.quantum.noise.steps import steps
from zoo.quantum.reference import project, zero_state

#: Amplitudes of trajectories that are held at once.
_AT_ONCE = 2**22


def trajectory_states(
    circuit: Circuit,
    weights: Tensor,
    inputs: Tensor,
    state: Tensor | None = None,
    *,
    noise: NoiseModel | None = None,
    trajectories: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """(B, trajectories, 2^n) states, each after channels drawn for it alone.

    Args:
        circuit: gates, channels and post-selections.
        weights: (W,) or (B, W) real.
        inputs: (I,) or (B, I) real, of the type of `weights`.
        state: (B, 2^n) or (1, 2^n) to begin with; every wire in 0 by default.
        noise: channels after the gates.
        trajectories: how many for each sample.
        generator: what draws; one with the same seed draws the same.

    Raises:
        ValueError: fewer than one trajectory; a post-selection after a channel.
    """
    if trajectories < 1:
        raise ValueError(f"at least one trajectory is needed, got {trajectories}")
    n = circuit.n_qubits
    state = zero_state(n, weights) if state is None else state
    shapes = [weights.shape[:-1], inputs.shape[:-1], state.shape[:1] if len(state) != 1 else ()]
    (batch,) = torch.broadcast_shapes((1,), *shapes)
    state = state.expand(batch, -1).repeat(trajectories, 1)
    drawn = False
    for step in steps(circuit, weights, inputs, noise):
        if step.kraus is not None:
            state = _drawn(state, _repeated(step.kraus, 4, trajectories), step.wires, n, generator)
            drawn = True
        elif step.matrix is not None:
            state = apply_matrix(state, _repeated(step.matrix, 3, trajectories), step.wires, n)
        elif drawn:
            raise ValueError(
                "a post-selection after noise keeps some trajectories more than others: use method='density'"
            )
        else:
            state = project(state, step.op, n)
    return state.reshape(trajectories, batch, 2**n).transpose(0, 1)


def trajectory_means(
    circuit: Circuit,
    weights: Tensor,
    inputs: Tensor,
    measure: Callable[[Tensor], Tensor],
    state: Tensor | None = None,
    *,
    noise: NoiseModel | None = None,
    trajectories: int = 128,
    generator: torch.Generator | None = None,
) -> Tensor:
    """(B, ...): the mean over trajectories of what is measured, few enough at a time to keep memory small.

    Args:
        circuit, weights, inputs, state, noise, trajectories, generator: as `trajectory_states`.
        measure: (R, 2^n) pure states -> (R, ...), linear in |ψ><ψ|.
    """
    batch = max([len(values) for values in (weights, inputs) if values.dim() > 1], default=1)
    batch = batch if state is None else max(batch, len(state))
    most = at_once(circuit.n_qubits, batch)
    total: Tensor | None = None
    left = trajectories
    while left > 0 or total is None:
        count = min(most, left)
        states = trajectory_states(
            circuit, weights, inputs, state, noise=noise, trajectories=count, generator=generator
        )
        part = measure(states.flatten(0, 1)).unflatten(0, states.shape[:2]).sum(1)
        total = part if total is None else total + part
        left -= count
    return total / trajectories


def at_once(n: int, batch: int) -> int:
    """How many trajectories of a batch of states of n qubits are held at once."""
    return max(1, _AT_ONCE // (2**n * max(batch, 1)))


def _repeated(matrix: Tensor, dims_of_batch: int, trajectories: int) -> Tensor:
    """What is of each sample, once a trajectory."""
    return matrix.repeat(trajectories, *[1] * (dims_of_batch - 1)) if matrix.dim() == dims_of_batch else matrix


def _drawn(state: Tensor, kraus: Tensor, wires: tuple[int, ...], n: int, generator: torch.Generator | None) -> Tensor:
    with torch.no_grad():
        # |K ψ|² = tr(K†K ρ) with the density matrix of the channel's wires alone.
        rho = reduced_density(state, wires, n)
        weight = torch.einsum("...kba,...kbc,...ca->...k", kraus.conj(), kraus, rho).real.clamp(min=0)
        total = weight.double().cumsum(-1)
        uniform = torch.rand(len(state), 1, dtype=torch.float64, device=state.device, generator=generator)
        branch = (total <= uniform * total[:, -1:]).sum(-1).clamp(max=kraus.shape[-3] - 1)
        probability = weight.gather(-1, branch[:, None]).squeeze(-1)
    rows = torch.arange(len(state), device=state.device)
    chosen = kraus[branch] if kraus.dim() == 3 else kraus[rows, branch]
    return apply_matrix(state, chosen / probability.sqrt()[:, None, None], wires, n)
