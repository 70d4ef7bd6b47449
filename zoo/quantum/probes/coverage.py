"""What an ansatz can express: how its states cover all states, and how entangled they are."""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.quantum import simulate
from zoo.quantum.circuit import Circuit
from zoo.quantum.probes.states import meyer_wallach

#: States that are simulated at once hold so many amplitudes at most.
_AMPLITUDES = 2**22


@dataclass(frozen=True)
class Expressibility:
    """How the fidelities of random pairs of states are spread.

    Attributes:
        divergence: Kullback-Leibler divergence from that of Haar-random states, in nats; 0 is as expressive as can be.
        fidelities: of the pairs.
        edges: of the bins, from 0 to 1.
        shares: of the pairs in each bin.
        haar: those of Haar-random states.
    """

    divergence: float
    fidelities: Tensor
    edges: Tensor
    shares: Tensor
    haar: Tensor


def expressibility(
    circuit: Circuit,
    *,
    pairs: int = 2000,
    bins: int = 75,
    inputs: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Expressibility:
    """How evenly a circuit's states, under random weights, cover all states.

    Args:
        circuit: its weights are drawn, each evenly over one turn of its angle.
        pairs: of states whose fidelities are counted. Few pairs make the divergence too large: with k bins and N pairs
            by some k / 2N.
        bins: equal parts of the fidelities from 0 to 1.
        inputs: (I,) features of a circuit that has some.
        generator: torch's own if None.

    Raises:
        ValueError: fewer than one pair or bin, a circuit without weights.

    Source: Sim, Johnson and Aspuru-Guzik (2019, arXiv 1905.10876).
    """
    for name, value in (("pairs", pairs), ("bins", bins)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    first, second = (_random_states(circuit, pairs, inputs, generator) for _ in range(2))
    fidelities = (first.conj() * second).sum(-1).abs().square().clamp(0, 1)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    shares = torch.histogram(fidelities, edges).hist / pairs
    # Haar: the density of a fidelity F is (N - 1) (1 - F)**(N - 2).
    haar = -((1 - edges) ** (2**circuit.n_qubits - 1)).diff()
    filled = shares > 0
    divergence = (shares[filled] * (shares[filled] / haar[filled].clamp_min(1e-300)).log()).sum()
    return Expressibility(float(divergence), fidelities, edges, shares, haar)


def entanglement(
    circuit: Circuit, *, samples: int = 1000, inputs: Tensor | None = None, generator: torch.Generator | None = None
) -> Float[Tensor, " samples"]:
    """(samples,) Meyer-Wallach Q of a circuit's states under random weights; its mean is the entangling capability.

    Args:
        circuit, inputs, generator: see `expressibility`.
        samples: states.

    Raises:
        ValueError: fewer than one sample, a circuit without weights.

    Source: Sim, Johnson and Aspuru-Guzik (2019, arXiv 1905.10876).
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    return meyer_wallach(_random_states(circuit, samples, inputs, generator))


def turns_of(circuit: Circuit) -> Tensor:
    """(W,) how much of each weight is one turn of the angles that it is in.

    Raises:
        ValueError: no weights.
    """
    if not circuit.n_weights:
        raise ValueError(f"{circuit} has no weights to draw")
    scales = [0.0] * circuit.n_weights
    for op in circuit:
        for angle in op.angles:
            if angle.source == "weight" and angle.scale:
                known = scales[angle.place]
                scales[angle.place] = min(known, abs(angle.scale)) if known else abs(angle.scale)
    return torch.tensor([2 * pi / scale if scale else 0.0 for scale in scales], dtype=torch.float64)


def batches_of(samples: int, n_qubits: int) -> list[int]:
    """Sizes of batches that fit into memory."""
    most = max(1, _AMPLITUDES // 2**n_qubits)
    return [min(most, samples - start) for start in range(0, samples, most)]


def _random_states(circuit: Circuit, samples: int, inputs: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """(samples, 2**n) states of a circuit under weights that are even over a turn of their angles."""
    turns = turns_of(circuit)
    states = []
    with torch.no_grad():
        for count in batches_of(samples, circuit.n_qubits):
            weights = turns * torch.rand(count, len(turns), dtype=torch.float64, generator=generator)
            states.append(simulate.state(circuit, weights, None if inputs is None else inputs.to("cpu", torch.float64)))
    return torch.cat(states)
