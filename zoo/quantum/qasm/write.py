"""A circuit as an OpenQASM 3 program."""

import re
from typing import Any

import torch
from torch import Tensor

from zoo.quantum.angle import Angle
from zoo.quantum.circuit import Circuit
from zoo.quantum.expectation import plan
from zoo.quantum.observables import PauliSum, parse_observables
from zoo.quantum.qasm.decompose import Controlled
from zoo.quantum.qasm.standard import NAMES, standard, to_z
from zoo.quantum.running.call import prepare

PARAMS = ("literal", "input")
#: How features are named in a program, and weights may not be.
_FEATURE = re.compile(r"x\d+")
_IDENTIFIER = re.compile(r"[A-Za-z]\w*")
_TAKEN = {"q", "c", "pi", "tau", "euler", "input", "output", "gate", "qubit", "bit", "float", "measure", "ctrl", "inv"}


def to_openqasm3(
    circuit: Any,
    x: Tensor | Any = None,
    *,
    weights: Any = None,
    params: str = "literal",
    measure: bool = True,
    observables: Any = None,
) -> str:
    """The text of an OpenQASM 3 program in the gates of `stdgates.inc`; equal to the circuit up to a global phase.

    Wire i is `q[i]`, measured into `c[i]`. Dense matrices become rotations with controls (`ctrl @`, `negctrl @`).

    Args:
        circuit: a `Circuit`, or a module that has one (`as_circuit(x)`), such as a `QuantumLayer`.
        x: the features of one sample, (features,); None where the circuit has none, or with params="input".
        weights: of a `Circuit`: (W,) numbers, or by name.
        params: "literal" writes the values of weights and features; "input" declares `input float[64]` for each by
            the names of the weights and x0, x1, ... for the features.
        measure: measure all wires at the end.
        observables: change every wire to the basis in which these are read before they are measured (X: h; Y: sdg,
            h); of a module, those that it reads, if None.

    Raises:
        ValueError: an unknown `params`; values that are missing; more than one sample; observables that no single
            measurement gives; post-selections and channels.
    """
    if params not in PARAMS:
        raise ValueError(f"params is one of {', '.join(map(repr, PARAMS))}, got {params!r}")
    if not isinstance(circuit, Circuit):
        circuit, weights, x, own = circuit.as_circuit(x)
        observables = own if observables is None else observables
    if params == "literal":
        call = prepare(circuit, weights, x, None, torch.float64)
        if call.lead:
            raise ValueError(f"a program is of one sample; got weights or features with leading dimensions {call.lead}")
        values = {"weight": call.weights.tolist(), "input": call.inputs.tolist()}
        names = None
    else:
        values, names = {}, parameter_names(circuit)

    def text(angle: Angle) -> str:
        if angle.source == "constant":
            return repr(angle.offset)
        if names is None:
            return repr(angle.scale * values[angle.source][angle.place] + angle.offset)
        return _affine(angle, names[angle.source][angle.place])

    lines = ["OPENQASM 3.0;", 'include "stdgates.inc";']
    if names is not None:
        lines += [f"input float[64] {name};" for name in (*names["weight"], *names["input"])]
    lines += [f"qubit[{circuit.n_qubits}] q;"] + ([f"bit[{circuit.n_qubits}] c;"] if measure else [])
    lines += [_statement(part, text) for part in standard(circuit)]
    if measure:
        if observables is not None:
            lines += [_statement(Controlled(op), text) for op in to_z(_basis(observables, circuit.n_qubits))]
        lines.append("c = measure q;")
    return "\n".join(lines) + "\n"


def parameter_names(circuit: Circuit) -> dict[str, list[str]]:
    """The names of weights and features in a program; those that OpenQASM could not take are changed."""
    weights: list[str] = []
    for place, name in enumerate(circuit.weight_names):
        clean = re.sub(r"\W", "_", name)
        if not _IDENTIFIER.fullmatch(clean) or not clean.isascii():
            clean = f"w{place}"
        if _FEATURE.fullmatch(clean) or clean in _TAKEN or clean in NAMES.values() or clean in weights:
            clean = f"{clean}_{place}"
        weights.append(clean)
    return {"weight": weights, "input": [f"x{i}" for i in range(circuit.n_inputs)]}


def _affine(angle: Angle, name: str) -> str:
    text = name if angle.scale == 1 else f"{angle.scale!r}*{name}"
    if angle.offset:
        text += f" {'-' if angle.offset < 0 else '+'} {abs(angle.offset)!r}"
    return text


def _statement(part: Controlled, text: Any) -> str:
    modifiers = "".join("ctrl @ " if bit == "1" else "negctrl @ " for bit in part.bits)
    angles = ", ".join(text(angle) for angle in part.op.angles)
    wires = ", ".join(f"q[{wire}]" for wire in (*part.controls, *part.op.wires))
    return f"{modifiers}{NAMES[part.op.gate.name]}{f'({angles})' if angles else ''} {wires};"


def _basis(observables: Any, n: int) -> dict[int, str]:
    parsed = parse_observables(observables, n)
    for observable in parsed:
        if not isinstance(observable, PauliSum):
            raise ValueError(f"{observable} is no sum of Pauli words: measure bits instead (observables=None)")
    groups = plan(parsed).groups
    if len(groups) > 1:
        raise ValueError(
            f"these observables take {len(groups)} programs, as their letters differ on a wire: "
            + "; ".join(" ".join(f"{letter.upper()}{wire}" for wire, letter in sorted(g.basis)) for g in groups)
        )
    return dict(groups[0].basis) if groups else {}
