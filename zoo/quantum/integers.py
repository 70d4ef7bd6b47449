"""Integers as users give them: numbers of Python or numpy, or tensors of one; and the wires that they name."""

import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

#: One wire, or several.
Wires = SupportsIndex | Iterable[Any]


def whole(value: Any) -> int | None:
    """The integer that `value` is, or None; True and False are none."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else int(value)
    if not isinstance(value, SupportsIndex) or getattr(value, "ndim", 0):
        return None
    try:
        return operator.index(value)
    except TypeError:  # an array or a tensor of something else
        return None


def integer(name: str, value: Any, least: int = 1) -> int:
    """The integer, which must be large enough.

    Raises:
        TypeError: no integer.
        ValueError: a smaller one.
    """
    number = whole(value)
    if number is None or number < least:
        kind = TypeError if number is None else ValueError
        raise kind(f"{name} must be an integer of at least {least}, got {value!r}")
    return number


def as_wires(wires: Wires) -> tuple[int, ...]:
    """The numbers of wires, of one wire or a sequence of them.

    Raises:
        TypeError: with what is no number of a wire.
    """
    if isinstance(wires, Iterable) and not isinstance(wires, str) and getattr(wires, "ndim", 1):
        return tuple(_wire(wire) for wire in wires)
    return (_wire(wires),)


def _wire(value: Any) -> int:
    number = whole(value)
    if number is None:
        raise TypeError(f"{value!r} is no number of a wire")
    return number
