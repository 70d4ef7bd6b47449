"""A circuit as an OpenQASM 3 program."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from zoo.quantum.angle import Angle
from zoo.quantum.circuit import Circuit
from zoo.quantum.expectation import plan
from zoo.quantum.observables import PauliSum, parse_observables
from zoo.quantum.qasm.decompose import Controlled
from zoo.quantum.qasm.standard import GATE_NAMES, NAMES, standard, to_z
from zoo.quantum.running.call import prepare

PARAMS = ("literal", "input")
#: How features are named in a program, and weights may not be.
_FEATURE = re.compile(r"x\d+")
#: Words of the language, which are no names in a program.
_WORDS = re.compile(
    "OPENQASM|include|pragma|defcalgrammar|def|cal|defcal|gate|extern|let|const|readonly|mutable|input|output|box|return|"
    "if|else|end|for|while|in|break|continue|switch|case|default|nop|qreg|creg|qubit|bit|bool|int|uint|float|angle|"
    "complex|array|void|duration|stretch|durationof|sizeof|delay|reset|measure|barrier|gphase|inv|pow|ctrl|negctrl|"
    "true|false|im|pi|tau|euler|π|τ|ℇ|sin|cos|tan|arcsin|arccos|arctan|exp|log|sqrt|ceiling|floor|mod|popcount|rotl|"
    "rotr|real|imag"
)


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

    Wire i is `q[i]`, measured into `c[i]`; the registers have other names where a weight is called q or c. Dense
    matrices become rotations with controls (`ctrl @`, `negctrl @`).

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
        TypeError: no circuit.
        ValueError: an unknown `params`; values that are missing; more than one sample; observables that no single
            measurement gives; post-selections and channels.
    """
    if params not in PARAMS:
        raise ValueError(f"params is one of {', '.join(map(repr, PARAMS))}, got {params!r}")
    if not isinstance(circuit, Circuit):
        if not hasattr(circuit, "as_circuit"):
            raise TypeError(f"what is written is a Circuit, or a module such as QuantumLayer, got {_named(circuit)}")
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

    given = [] if names is None else [*names["weight"], *names["input"]]
    qubits, bits = _free("q", given), _free("c", given)
    lines = ["OPENQASM 3.0;", 'include "stdgates.inc";', *(f"input float[64] {name};" for name in given)]
    lines += [f"qubit[{circuit.n_qubits}] {qubits};"] + ([f"bit[{circuit.n_qubits}] {bits};"] if measure else [])
    lines += [_statement(part, text, qubits) for part in standard(circuit)]
    if measure:
        if observables is not None:
            basis = to_z(_basis(observables, circuit.n_qubits))
            lines += [_statement(Controlled(op), text, qubits) for op in basis]
        lines.append(f"{bits} = measure {qubits};")
    return "\n".join(lines) + "\n"


def _named(given: Any) -> str:
    """What was given; of a module its class, and which of its parts could be written."""
    if not isinstance(given, nn.Module):
        return repr(given)
    names = [repr(name) for name, part in given.named_modules() if hasattr(part, "as_circuit")]
    parts = f"; write its part {' or '.join(names)}, with the features that this part is given" if names else ""
    return type(given).__name__ + parts


def _free(name: str, taken: list[str]) -> str:
    while name in taken:
        name += "_"
    return name


def parameter_names(circuit: Circuit) -> dict[str, list[str]]:
    """The names of weights and features in a program; those that mean something else in one end in their number."""
    weights: list[str] = []
    for place, name in enumerate(circuit.weight_names):
        changed = _FEATURE.fullmatch(name) or _WORDS.fullmatch(name) or name in GATE_NAMES or name in weights
        weights.append(f"{name}_{place}" if changed else name)
    return {"weight": weights, "input": [f"x{i}" for i in range(circuit.n_inputs)]}


def _affine(angle: Angle, name: str) -> str:
    text = name if angle.scale == 1 else f"{angle.scale!r}*{name}"
    if angle.offset:
        text += f" {'-' if angle.offset < 0 else '+'} {abs(angle.offset)!r}"
    return text


def _statement(part: Controlled, text: Any, register: str) -> str:
    modifiers = "".join("ctrl @ " if bit == "1" else "negctrl @ " for bit in part.bits)
    angles = ", ".join(text(angle) for angle in part.op.angles)
    wires = ", ".join(f"{register}[{wire}]" for wire in (*part.controls, *part.op.wires))
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
