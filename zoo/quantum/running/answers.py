"""From a checked call to an answer: which simulation runs, what it is asked, how the answer is differentiated."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from zoo.eager import no_autocast
from zoo.quantum.engine import evolve
from zoo.quantum.gates import complex_type
from zoo.quantum.memory import Run, check_memory, choose_method
from zoo.quantum.mps import MPS
from zoo.quantum.noise.density import density_matrix
from zoo.quantum.noise.trajectories import at_once, trajectory_means, trajectory_states
from zoo.quantum.observables import Observable, squared
from zoo.quantum.reference import reference_state
from zoo.quantum.running import shift
from zoo.quantum.running.call import Call
from zoo.quantum.running.options import NOISY, WIDE, Options
from zoo.quantum.running.outcomes import Chain, Cones, Mixed, Outcome, Pure
from zoo.quantum.shots import Reading, index_bits, sample_indices

#: So many amplitudes fit anywhere: whether they do is not looked up.
_FEW = 2**18
_STEP_OF_SHOTS = 0.1
#: Cones and chains of tensors are about as large as this many qubits.
_SMALL = 12


@dataclass(frozen=True)
class Question:
    """What is wanted of the state at the end.

    Args:
        ask: an outcome and how it is read -> (B, ...).
        observables: what is measured, `state_of` for the state of some wires; None for all amplitudes.
        squares: whether their squares are measured too.
        answer: numbers of the result of one sample; counts where it is long.
    """

    ask: Callable[[Outcome, Reading], Tensor]
    observables: tuple[Observable, ...] | None = None
    squares: bool = False
    answer: int = 0

    @property
    def measured(self) -> tuple[Observable, ...] | None:
        """The observables, with their squares if these are measured."""
        if self.observables is None or not self.squares:
            return self.observables
        return *self.observables, *map(squared, self.observables)


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
            f"{what} not exported: give exact expectations (shots=None, noise by method='density') "
            "and diff_method='auto'"
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
    method, n, reading = _method_of(question, call, options), call.circuit.n_qubits, options.reading
    given = (call.circuit, call.weights, call.inputs)
    if method == "trajectories":
        # With shots every run has noise of its own.
        once = reading if reading.shots is None else replace(reading, shots=1)
        return trajectory_means(
            *given,
            lambda states: question.ask(Pure(states, n), once),
            call.state,
            noise=options.noise,
            trajectories=options.shots or options.trajectories,
            generator=options.generator,
        )
    if method == "density":
        outcome = Mixed(density_matrix(*given, call.state, noise=options.noise), n)
    elif method == "lightcone":
        _begins_in_zero(call, method)
        noisy = _is_noisy(call, options)
        through = partial(evolve, diff_method=_through(options), keep_real=True)
        outcome = Cones(*given, partial(density_matrix, noise=options.noise) if noisy else through, noisy)
    elif method == "mps":
        outcome = Chain(_chain(call, options))
    else:
        outcome = Pure(_amplitudes(call, options, method, keep_real=True), n)
    return question.ask(outcome, reading)


def final_state(call: Call, options: Options) -> Tensor:
    """(B, 2^n) or (1, 2^n) amplitudes.

    Raises:
        ValueError: there is noise.
    """
    return _state(call, options, _method(call, options, None, answer=2**call.circuit.n_qubits))


def columns(call: Call, options: Options) -> Tensor:
    """(2^n * B, 2^n): what the circuit makes of every basis state, for one after the other the whole batch."""
    d = 2**call.circuit.n_qubits
    method = _method(call, options, None, columns=d)  # before anything of that size is made
    start = torch.eye(d, dtype=complex_type(call.weights.dtype), device=call.weights.device)
    return _state(call.repeated(d, start.repeat_interleave(call.batch, dim=0)), options, method)


def _state(call: Call, options: Options, method: str) -> Tensor:
    if method in NOISY:
        raise ValueError("noise makes the state a mixture, which has no amplitudes; use density_matrix")
    if method == "lightcone":
        raise ValueError("method='lightcone' gives expectations and the state of some wires, not the state of all")
    return _chain(call, options).state() if method == "mps" else _amplitudes(call, options, method)


@torch.no_grad()
def drawn(call: Call, options: Options) -> Tensor:
    """(B, shots, n) bits."""
    shots, n, reading = options.shots, call.circuit.n_qubits, options.reading
    assert shots is not None
    method = _method(call, options, None, sampled=True, answer=2 * shots * n)  # while they are told apart, twice
    if method == "mps":
        bits = _chain(call, options).sample(shots, options.generator)
        return bits if reading.readout is None else reading.readout.misread(bits, range(n), options.generator)
    if method == "trajectories":
        most = at_once(n, call.batch)
        parts = [_drawn_once(call, options, min(most, shots - done)) for done in range(0, shots, most)]
        return index_bits(torch.cat(parts, dim=-1), n)

    def draw(outcome: Outcome, reading: Reading) -> Tensor:
        return sample_indices(_as_read(outcome, n, reading), shots, reading.generator)

    return index_bits(answer(Question(draw), call, options), n)


def _as_read(outcome: Outcome, n: int, reading: Reading) -> Tensor:
    """(B, 2^n) probabilities with the errors of the readout, of which shots are drawn."""
    wires = range(n)
    return replace(reading, shots=None).of(outcome.chances(wires), wires)


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
    n = call.circuit.n_qubits
    chances = _as_read(Pure(states.flatten(0, 1), n), n, options.reading)
    return sample_indices(chances, 1, options.generator).reshape(states.shape[:2])


def _amplitudes(call: Call, options: Options, method: str, keep_real: bool = False) -> Tensor:
    """(B, 2^n); real where `keep_real` and all gates are."""
    if method == "reference":
        return reference_state(call.circuit, call.weights, call.inputs, call.state)
    return evolve(call.circuit, call.weights, call.inputs, call.state, _through(options), keep_real)


def _through(options: Options) -> str:
    """How amplitudes are differentiated; shifted runs need no gradient of theirs."""
    return "auto" if options.diff_method in shift.METHODS else options.diff_method


def _chain(call: Call, options: Options) -> MPS:
    _begins_in_zero(call, "mps")
    chain = MPS.run(call.circuit, call.weights, call.inputs, max_bond=options.max_bond)
    if options.report is not None:
        options.report(chain.truncation_error)
    return chain


def _begins_in_zero(call: Call, method: str) -> None:
    if call.state is not None:
        raise ValueError(f"method={method!r} begins with every wire in 0; a state to begin with needs 'statevector'")


def _method_of(question: Question, call: Call, options: Options) -> str:
    sampled = options.shots is not None and question.observables is not None
    return _method(call, options, question, sampled=sampled, answer=question.answer)


def _method(
    call: Call,
    options: Options,
    question: Question | None,
    *,
    sampled: bool = False,
    answer: int = 0,
    columns: int = 1,
) -> str:
    """The method that "auto" stands for, or the one that was asked for.

    Args:
        call: what is run.
        options: how.
        question: what is measured; None where all amplitudes are wanted.
        sampled: outcomes are drawn, of which there need be no probabilities.
        answer: numbers of the result of a sample.
        columns: states that a sample begins with.

    Raises:
        ValueError: noise with a method that has none; a readout error of another number of wires; "adjoint" with a
            method that keeps no amplitudes.
        CircuitTooLarge: more memory would be needed than there is.
    """
    if options.reading.readout is not None:
        options.reading.readout.check_wires(call.circuit.n_qubits)
    noisy = _is_noisy(call, options)
    numbers = _samples(call) * columns * (2**call.circuit.n_qubits + answer)
    seen = None if question is None else question.measured
    looked_up = options.max_memory is not None or numbers > _FEW
    method = options.method
    if method == "auto" and not looked_up and not noisy:
        method = "statevector"
    elif method == "auto":
        run = _run(call, options, answer, columns)
        method = choose_method(run, seen, sampled=sampled)
    elif noisy and method not in (*NOISY, "lightcone"):
        ways = ", ".join(map(repr, (*NOISY, "lightcone")))
        raise ValueError(f"method={method!r} simulates no noise; use one of {ways}")
    if looked_up:
        keeps_all = method == "statevector" and options.diff_method == "backprop"
        check_memory(_run(call, options, answer, columns), "reference" if keeps_all else method, seen)
    if options.diff_method == "adjoint" and method in ("reference", *NOISY, *WIDE):
        raise ValueError(
            f"method={method!r} is differentiated through its operations: diff_method='backprop' or 'auto'"
        )
    return method


def _is_noisy(call: Call, options: Options) -> bool:
    """Whether there are channels, in the circuit or after its gates."""
    return (options.noise is not None and bool(options.noise.after)) or call.circuit.has_channels


def _size(call: Call, options: Options, question: Question) -> int:
    """The complex numbers, about, that a run of one sample holds."""
    method = _method_of(question, call, options)
    return 2**_SMALL if method in WIDE else (4 if method == "density" else 2) ** call.circuit.n_qubits


def _run(call: Call, options: Options, answer: int, columns: int) -> Run:
    return Run(
        call.circuit,
        _samples(call),
        call.weights.dtype,
        call.weights.device,
        call.needs_gradient(),
        options.max_memory,
        options.shots or options.trajectories,
        call.state is not None or columns > 1,
        columns,
        answer,
        _is_noisy(call, options),
        options.max_bond,
    )


def _samples(call: Call) -> int:
    """By how many samples it is decided how to run: by one where the batch may be of any size."""
    return 1 if torch.compiler.is_compiling() else call.batch
