"""What can be asked of a circuit: states, probabilities, expectations, samples.

Every function takes the circuit, its weights (W,), or (*, W) of each sample, and its inputs (*, I). Results have the
leading dimensions of these. Nothing is kept between calls.
"""

from typing import Any

import torch
from jaxtyping import Complex, Float, Int, Shaped
from torch import Tensor

from zoo.eager import no_autocast
from zoo.quantum.circuit import Circuit
from zoo.quantum.integers import Wires, as_wires
from zoo.quantum.observables import is_single, parse_observables, state_of
from zoo.quantum.running.answers import Question, answer, columns, differentiated, drawn, final_state
from zoo.quantum.running.call import Values, prepare
from zoo.quantum.running.options import Options
from zoo.quantum.running.outcomes import Outcome
from zoo.quantum.shots import Reading
from zoo.quantum.shots import counts as count_bits


def state(
    circuit: Circuit,
    weights: Values = None,
    inputs: Values = None,
    *,
    state: Shaped[Tensor, "*start amplitudes"] | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Complex[Tensor, "*batch amplitudes"]:
    """(*, 2^n) complex amplitudes after the circuit.

    Args:
        circuit: what is simulated.
        weights: (W,) for all samples or (*, W): a tensor, numbers, or a mapping of names to numbers.
        inputs: (*, I) features.
        state: (*, 2^n) amplitudes to begin with, of norm 1; every wire in 0 by default.
        dtype: a floating type to give back; by default that of the tensors. Lower precisions than float32 are computed
            in float32, and states stay complex64.
        options: see `Options`.
    """
    call, chosen = prepare(circuit, weights, inputs, state, dtype), Options.of_states(options)
    with no_autocast(call.weights):
        return call.finish(final_state(call, chosen))


def probs(
    circuit: Circuit,
    weights: Values = None,
    inputs: Values = None,
    *,
    wires: Wires | None = None,
    state: Shaped[Tensor, "*start amplitudes"] | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Float[Tensor, "*batch outcomes"]:
    """(*, 2^k) probabilities of the outcomes of k wires, the first of `wires` the most significant bit.

    With shots the shares of the outcomes.

    Args:
        circuit, weights, inputs, state, dtype, options: see `state`.
        wires: which are measured, one or several; by default all.
    """
    call, chosen = prepare(circuit, weights, inputs, state, dtype), Options.of(options)
    kept = check_wires(wires, circuit.n_qubits)

    def ask(outcome: Outcome, reading: Reading) -> Tensor:
        return reading.of(outcome.chances(kept), kept)

    return differentiated(Question(ask, (state_of(kept),), answer=2 ** len(kept)), call, chosen)


def expval(
    circuit: Circuit,
    observables: Any,
    weights: Values = None,
    inputs: Values = None,
    *,
    state: Shaped[Tensor, "*start amplitudes"] | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Float[Tensor, "*values"]:
    """Expectations: (*, n_observables) for a list or for "z", (*) for one observable.

    Args:
        circuit, weights, inputs, state, dtype, options: see `state`.
        observables: "z" for Z of every wire; text such as "0.5 Z0 Z2 - X1"; a `PauliSum`, `Projector`, `Hermitian`;
            or a list of these.
    """
    call, chosen = prepare(circuit, weights, inputs, state, dtype), Options.of(options)
    parsed = parse_observables(observables, circuit.n_qubits)

    def ask(outcome: Outcome, reading: Reading) -> Tensor:
        return outcome.expectations(parsed) if reading.exact else outcome.read(parsed, reading)

    values = differentiated(Question(ask, parsed), call, chosen)
    return values[..., 0] if is_single(observables) else values


def var(
    circuit: Circuit,
    observables: Any,
    weights: Values = None,
    inputs: Values = None,
    *,
    state: Shaped[Tensor, "*start amplitudes"] | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Float[Tensor, "*values"]:
    """Variances <O^2> - <O>^2 of observables; shapes and arguments as `expval`.

    Raises:
        ValueError: shots, or an error of the readout: variances are those of the state.
    """
    call, chosen = prepare(circuit, weights, inputs, state, dtype), Options.of(options)
    parsed = parse_observables(observables, circuit.n_qubits)
    if not chosen.reading.exact:
        raise ValueError("var is of the state itself: it takes no shots and no error of the readout")

    def ask(outcome: Outcome, reading: Reading) -> Tensor:
        # Both moments go as sines of the angles, so that parameter shift is exact; their combination does not.
        return torch.stack([outcome.expectations(parsed), outcome.second_moments(parsed)], dim=-1)

    first, second = differentiated(Question(ask, parsed, squares=True), call, chosen).unbind(-1)
    values = second - first.square()
    return values[..., 0] if is_single(observables) else values


def sample(
    circuit: Circuit,
    weights: Values = None,
    inputs: Values = None,
    *,
    shots: int,
    wires: Wires | None = None,
    state: Shaped[Tensor, "*start amplitudes"] | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Int[Tensor, "*batch shots wires"]:
    """(*, shots, k) bits of k wires as integers, one row a run; no gradient.

    Args:
        circuit, weights, inputs, state, dtype, options: see `state`.
        shots: how many runs.
        wires: which are measured, one or several; by default all.
    """
    call, chosen = prepare(circuit, weights, inputs, state, dtype), Options.of({**options, "shots": shots})
    kept = list(check_wires(wires, circuit.n_qubits))
    return call.finish(drawn(call, chosen))[..., kept]


def counts(
    circuit: Circuit,
    weights: Values = None,
    inputs: Values = None,
    *,
    shots: int,
    wires: Wires | None = None,
    state: Shaped[Tensor, "*start amplitudes"] | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Any:
    """How often each outcome came, {"010": 17, ...}, or a list of these for each leading dimension.

    Arguments as `sample`.

    Raises:
        ValueError: inside a transform of `torch.func`, which has room for tensors alone.
    """
    if torch._C._are_functorch_transforms_active():
        raise ValueError(
            "counts are no tensors, which torch.func.vmap could stack: give a batch of weights or inputs to one call, "
            "or take sample(...)"
        )
    return count_bits(sample(circuit, weights, inputs, shots=shots, wires=wires, state=state, dtype=dtype, **options))


def density_matrix(
    circuit: Circuit,
    weights: Values = None,
    inputs: Values = None,
    *,
    wires: Wires | None = None,
    state: Shaped[Tensor, "*start amplitudes"] | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Complex[Tensor, "*batch rows rows"]:
    """(*, 2^k, 2^k) density matrix of k wires, the others traced out; arguments as `probs`."""
    call, chosen = prepare(circuit, weights, inputs, state, dtype), Options.of_states(options)
    kept = check_wires(wires, circuit.n_qubits)

    def ask(outcome: Outcome, reading: Reading) -> Tensor:
        return outcome.reduced(kept)

    with no_autocast(call.weights):
        return call.finish(answer(Question(ask, (state_of(kept),), answer=4 ** len(kept)), call, chosen))


def unitary(
    circuit: Circuit,
    weights: Values = None,
    inputs: Values = None,
    *,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Complex[Tensor, "*batch rows rows"]:
    """(*, 2^n, 2^n) matrix of the circuit: what it makes of every basis state; arguments as `state`.

    Raises:
        ValueError: the circuit has post-selections or channels.
    """
    if not circuit.unitary_only:
        raise ValueError("a circuit with post-selections or channels has no unitary matrix")
    call, chosen = prepare(circuit, weights, inputs, None, dtype), Options.of_states(options)
    with no_autocast(call.weights):
        d, after = 2**circuit.n_qubits, columns(call, chosen)
        return call.finish(after.reshape(d, call.batch, d).permute(1, 2, 0))


def check_wires(wires: Wires | None, n: int) -> tuple[int, ...]:
    """The wires as a tuple, of one or of several; all of them for None.

    Raises:
        ValueError: none, a wire that is missing, or one that is there twice.
    """
    kept = tuple(range(n)) if wires is None else as_wires(wires)
    if not kept or len(set(kept)) < len(kept) or not all(0 <= wire < n for wire in kept):
        raise ValueError(f"wires are different numbers from 0 to {n - 1}, got {list(kept)}")
    return kept
