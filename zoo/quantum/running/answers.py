"""From a checked call to an answer: which simulation runs, what it is asked, how the answer is differentiated."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from zoo.eager import no_autocast
from zoo.quantum.engine import evolve
from zoo.quantum.lightcone import lightcone_expectations
from zoo.quantum.memory import Run, check_memory, choose_method
from zoo.quantum.mps import MPS
from zoo.quantum.mps.shots import estimate
from zoo.quantum.noise.density import density_matrix
from zoo.quantum.noise.readout import ReadoutError
from zoo.quantum.noise.trajectories import at_once, trajectory_means, trajectory_states
from zoo.quantum.observables import Observable
from zoo.quantum.reference import reference_state
from zoo.quantum.running import shift
from zoo.quantum.running.call import Call
from zoo.quantum.running.options import NOISY, WIDE, Options
from zoo.quantum.running.outcomes import Mixed, Outcome, Pure
from zoo.quantum.shots import as_read, index_bits, sample_indices

#: So many amplitudes fit anywhere: whether they do is not looked up.
_FEW = 2**18
_STEP_OF_SHOTS = 0.1
#: Cones and chains of tensors are about as large as this many qubits.
_SMALL = 12


@dataclass(frozen=True)
class Question:
    """What is wanted of the state at the end.

    Args:
        ask: an outcome and the runs of each of its states (None: exact) -> (B, ...).
        observables: where expectations are wanted: of which observables. Some methods give nothing else.
    """

    ask: Callable[[Outcome, int | None], Tensor]
    observables: tuple[Observable, ...] | None = None


def differentiated(question: Question, call: Call, options: Options) -> Tensor:
    """The answer for every sample, with gradients as asked for.

    Raises:
        ValueError: export of what is drawn, or of a gradient from further runs.
    """
    if torch.compiler.is_compiling() and _cannot_be_traced(question, call, options):
        return _between_graphs(question, call, options)
    return _differentiated(question, call, options)


def _cannot_be_traced(question: Question, call: Call, options: Options) -> bool:
    """Whether outcomes are drawn, or gradients come from further runs: of circuits that are made on the way.

    Raises:
        ValueError: under export, which has nothing but what it traces.
    """
    drawn = options.shots is not None or _method_of(question, call, options) == "trajectories"
    if torch.compiler.is_exporting() and (drawn or options.diff_method in shift.METHODS):
        what = "shots and trajectories are" if drawn else f"diff_method={options.diff_method!r} is"
        raise ValueError(
            f"{what} not exported: give exact expectations (shots=None, noise by method='density') and "
            "diff_method='auto'"
        )
    return drawn or options.diff_method in shift.METHODS


@torch._disable_dynamo
def _between_graphs(question: Question, call: Call, options: Options) -> Tensor:
    return _differentiated(question, call, options)


def _differentiated(question: Question, call: Call, options: Options) -> Tensor:
    diff_method = options.diff_method
    if diff_method == "auto" and options.shots is not None:
        diff_method = "parameter_shift"

    def measure(call: Call) -> Tensor:
        return answer(question, call, options)

    with no_autocast(call.weights):
        if diff_method in shift.METHODS:
            # A difference of means of shots must be larger than their spread.
            step = _STEP_OF_SHOTS if options.step is None and options.shots is not None else options.step
            values = shift.shifted(
                measure,
                call,
                diff_method,
                size=_size(call, options, question),
                step=step,
                directions=options.directions,
                generator=options.generator,
            )
            return call.finish(values)
        return call.finish(measure(call))


def answer(question: Question, call: Call, options: Options) -> Tensor:
    """Simulate and ask: (B, ...), or (1, ...) where nothing has a batch."""
    method, n = _method_of(question, call, options), call.circuit.n_qubits
    given = (call.circuit, call.weights, call.inputs)
    if method == "density":
        return question.ask(Mixed(density_matrix(*given, call.state, noise=options.noise), n), options.shots)
    if method == "trajectories":
        # With shots every run has noise of its own.
        return trajectory_means(
            *given,
            lambda states: question.ask(Pure(states, n), None if options.shots is None else 1),
            call.state,
            noise=options.noise,
            trajectories=options.shots or options.trajectories,
            generator=options.generator,
        )
    if method == "lightcone":
        return _by_cones(question, call, options)
    if method == "mps":
        return _by_chain(question, call, options)
    return question.ask(Pure(_amplitudes(call, options, method, keep_real=True), n), options.shots)


def final_state(call: Call, options: Options) -> Tensor:
    """(B, 2^n) or (1, 2^n) amplitudes.

    Raises:
        ValueError: there is noise.
    """
    method = _method(call, options, None)
    if method in NOISY:
        raise ValueError("noise makes the state a mixture, which has no amplitudes; use density_matrix")
    if method == "lightcone":
        raise ValueError("method='lightcone' gives expectations, not the state")
    return _chain(call, options).state() if method == "mps" else _amplitudes(call, options, method)


def read(outcome: Outcome, options: Options, shots: int | None) -> Callable[[dict[int, str]], Tensor]:
    """The probabilities in a basis as they are read: with errors, from a number of shots."""
    return as_read(outcome.chances_in, outcome.n, shots=shots, readout=_readout(options), generator=options.generator)


@torch.no_grad()
def drawn(call: Call, options: Options) -> Tensor:
    """(B, shots, n) bits."""
    shots, n = options.shots, call.circuit.n_qubits
    assert shots is not None
    method = _method(call, options, None, sampled=True)
    if method == "mps":
        bits, readout = _chain(call, options).sample(shots, options.generator), _readout(options)
        return bits if readout is None else readout.misread(bits, range(n), options.generator)
    if method == "trajectories":
        most = at_once(n, call.batch)
        parts = [_drawn_once(call, options, min(most, shots - done)) for done in range(0, shots, most)]
        return index_bits(torch.cat(parts, dim=-1), n)
    exact = Question(lambda outcome, _: sample_indices(read(outcome, options, None)({}), shots, options.generator))
    return index_bits(answer(exact, call, options), n)


def _drawn_once(call: Call, options: Options, trajectories: int) -> Tensor:
    """(B, trajectories) basis states, one of each trajectory."""
    states = trajectory_states(
        call.circuit,
        call.weights,
        call.inputs,
        call.state,
        noise=options.noise,
        trajectories=trajectories,
        generator=options.generator,
    )
    chances = read(Pure(states.flatten(0, 1), call.circuit.n_qubits), options, None)({})
    return sample_indices(chances, 1, options.generator).reshape(states.shape[:2])


def _amplitudes(call: Call, options: Options, method: str, keep_real: bool = False) -> Tensor:
    """(B, 2^n); real where `keep_real` and all gates are."""
    if method == "reference":
        return reference_state(call.circuit, call.weights, call.inputs, call.state)
    return evolve(call.circuit, call.weights, call.inputs, call.state, _through(options), keep_real)


def _through(options: Options) -> str:
    """How amplitudes are differentiated; shifted runs need no gradient of theirs."""
    return "auto" if options.diff_method in shift.METHODS else options.diff_method


def _by_cones(question: Question, call: Call, options: Options) -> Tensor:
    _begins_in_zero(call, "lightcone")
    if question.observables is None or options.shots is not None or _readout(options) is not None:
        raise ValueError("method='lightcone' gives exact expectations, no probabilities and no shots")
    through = partial(evolve, diff_method=_through(options), keep_real=True)
    return lightcone_expectations(call.circuit, call.weights, call.inputs, question.observables, through)


def _by_chain(question: Question, call: Call, options: Options) -> Tensor:
    chain, readout = _chain(call, options), _readout(options)
    if question.observables is None:
        return question.ask(Pure(chain.state(), call.circuit.n_qubits), options.shots)
    if options.shots is not None:
        return estimate(chain, question.observables, options.shots, readout=readout, generator=options.generator)
    if readout is not None:
        raise ValueError("method='mps' has errors of the readout only with shots")
    return chain.expectations(question.observables)


def _chain(call: Call, options: Options) -> MPS:
    _begins_in_zero(call, "mps")
    chain = MPS.run(call.circuit, call.weights, call.inputs, max_bond=options.max_bond)
    if options.report is not None:
        options.report(chain.truncation_error)
    return chain


def _begins_in_zero(call: Call, method: str) -> None:
    if call.state is not None:
        raise ValueError(f"method={method!r} begins with every wire in 0; a state to begin with needs 'statevector'")


def _readout(options: Options) -> ReadoutError | None:
    return None if options.noise is None else options.noise.readout


def _method_of(question: Question, call: Call, options: Options) -> str:
    return _method(call, options, question.observables, options.shots is not None and question.observables is not None)


def _method(call: Call, options: Options, observables: tuple[Observable, ...] | None, sampled: bool = False) -> str:
    """The method that "auto" stands for, or the one that was asked for.

    Args:
        call: what is run.
        options: how.
        observables: whose expectations are wanted; None where the state or its probabilities are.
        sampled: outcomes are drawn, of which there need be no probabilities.

    Raises:
        ValueError: noise with a method that has none; "adjoint" with one that keeps no amplitudes.
        CircuitTooLarge: more memory would be needed than there is.
    """
    noisy = (options.noise is not None and bool(options.noise.after)) or call.circuit.has_channels
    few = _samples(call) * 2**call.circuit.n_qubits <= _FEW
    looked_up = options.max_memory is not None or not few
    method = options.method
    if method == "auto" and not looked_up and not noisy:
        method = "statevector"
    elif method == "auto":
        read_exactly = sampled or _readout(options) is None
        method = choose_method(
            _run(call, options),
            observables if read_exactly else None,
            noisy=noisy,
            begins_with_state=call.state is not None,
            sampled=sampled,
        )
    elif noisy and method not in NOISY:
        raise ValueError(f"method={method!r} simulates no noise; use {' or '.join(map(repr, NOISY))}")
    if looked_up:
        keeps_all = method == "statevector" and options.diff_method == "backprop"
        check_memory(_run(call, options), "reference" if keeps_all else method, observables)
    if options.diff_method == "adjoint" and method in ("reference", *NOISY, *WIDE):
        raise ValueError(
            f"method={method!r} is differentiated through its operations: diff_method='backprop' or 'auto'"
        )
    return method


def _size(call: Call, options: Options, question: Question) -> int:
    """The complex numbers, about, that a run of one sample holds."""
    method = _method_of(question, call, options)
    return 2**_SMALL if method in WIDE else (4 if method == "density" else 2) ** call.circuit.n_qubits


def _run(call: Call, options: Options) -> Run:
    return Run(
        call.circuit,
        _samples(call),
        call.weights.dtype,
        call.weights.device,
        call.needs_gradient(),
        options.max_memory,
        options.shots or options.trajectories,
    )


def _samples(call: Call) -> int:
    """By how many samples it is decided how to run: by one where the batch may be of any size."""
    return 1 if torch.compiler.is_compiling() else call.batch
