"""A circuit from an OpenQASM 3 program: what `to_openqasm3` writes, and circuits as Qiskit writes them."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from zoo.naming import did_you_mean
from zoo.quantum.angle import Angle, as_angle, feature, weight
from zoo.quantum.circuit import Circuit
from zoo.quantum.gates import GATES
from zoo.quantum.op import Op, make_op
from zoo.quantum.qasm.standard import ALSO, NAMES
from zoo.quantum.qasm.statements import (
    Definition,
    Use,
    evaluate,
    not_read,
    read_definition,
    read_use,
    shown,
    statements,
)

_GATES = {**{theirs: ours for ours, theirs in NAMES.items()}, **ALSO}
#: The one gate of stdgates.inc that is none of ours: U with a control, whose phase is the last angle.
_CU = read_definition(
    "gate cu(a, b, c, d) q, r { p(d) q; p(b/2) q; p(c/2) q; p(c/2) r; p(-b/2) r; cx q, r; p(-b/2) r; p(-c/2) r; "
    "ry(-a/2) r; cx q, r; ry(a/2) r; p(b) r; }"
)


class _Program:
    """What has been read so far."""

    def __init__(self) -> None:
        self.circuit: Circuit | None = None
        self.register = ""
        self.inputs: dict[str, Angle] = {}
        self.definitions: dict[str, Definition] = {_CU.name: _CU}
        self.measured = False


def from_openqasm3(text: str) -> Circuit:
    """The circuit of a program, up to its global phase.

    Read are: `include "stdgates.inc"`, one register `qubit[n]`, `bit[n]` registers, `input float[64]` (x0, x1, ... are
    features, other names weights), the gates of `stdgates.inc` and `gphase` with angles that are affine in an input,
    gates that the program defines of those, `ctrl @`, `negctrl @` and `inv @` before them, `barrier` (without effect),
    and measurements at the end. That is also what Qiskit's `qasm3.dumps` writes of a circuit on one register that is
    measured at its end.

    Args:
        text: the program.

    Raises:
        ValueError: anything else, with the number of the line.
        TypeError: no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"a program is text, got {text!r}")
    program = _Program()
    for number, statement in statements(text):
        try:
            _take(program, statement)
        except (ValueError, TypeError) as error:
            raise ValueError(f"line {number}: {error}") from None
    if program.circuit is None:
        raise ValueError("the program has no qubits: 'qubit[n] q;' is missing")
    return program.circuit


def _take(program: _Program, statement: str) -> None:
    if re.fullmatch(r'OPENQASM 3(\.\d+)?|include "stdgates.inc"|bit(\[\d+\])? [^\W\d]\w*|barrier\b.*', statement):
        return
    if match := re.fullmatch(r"input (?:float|angle)(?:\[\d+\])? ([^\W\d]\w*)", statement):
        _declare(program, match[1])
    elif statement.startswith("gate "):
        _define(program, read_definition(statement))
    elif match := re.fullmatch(r"qubit(?:\[(\d+)\])? ([^\W\d]\w*)", statement):
        if program.circuit is not None:
            raise ValueError(f"a second register of qubits, {match[2]!r}: one is read")
        program.circuit, program.register = Circuit(int(match[1] or 1)), match[2]
        for angle in program.inputs.values():
            if angle.source == "weight":
                program.circuit.declare(str(angle.index))
            else:  # a feature counts, whether or not a gate uses it
                program.circuit.n_inputs = max(program.circuit.n_inputs, angle.place + 1)
    elif re.fullmatch(r"(\S+ = )?measure .+", statement):
        program.measured = True
    elif program.circuit is None:
        raise ValueError(not_read(statement) or f"{shown(statement)} before 'qubit[n] q;'")
    else:
        _use(program, program.circuit, statement)


def _declare(program: _Program, name: str) -> None:
    if name in program.inputs:
        raise ValueError(f"the input {name!r} is declared twice")
    if program.circuit is not None:
        raise ValueError(f"the input {name!r} is declared after the qubits")
    program.inputs[name] = feature(int(name[1:])) if re.fullmatch(r"x\d+", name) else weight(name)


def _define(program: _Program, definition: Definition) -> None:
    """Gates are made of earlier ones, so that none is made of itself."""
    if definition.name in (*_GATES, *program.definitions):
        raise ValueError(f"the gate {definition.name!r} is there already")
    for use in definition.body:
        _check_known(use.name, program.definitions)
    program.definitions[definition.name] = definition


def _check_known(name: str, definitions: Mapping[str, Definition]) -> None:
    known = ("gphase", *_GATES, *definitions)
    if name not in known:
        raise ValueError(not_read(name) or f"{name!r} is no gate that is read here{did_you_mean(name, known)}")


def _use(program: _Program, circuit: Circuit, statement: str) -> None:
    if program.measured:
        raise ValueError(f"{shown(statement)} after a measurement: only measurements at the end are read")
    use = read_use(statement)
    _check_known(use.name, program.definitions)
    # A gate of one wire on the whole register acts on every wire.
    everywhere = use.wires == (program.register,)
    for each in range(circuit.n_qubits) if everywhere else [0]:

        def wire(text: str, each: int = each) -> int:
            return each if everywhere else _wire(text, program.register, circuit.n_qubits)

        for op in _ops(use, program.inputs, wire, program.definitions):
            if op.wires:  # a phase of all is none
                circuit.append(op)


def _ops(
    use: Use, names: Mapping[str, Any], wire: Callable[[str], int], definitions: Mapping[str, Definition]
) -> list[Op]:
    """The gates that a use stands for; `gphase` is a phase on no wires.

    Args:
        use: what is called.
        names: numbers and angles by the names in its angles.
        wire: the number of a wire by its text.
        definitions: gates that are not in `_GATES`.
    """
    bits = "".join("1" if modifier == "ctrl" else "0" for modifier in use.modifiers if modifier != "inv")
    definition = definitions.get(use.name)
    n_angles = 1 if use.name == "gphase" else len(definition.angles) if definition else GATES[_GATES[use.name]].n_angles
    if len(use.angles) != n_angles:
        raise ValueError(f"{use.name!r} takes {n_angles} angles, got {len(use.angles)}")
    angles = [evaluate(text, names) for text in use.angles]
    places = tuple(wire(text) for text in use.wires)
    controls, wires = places[: len(bits)], places[len(bits) :]
    if use.name == "gphase":
        if wires:
            raise ValueError(f"'gphase' acts on no wires, got {len(wires)}")
        found = [Op(GATES["phase"], (), (as_angle(angles[0]),))]
    elif definition is None:
        found = [make_op(GATES[_GATES[use.name]], *angles, wires)]
    else:
        if len(wires) != len(definition.wires):
            raise ValueError(f"{use.name!r} acts on {len(definition.wires)} wires, got {len(wires)}")
        inside = dict(zip(definition.angles, angles, strict=True))
        numbers = dict(zip(definition.wires, wires, strict=True))

        def inner_wire(text: str) -> int:
            if text not in numbers:
                raise ValueError(f"{text!r} is no wire of the gate {definition.name!r}")
            return numbers[text]

        found = [op for part in definition.body for op in _ops(part, inside, inner_wire, definitions)]
    if use.modifiers.count("inv") % 2:
        found = [op.inverse() for op in reversed(found)]
    return [_with_controls(op, controls, bits) for op in found] if bits else found


def _with_controls(op: Op, controls: tuple[int, ...], bits: str) -> Op:
    if any(angle.source != "constant" for angle in op.angles):
        raise ValueError(f"{op.gate.name!r} with ctrl @ takes numbers as angles, no inputs")
    inner = op.unitary(torch.tensor([angle.offset for angle in op.angles], dtype=torch.float64, device="cpu"))
    if not op.wires:
        inner = inner[1:, 1:]
    d = 2 ** (len(controls) + len(op.wires))
    matrix = torch.eye(d, dtype=torch.complex128, device="cpu")
    start = int(bits, 2) * len(inner)
    matrix[start : start + len(inner), start : start + len(inner)] = inner
    return make_op(GATES["unitary"], matrix, (*controls, *op.wires))


def _wire(text: str, register: str, n_qubits: int) -> int:
    match = re.fullmatch(rf"{register}(?:\[(\d+)\])?", text)
    if match is None or (match[1] is None and n_qubits > 1):
        raise ValueError(f"{text!r} is no qubit of the register {register!r}")
    return int(match[1] or 0)
