"""What can be asked of a circuit: states, probabilities, expectations, samples.

Every function takes the circuit, its weights (W,), or (*, W) of each sample, and its inputs (*, I). Results have the
leading dimensions of these. Nothing is kept between calls.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.eager import no_autocast
from zoo.naming import check_keywords, did_you_mean
from zoo.quantum import shift
from zoo.quantum.call import Call, Values, prepare
from zoo.quantum.circuit import Circuit
from zoo.quantum.expectation import expectations, marginal, probabilities, reduced_density, second_moments
from zoo.quantum.gates import complex_type
from zoo.quantum.observables import is_single, parse_observables
from zoo.quantum.reference import reference_state

METHODS = ("auto", "reference")
DIFF_METHODS = ("auto", "adjoint", "backprop", *shift.METHODS)


@dataclass(frozen=True)
class Options:
    """How a circuit is simulated and differentiated.

    Args:
        method: "reference": gate after gate; "auto": the fastest.
        diff_method: "adjoint", "backprop" (through every operation), "parameter_shift", "finite_diff", "spsa"; "auto":
            the fastest exact one.
        generator: what draws samples and directions.
        directions: how many directions "spsa" takes the mean of.
    """

    method: str = "auto"
    diff_method: str = "auto"
    generator: torch.Generator | None = None
    directions: int = 1

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("method", self.method, METHODS),
            ("diff_method", self.diff_method, DIFF_METHODS),
        ):
            if value not in allowed:
                hint = did_you_mean(str(value), allowed)
                raise ValueError(f"{name} is one of {', '.join(map(repr, allowed))}, got {value!r}{hint}")

    @staticmethod
    def of(given: dict[str, Any]) -> "Options":
        check_keywords(given, Options.__dataclass_fields__, "a simulation")
        return Options(**given)


def state(
    circuit: Circuit,
    weights: Values = None,
    inputs: Values = None,
    *,
    state: Tensor | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Tensor:
    """(*, 2^n) complex amplitudes after the circuit.

    Args:
        circuit: what is simulated.
        weights: (W,) for all samples or (*, W): a tensor, numbers, or a mapping of names to numbers.
        inputs: (*, I) features.
        state: (*, 2^n) amplitudes to begin with, taken as they are; every wire in 0 by default.
        dtype: float32 or float64; by default that of the tensors.
        options: see `Options`.
    """
    call, chosen = prepare(circuit, weights, inputs, state, dtype), Options.of(options)
    with no_autocast(call.weights):
        return call.finish(_state(call, chosen))


def probs(
    circuit: Circuit,
    weights: Values = None,
    inputs: Values = None,
    *,
    wires: list[int] | tuple[int, ...] | None = None,
    state: Tensor | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Tensor:
    """(*, 2^k) probabilities of the outcomes of k wires, the first of `wires` the most significant bit.

    Args:
        circuit, weights, inputs, state, dtype, options: see `state`.
        wires: which are measured; by default all.
    """
    call, chosen = prepare(circuit, weights, inputs, state, dtype), Options.of(options)
    kept = check_wires(wires, circuit.n_qubits)

    def measure(call: Call) -> Tensor:
        chances = probabilities(_state(call, chosen))
        return chances if wires is None else marginal(chances, kept, circuit.n_qubits)

    return _differentiated(measure, call, chosen)


def expval(
    circuit: Circuit,
    observables: Any,
    weights: Values = None,
    inputs: Values = None,
    *,
    state: Tensor | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Tensor:
    """Expectations: (*, n_observables) for a list or for "z", (*) for one observable.

    Args:
        circuit, weights, inputs, state, dtype, options: see `state`.
        observables: "z" for Z of every wire; text such as "0.5 Z0 Z2 - X1"; a `PauliSum`, `Projector`, `Hermitian`;
            or a list of these.
    """
    call, chosen = prepare(circuit, weights, inputs, state, dtype), Options.of(options)
    parsed = parse_observables(observables, circuit.n_qubits)

    def measure(call: Call) -> Tensor:
        return expectations(_state(call, chosen), parsed, circuit.n_qubits)

    values = _differentiated(measure, call, chosen)
    return values[..., 0] if is_single(observables) else values


def var(
    circuit: Circuit,
    observables: Any,
    weights: Values = None,
    inputs: Values = None,
    *,
    state: Tensor | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Tensor:
    """Variances <O^2> - <O>^2 of observables; shapes and arguments as `expval`."""
    call, chosen = prepare(circuit, weights, inputs, state, dtype), Options.of(options)
    parsed = parse_observables(observables, circuit.n_qubits)

    def moments(call: Call) -> Tensor:
        """Both moments go as sines of the angles, so that parameter shift is exact; their combination does not."""
        after = _state(call, chosen)
        first, second = expectations(after, parsed, circuit.n_qubits), second_moments(after, parsed, circuit.n_qubits)
        return torch.stack([first, second], dim=-1)

    first, second = _differentiated(moments, call, chosen).unbind(-1)
    values = second - first.square()
    return values[..., 0] if is_single(observables) else values


def density_matrix(
    circuit: Circuit,
    weights: Values = None,
    inputs: Values = None,
    *,
    wires: list[int] | tuple[int, ...] | None = None,
    state: Tensor | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Tensor:
    """(*, 2^k, 2^k) density matrix of k wires, the others traced out; arguments as `probs`."""
    call, chosen = prepare(circuit, weights, inputs, state, dtype), Options.of(options)
    kept = check_wires(wires, circuit.n_qubits)
    with no_autocast(call.weights):
        return call.finish(reduced_density(_state(call, chosen), kept, circuit.n_qubits))


def unitary(
    circuit: Circuit,
    weights: Values = None,
    inputs: Values = None,
    *,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Tensor:
    """(*, 2^n, 2^n) matrix of the circuit: what it makes of every basis state; arguments as `state`.

    Raises:
        ValueError: the circuit has post-selections or channels.
    """
    if not circuit.unitary_only:
        raise ValueError("a circuit with post-selections or channels has no unitary matrix")
    call, chosen = prepare(circuit, weights, inputs, None, dtype), Options.of(options)
    d = 2**circuit.n_qubits
    with no_autocast(call.weights):
        start = torch.eye(d, dtype=complex_type(call.weights.dtype), device=call.weights.device)
        after = _state(call.repeated(d, start.repeat_interleave(call.batch, dim=0)), chosen)
        return call.finish(after.reshape(d, call.batch, d).permute(1, 2, 0))


def check_wires(wires: list[int] | tuple[int, ...] | None, n: int) -> tuple[int, ...]:
    """The wires as a tuple, all of them for None.

    Raises:
        ValueError: none, a wire that is missing, or one that is there twice.
    """
    kept = tuple(range(n)) if wires is None else tuple(wires)
    if not kept or len(set(kept)) < len(kept) or not all(0 <= wire < n for wire in kept):
        raise ValueError(f"wires are different numbers from 0 to {n - 1}, got {list(kept)}")
    return kept


def _state(call: Call, options: Options) -> Tensor:
    """(B, 2^n) or (1, 2^n) amplitudes."""
    return reference_state(call.circuit, call.weights, call.inputs, call.state)


def _differentiated(measure: Callable[[Call], Tensor], call: Call, options: Options) -> Tensor:
    """What `measure` finds, with gradients as asked for."""
    with no_autocast(call.weights):
        if options.diff_method in shift.METHODS:
            return call.finish(shift.shifted(measure, call, options.diff_method, options.generator, options.directions))
        return call.finish(measure(call))
