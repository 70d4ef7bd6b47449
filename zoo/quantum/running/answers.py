"""From a checked call to an answer: which simulation runs, what it is asked, how the answer is differentiated."""

from collections.abc import Callable

import torch
from torch import Tensor

from zoo.eager import no_autocast
from zoo.quantum.noise.density import density_matrix
from zoo.quantum.noise.trajectories import trajectory_means, trajectory_states
from zoo.quantum.reference import reference_state
from zoo.quantum.running import shift
from zoo.quantum.running.call import Call
from zoo.quantum.running.options import Options
from zoo.quantum.running.outcomes import Mixed, Outcome, Pure
from zoo.quantum.shots import as_read, sample_indices

#: The widest circuit whose density matrix "auto" takes.
_DENSITY_WIRES = 10
Ask = Callable[[Outcome, int | None], Tensor]


def differentiated(ask: Ask, call: Call, options: Options) -> Tensor:
    """The answer of every sample, with gradients as asked for."""
    diff_method = options.diff_method
    if diff_method == "auto" and options.shots is not None:
        diff_method = "parameter_shift"

    def measure(call: Call) -> Tensor:
        return asked(ask, call, options)

    with no_autocast(call.weights):
        if diff_method in shift.METHODS:
            return call.finish(shift.shifted(measure, call, diff_method, options.generator, options.directions))
        return call.finish(measure(call))


def asked(ask: Ask, call: Call, options: Options) -> Tensor:
    """Simulate and ask: `ask` gets an outcome and the runs of each of its states."""
    method, n = _method(call, options), call.circuit.n_qubits
    given = (call.circuit, call.weights, call.inputs)
    if method == "density":
        return ask(Mixed(density_matrix(*given, call.state, noise=options.noise), n), options.shots)
    if method == "trajectories":
        # With shots every run has noise of its own.
        return trajectory_means(
            *given,
            lambda states: ask(Pure(states, n), None if options.shots is None else 1),
            call.state,
            noise=options.noise,
            trajectories=options.shots or options.trajectories,
            generator=options.generator,
        )
    return ask(Pure(final_state(call, options), n), options.shots)


def read(outcome: Outcome, options: Options, shots: int | None) -> Callable[[dict[int, str]], Tensor]:
    """The probabilities in a basis as they are read: with errors, from a number of shots."""
    readout = None if options.noise is None else options.noise.readout
    return as_read(outcome.chances_in, outcome.n, shots=shots, readout=readout, generator=options.generator)


@torch.no_grad()
def drawn(call: Call, options: Options) -> Tensor:
    """(B, shots) basis states."""
    shots = options.shots
    assert shots is not None
    if _method(call, options) != "trajectories":
        return asked(
            lambda outcome, _: sample_indices(read(outcome, options, None)({}), shots, options.generator), call, options
        )
    states = trajectory_states(
        call.circuit,
        call.weights,
        call.inputs,
        call.state,
        noise=options.noise,
        trajectories=shots,
        generator=options.generator,
    )
    chances = read(Pure(states.flatten(0, 1), call.circuit.n_qubits), options, None)({})
    return sample_indices(chances, 1, options.generator).reshape(states.shape[:2])


def _method(call: Call, options: Options) -> str:
    """The method that "auto" stands for, or the one that was asked for."""
    noisy = (options.noise is not None and bool(options.noise.after)) or any(
        op.gate.name == "channel" for op in call.circuit
    )
    method = options.method
    if method == "auto":
        method = "reference" if not noisy else "density" if call.circuit.n_qubits <= _DENSITY_WIRES else "trajectories"
    if noisy and method not in ("density", "trajectories"):
        raise ValueError(f"method={method!r} simulates no noise; use 'density' or 'trajectories'")
    return method


def final_state(call: Call, options: Options) -> Tensor:
    """(B, 2^n) or (1, 2^n) amplitudes."""
    if _method(call, options) in ("density", "trajectories"):
        raise ValueError("noise makes the state a mixture, which has no amplitudes; use density_matrix")
    return reference_state(call.circuit, call.weights, call.inputs, call.state)
