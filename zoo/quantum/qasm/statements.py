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
#: Words that begin a statement of the language which no circuit of gates has.
_NOT_READ = re.compile(
    "(if|else|for|while|switch|def|extern|defcal|cal|box|reset|delay|let|const|return|break|continue|end|output|array|"
    r"bool|int|uint|float|angle|complex|duration|stretch|pragma|defcalgrammar|qreg|creg|pow)\b"
)
#: Characters of a text that messages show.
_MOST_SHOWN = 80
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
            first = rest.splitlines()[0]
            raise ValueError(f"line {line}: {not_read(first) or f'{fault} {shown(first)}'}")
        if statement := " ".join(match[1].removesuffix(";").split()):
            yield line, statement
        position = match.end()


def not_read(statement: str) -> str:
    """What to say of a statement of the language that is none of a circuit; nothing of others."""
    match = _NOT_READ.match(statement)
    return f"{match[1]!r} is not read: a circuit is gates, and measurements at its end" if match else ""


def shown(text: str) -> str:
    """The text for a message, its beginning alone if it is long."""
    if len(text) <= _MOST_SHOWN:
        return repr(text)
    return f"{text[:_MOST_SHOWN]!r}… ({len(text)} characters)"


def read_use(statement: str) -> Use:
    """The parts of a statement that calls a gate."""
    rest, modifiers = statement, []
    while match := _MODIFIER.match(rest):
        modifiers.append(match[1])
        rest = rest[match.end() :]
    match = _USE.fullmatch(rest)
    if match is None:
        raise ValueError(f"cannot read {shown(statement)}")
    return Use(match["name"], tuple(modifiers), _parts(match["angles"]), _parts(match["wires"]))


def read_definition(statement: str) -> Definition:
    """The parts of a statement `gate name(angles) wires { ... }`."""
    match = _GATE.fullmatch(statement)
    if match is None:
        raise ValueError(f"cannot read {shown(statement)}")
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
    except (SyntaxError, MemoryError, RecursionError):  # the parser's own limits are the last two
        raise ValueError(f"cannot read the angle {shown(text)}") from None
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
        raise ValueError(f"the angle {shown(text)} is no number and not affine in one input")

    try:
        return value(tree)
    except RecursionError:
        raise ValueError(f"the angle {shown(text)} has too many terms") from None
