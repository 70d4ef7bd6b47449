"""Whether a circuit can learn: how its gradients shrink as it gets wider."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, pi
from typing import Any

import torch

from zoo.quantum import simulate
from zoo.quantum.ansatze import ansatz
from zoo.quantum.circuit import Circuit
from zoo.quantum.integers import integer
from zoo.quantum.observables import is_single
from zoo.quantum.probes.coverage import batches_of, turns_of

#: A variance that falls faster than by this factor a qubit will not be seen at a few dozen qubits.
_STEEP = 0.75


@dataclass(frozen=True)
class GradientVariance:
    """How large gradients are, by the number of qubits.

    Attributes:
        widths: numbers of qubits.
        variances: of the derivative by a weight under random weights, of that weight for which it is largest. Taken
            about 0, which is its mean under even draws.
        factor: what the variance is multiplied by with every qubit, from a straight line through its logarithms.
        warning: what a steep fall means for wider circuits; empty where it does not fall steeply.
    """

    widths: tuple[int, ...]
    variances: tuple[float, ...]
    factor: float
    warning: str

    def at(self, n_qubits: int) -> float:
        """The variance that the line gives for another width."""
        mean = sum(self.widths) / len(self.widths)
        level = sum(map(log, self.variances)) / len(self.variances)
        return exp(level + (n_qubits - mean) * log(self.factor))


def gradient_variance(
    circuit: str | Callable[[int], Circuit],
    widths: Sequence[int] = (2, 4, 6, 8),
    *,
    n_layers: int | Callable[[int], int] = 10,
    observable: Any = "Z0 Z1",
    samples: int = 100,
    start: Callable[[torch.Tensor], torch.Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> GradientVariance:
    """Whether the gradient of an expectation vanishes as a circuit gets wider: the barren plateau.

    Args:
        circuit: an ansatz by name, or what makes a circuit of so many qubits; features are drawn from -pi to pi.
        widths: at least two different numbers of qubits.
        n_layers: of the ansatz by name, or as a function of the width.
        observable: one, whose expectation is differentiated.
        samples: draws of the weights.
        start: (samples, W) even numbers of [0, 1) -> weights, to probe another start; for the default of `QuantumLayer`
            `lambda u: 0.01 * pi * 2**0.5 * torch.erfinv(2 * u - 1)`. Evenly over one turn of their angles if None.
        generator: torch's own if None.

    Raises:
        ValueError: fewer than two widths or samples, several observables, a circuit without weights or one whose
            expectation does not depend on them.

    Source: McClean et al. (2018, arXiv 1803.11173).
    """
    given, widths = widths, tuple(sorted({integer("a width", width) for width in widths}))
    if len(widths) < 2:
        raise ValueError(f"widths must be at least two different numbers of qubits, got {list(given)}")
    if samples < 2:
        raise ValueError(f"samples must be at least 2, got {samples}")
    if not is_single(observable):
        raise ValueError(f"observable must be one, such as 'Z0 Z1', got {observable!r}")
    variances = []
    for width in widths:
        layers = n_layers(width) if callable(n_layers) else n_layers
        made = circuit(width) if callable(circuit) else ansatz(circuit, width, layers)
        variances.append(_variance(made, observable, samples, start, generator))
    factor = _slope(widths, variances)
    return GradientVariance(widths, tuple(variances), factor, _warning(widths, variances, factor))


def _variance(
    circuit: Circuit,
    observable: Any,
    samples: int,
    start: Callable[[torch.Tensor], torch.Tensor] | None,
    generator: torch.Generator | None,
) -> float:
    turns = turns_of(circuit)
    squares = torch.zeros(len(turns), dtype=torch.float64)
    for count in batches_of(samples, circuit.n_qubits):
        drawn = torch.rand(count, len(turns), dtype=torch.float64, generator=generator)
        weights = (drawn * turns if start is None else start(drawn)).requires_grad_()
        inputs = pi * (2 * torch.rand(count, circuit.n_inputs, dtype=torch.float64, generator=generator) - 1)
        values = simulate.expval(circuit, observable, weights, inputs)
        squares += torch.autograd.grad(values.sum(), weights)[0].square().sum(0)
    largest = float(squares.max()) / samples
    if largest < 1e-24:
        raise ValueError(f"the expectation of {observable!r} does not depend on the weights of {circuit}")
    return largest


def _slope(widths: Sequence[int], variances: Sequence[float]) -> float:
    """The factor a qubit of the line of least squares through the logarithms."""
    x = torch.tensor(widths, dtype=torch.float64)
    y = torch.tensor(variances, dtype=torch.float64).log()
    x = x - x.mean()
    return exp(float((x * y).sum() / x.square().sum()))


def _warning(widths: Sequence[int], variances: Sequence[float], factor: float) -> str:
    if factor >= _STEEP:
        return ""
    size, wide = variances[-1] ** 0.5, widths[-1] + 10
    return (
        f"barren plateau: the variance of the gradient is multiplied by {factor:.2f} with every qubit. At {widths[-1]} "
        f"qubits a derivative is some {size:.1e}, at {wide} it would be {size * factor**5:.1e}. Start near zero (the "
        "default of QuantumLayer), use fewer layers, or read an observable on few wires"
    )
