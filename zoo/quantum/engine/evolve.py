"""The state of a circuit: which way it is computed."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from zoo import eager
from zoo.naming import did_you_mean
from zoo.quantum.circuit import Circuit
from zoo.quantum.engine.compiler import compile_circuit
from zoo.quantum.engine.program import Kind, Program
from zoo.quantum.engine.sweep import composed, run, swept
from zoo.quantum.engine.whole import SMALL
from zoo.quantum.gates import complex_type
from zoo.quantum.kept import Kept
from zoo.quantum.reference import reference_state

METHODS = ("auto", "adjoint", "backprop")
#: From this many samples on, a state's rows run along the batch.
_TAIL = 16
#: Up to so many steps autograd keeps less than the adjoint pass computes.
_FEW = 1
#: Compiled circuits.
_PROGRAMS = Kept(256)


def evolve(
    circuit: Circuit,
    weights: Tensor,
    inputs: Tensor | None = None,
    state: Tensor | None = None,
    diff_method: str = "auto",
    keep_real: bool = False,
) -> Tensor:
    """(B, 2^n) amplitudes after the circuit; B = 1 where nothing has a batch.

    The circuit is compiled at the first call; the program is kept by the circuit's structure. Results may be views
    whose memory runs along the batch.

    Args:
        circuit: gates, post-selections; no channels.
        weights: (W,), or (B, W) of each sample; float32 or float64.
        inputs: (I,) or (B, I), of the same type.
        state: (B, 2^n) or (1, 2^n) complex to begin with; every wire in 0 by default.
        diff_method: "adjoint" recomputes the states in the backward pass by undoing the gates, and keeps one state;
            "backprop" keeps them all; "auto" is adjoint where it can be: not with post-selections (which nothing
            undoes), nor under compilation, export and `torch.func` transforms.
        keep_real: give real amplitudes as a real tensor, where all gates are real.

    Raises:
        ValueError: an unknown `diff_method`; a channel in the circuit.
    """
    if diff_method not in METHODS:
        hint = did_you_mean(str(diff_method), METHODS)
        raise ValueError(f"diff_method is one of {', '.join(map(repr, METHODS))}, got {diff_method!r}{hint}")
    inputs = weights.new_zeros(0) if inputs is None else inputs
    if not circuit.unitary_only:
        return reference_state(circuit, weights, inputs, state)
    compose = diff_method == "backprop" or eager.must_compose(weights, inputs, *([] if state is None else [state]))
    batch = _batch(weights, inputs, state, compose)
    if batch == 0:
        return _nothing(circuit.n_qubits, weights, inputs, state)
    if not compose:
        weights, inputs = (part[0] if part.dim() > 1 and len(part) == 1 else part for part in (weights, inputs))
    # Composed operations are recorded once for batches of any size.
    first_axis = not compose and (batch < _TAIL or circuit.n_qubits <= SMALL)
    kind = (weights.dim() > 1, inputs.dim() > 1, first_axis, state is not None)
    program: Program = getattr(_PROGRAMS, compiled(circuit, kind, weights.device, weights.dtype))
    lead = program.lead
    vectors = program.vectors(weights, inputs, batch)
    if state is None:
        first = program.first(vectors, batch, compose)
    else:
        first = (state.unsqueeze(2) if lead else state.t().unsqueeze(0)).contiguous()
    if program.spreads:
        first = first.expand(*((batch, -1, -1) if lead else (-1, -1, batch))).contiguous()
    # A product of several wires is a tensor of its own, that of one may be part of a table.
    spent = state is None and circuit.n_qubits > 1
    variables = program.variables(vectors, compose)
    if compose or len(program.steps) <= _FEW:
        final = composed(program.steps, first, program.constants | variables)
    elif torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (first, *variables.values())):
        final = swept(program.steps, first, variables, program.constants, spent)
    else:
        with torch.no_grad():
            final = run(program.steps, first, program.constants | variables, spent)
    final = (final.squeeze(2) if lead else final.squeeze(0).t()).expand(batch, -1)
    return final if keep_real or final.is_complex() else torch.complex(final, torch.zeros_like(final))


def compiled(circuit: Circuit, kind: tuple[bool, bool, bool, bool], device: torch.device, real: torch.dtype) -> str:
    """Compile the circuit unless an equal one was; the name of its program."""

    def make() -> Program:
        # What is kept must serve later calls too, in whatever mode or transform this one happens.
        with torch._C._DisableFuncTorch(), _disable_current_modes(), torch.inference_mode(False), torch.no_grad():
            return compile_circuit(circuit, Kind(*kind)).moved(device, real)

    return _PROGRAMS.name((circuit.key, kind, device, real), make)


# What `torch.compiler.assume_constant_result` sets; the function itself would import the whole compiler.
compiled._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def _batch(weights: Tensor, inputs: Tensor, state: Tensor | None, compose: bool) -> int:
    """The batch that those of all parts broadcast to."""
    parts = (weights, inputs) if state is None else (weights, inputs, state)
    if compose:
        return torch.broadcast_shapes(*(part.shape[:-1] for part in parts), (1,))[0]
    return next((part.shape[0] for part in parts if part.dim() > 1 and part.shape[0] != 1), 1)


def _nothing(n: int, weights: Tensor, inputs: Tensor, state: Tensor | None) -> Tensor:
    """The states of no samples, with a gradient of zeros."""
    anchor = weights.sum() + inputs.sum()
    empty = anchor * weights.new_zeros(0, 2**n) + (0 if state is None else state[:0])
    return empty.to(complex_type(weights.dtype))
