"""The text of an OpenQASM 3 program as statements, and uses of gates as their parts."""

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zoo.naming import did_you_mean
from zoo.quantum.angle import Angle

_STATEMENT = re.compile(r"\s*(gate\b[^;{}]*\{[^{}]*\}|[^;{}]*;)")
_MODIFIER = re.compile(r"(ctrl|negctrl|inv)\s*@\s*")
_USE = re.compile(r"(?P<name>[^\W\d]\w*)\s*(?:\((?P<angles>.*)\))?\s*(?P<wires>[^()]*)")
_GATE = re.compile(r"gate ([^\W\d]\w*)\s*(?:\(([^()]*)\))?\s*([^()]*?)\s*\{(.*)\}")
#: A name in an expression, not the exponent of a number.
_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*")
CONSTANTS = {"pi": math.pi, "tau": math.tau, "euler": math.e, "π": math.pi, "τ": math.tau}


@dataclass(frozen=True)
class Use:
    """A gate as a statement calls it.

    Args:
        name: of the gate.
        modifiers: "ctrl", "negctrl" and "inv", in their order.
        angles: their texts.
        wires: their texts; the first ones are those of the controls.
    """

    name: str
    modifiers: tuple[str, ...]
    angles: tuple[str, ...]
    wires: tuple[str, ...]


@dataclass(frozen=True)
class Definition:
    """A gate that a program defines.

    Args:
        name: of the gate.
        angles: names of its angles.
        wires: names of its wires.
        body: what it is made of.
    """

    name: str
    angles: tuple[str, ...]
    wires: tuple[str, ...]
    body: tuple[Use, ...]


def statements(text: str) -> Iterator[tuple[int, str]]:
    """Statements without comments and their ";", and the lines where they begin."""
    plain = re.sub(r"//[^\n]*", "", text)
    plain = re.sub(r"/\*.*?\*/", lambda found: "\n" * found[0].count("\n"), plain, flags=re.DOTALL)
    position = 0
    while rest := plain[position:].strip():
        begin = len(plain) - len(plain[position:].lstrip())
        line = 1 + plain.count("\n", 0, begin)
        match = _STATEMENT.match(plain, position)
        if match is None:
            fault = "cannot read" if re.match(r"[^;]*[{}]", rest) else "a ';' is missing after"
            raise ValueError(f"line {line}: {fault} {rest.splitlines()[0]!r}")
        if statement := " ".join(match[1].removesuffix(";").split()):
            yield line, statement
        position = match.end()


def read_use(statement: str) -> Use:
    """The parts of a statement that calls a gate."""
    rest, modifiers = statement, []
    while match := _MODIFIER.match(rest):
        modifiers.append(match[1])
        rest = rest[match.end() :]
    match = _USE.fullmatch(rest)
    if match is None:
        raise ValueError(f"cannot read {statement!r}")
    return Use(match["name"], tuple(modifiers), _parts(match["angles"]), _parts(match["wires"]))


def read_definition(statement: str) -> Definition:
    """The parts of a statement `gate name(angles) wires { ... }`."""
    match = _GATE.fullmatch(statement)
    if match is None:
        raise ValueError(f"cannot read {statement!r}")
    name, angles, wires, body = match.groups()
    uses = (read_use(part.strip()) for part in body.split(";") if part.strip())
    return Definition(name, _parts(angles), _parts(wires), tuple(use for use in uses if use.name != "barrier"))


def _parts(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """The number or the `Angle` of an expression, which must stay affine in one input.

    Args:
        text: the expression.
        names: the numbers and angles that it may name, beside the constants.
    """
    used: list[str] = []

    def number_of(found: re.Match[str]) -> str:
        # Python reads some names as words of its own, and others as the same though they are not.
        used.append(found[0])
        return f"_{len(used) - 1}"

    try:
        tree = ast.parse(_NAME.sub(number_of, text), mode="eval").body
    except SyntaxError:
        raise ValueError(f"cannot read the angle {text!r}") from None
    known = CONSTANTS | dict(names)

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.Name(id=place):
                name = used[int(place[1:])]
                if name not in known:
                    raise ValueError(f"{name!r} is no input{did_you_mean(name, known)}")
                return known[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return value(operand)
            case ast.BinOp(left=left, op=op, right=right):
                first, second = value(left), value(right)
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
        raise ValueError(f"the angle {text!r} is no number and not affine in one input")

    return value(tree)
