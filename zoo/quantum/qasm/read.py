"""A circuit from an OpenQASM 3 program, of the part of the language that `to_openqasm3` writes."""

import ast
import math
import re
from typing import Any

import torch

from zoo.naming import did_you_mean
from zoo.quantum.angle import Angle, as_angle, feature, weight
from zoo.quantum.circuit import Circuit
from zoo.quantum.gates import GATES
from zoo.quantum.op import Op, make_op
from zoo.quantum.qasm.standard import NAMES

#: Names of stdgates.inc that we do not write.
_ALSO = {"CX": "cx", "phase": "phase", "cphase": "cphase", "u2": "u2", "u3": "u3"}
_GATES = {**{theirs: ours for ours, theirs in NAMES.items()}, **_ALSO}
_CALL = re.compile(r"(?P<name>[A-Za-z]\w*)\s*(?:\((?P<angles>.*)\))?\s+(?P<wires>[^()]+)")
_MODIFIER = re.compile(r"(ctrl|negctrl|inv)\s*@\s*")
_CONSTANTS = {"pi": math.pi, "tau": math.tau, "euler": math.e}


class _Program:
    """What has been read so far."""

    def __init__(self) -> None:
        self.circuit: Circuit | None = None
        self.register = ""
        self.inputs: dict[str, Angle] = {}
        self.measured = False


def from_openqasm3(text: str) -> Circuit:
    """The circuit of a program.

    Read are: `include "stdgates.inc"`, one register `qubit[n]`, `bit[n]` registers, `input float[64]` (x0, x1, ... are
    features, other names weights), the gates of `stdgates.inc` with angles that are affine in an input, `ctrl @`,
    `negctrl @` and `inv @` before them, and measurements at the end.

    Args:
        text: the program.

    Raises:
        ValueError: anything else, with the number of the line.
    """
    program = _Program()
    for number, statement in _statements(text):
        try:
            _take(program, statement)
        except (ValueError, TypeError) as error:
            raise ValueError(f"line {number}: {error}") from None
    if program.circuit is None:
        raise ValueError("the program has no qubits: 'qubit[n] q;' is missing")
    return program.circuit


def _statements(text: str) -> list[tuple[int, str]]:
    """Statements without comments, and the lines where they begin."""
    plain = re.sub(r"//[^\n]*", "", text)
    plain = re.sub(r"/\*.*?\*/", lambda found: "\n" * found[0].count("\n"), plain, flags=re.DOTALL)
    found, line = [], 1
    *whole, rest = plain.split(";")
    for part in whole:
        begin = line + part[: len(part) - len(part.lstrip())].count("\n")
        found.append((begin, " ".join(part.split())))
        line += part.count("\n")
    if rest.strip():
        begin = line + rest[: len(rest) - len(rest.lstrip())].count("\n")
        raise ValueError(f"line {begin}: a ';' is missing after {rest.strip()!r}")
    return [(number, statement) for number, statement in found if statement]


def _take(program: _Program, statement: str) -> None:
    if re.fullmatch(r"OPENQASM 3(\.\d+)?", statement) or statement == 'include "stdgates.inc"':
        return
    if match := re.fullmatch(r"input (?:float|angle)(?:\[\d+\])? ([A-Za-z]\w*)", statement):
        _declare(program, match[1])
    elif match := re.fullmatch(r"qubit(?:\[(\d+)\])? ([A-Za-z]\w*)", statement):
        if program.circuit is not None:
            raise ValueError(f"a second register of qubits, {match[2]!r}: one is read")
        program.circuit, program.register = Circuit(int(match[1] or 1)), match[2]
        for angle in program.inputs.values():
            if angle.source == "weight":
                program.circuit.declare(str(angle.index))
            else:  # a feature counts, whether or not a gate uses it
                program.circuit.n_inputs = max(program.circuit.n_inputs, angle.place + 1)
    elif re.fullmatch(r"bit(\[\d+\])? [A-Za-z]\w*", statement):
        return
    elif re.fullmatch(r"(\S+ = )?measure .+", statement):
        program.measured = True
    elif program.circuit is None:
        raise ValueError(f"{statement!r} before 'qubit[n] q;'")
    else:
        _gate(program, program.circuit, statement)


def _declare(program: _Program, name: str) -> None:
    if name in program.inputs:
        raise ValueError(f"the input {name!r} is declared twice")
    if program.circuit is not None:
        raise ValueError(f"the input {name!r} is declared after the qubits")
    program.inputs[name] = feature(int(name[1:])) if re.fullmatch(r"x\d+", name) else weight(name)


def _gate(program: _Program, circuit: Circuit, statement: str) -> None:
    if program.measured:
        raise ValueError(f"{statement!r} after a measurement: only measurements at the end are read")
    rest, modifiers = statement, []
    while match := _MODIFIER.match(rest):
        modifiers.append(match[1])
        rest = rest[match.end() :]
    match = _CALL.fullmatch(rest)
    if match is None:
        raise ValueError(f"cannot read {statement!r}")
    name = match["name"]
    if name not in _GATES:
        raise ValueError(f"{name!r} is no gate that is read here{did_you_mean(name, _GATES)}")
    angles = [_angle(part, program.inputs) for part in (match["angles"] or "").split(",") if part.strip()]
    wires = [_wire(part.strip(), program.register) for part in match["wires"].split(",")]
    gate = GATES[_GATES[name]]
    if len(angles) != gate.n_angles:
        raise ValueError(f"{name!r} takes {gate.n_angles} angles, got {len(angles)}")
    controls = sum(modifier != "inv" for modifier in modifiers)
    op = make_op(gate, *angles, wires[controls:])
    bits = ""
    for modifier in modifiers:
        if modifier == "inv":
            op = op.inverse()
        else:
            bits += "1" if modifier == "ctrl" else "0"
    circuit.append(_with_controls(op, tuple(wires[:controls]), bits) if bits else op)


def _with_controls(op: Op, controls: tuple[int, ...], bits: str) -> Op:
    if any(angle.source != "constant" for angle in op.angles):
        raise ValueError(f"{op.gate.name!r} with ctrl @ takes numbers as angles, no inputs")
    inner = op.unitary(torch.tensor([angle.offset for angle in op.angles], dtype=torch.float64))
    d = 2 ** (len(controls) + len(op.wires))
    matrix = torch.eye(d, dtype=torch.complex128)
    start = int(bits, 2) * len(inner)
    matrix[start : start + len(inner), start : start + len(inner)] = inner
    return make_op(GATES["unitary"], matrix, (*controls, *op.wires))


def _wire(text: str, register: str) -> int:
    match = re.fullmatch(rf"{register}(?:\[(\d+)\])?", text)
    if match is None:
        raise ValueError(f"{text!r} is no qubit of the register {register!r}")
    return int(match[1] or 0)


def _angle(text: str, inputs: dict[str, Angle]) -> Angle:
    try:
        return as_angle(_value(ast.parse(text.strip(), mode="eval").body, inputs))
    except SyntaxError:
        raise ValueError(f"cannot read the angle {text.strip()!r}") from None


def _value(node: ast.expr, inputs: dict[str, Angle]) -> Any:
    """A number, or an angle; the sums and products that stay affine in one input."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.Name(id=name) if name in inputs:
            return inputs[name]
        case ast.Name(id=name):
            raise ValueError(f"{name!r} is no input{did_you_mean(name, [*inputs, *_CONSTANTS])}")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, inputs)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, inputs)
        case ast.BinOp(left=left, op=op, right=right):
            first, second = _value(left, inputs), _value(right, inputs)
            angles = isinstance(first, Angle) + isinstance(second, Angle)
            match op:
                case ast.Add() if angles < 2:
                    return first + second
                case ast.Sub() if angles < 2:
                    return first - second
                case ast.Mult() if angles < 2:
                    return first * second
                case ast.Div() if not isinstance(second, Angle) and second:
                    return first / second
    raise ValueError(f"the angle {ast.unparse(node)!r} is no number and not affine in one input")
