"""An angle of a gate: a number, or a trainable weight or a feature of the input, scaled and shifted."""

import math
import re
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, SupportsIndex

from torch import Tensor

from zoo.quantum.integers import whole

Number = float | int
SOURCES = ("constant", "weight", "input")
#: Letters of any script, digits and underscores, as in Python and OpenQASM.
NAME = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Angle:
    """scale * vector[index] + offset, in radians; a constant is its offset alone.

    Args:
        source: "constant", "weight" or "input": the vector it reads.
        index: the place in that vector; a name stands for a weight until the angle is put into a circuit.
        scale: the factor.
        offset: what is added.

    Raises:
        TypeError: an index that is no integer and no name; a factor or a sum that is no number.
        ValueError: an index below 0, a name that is no identifier, a name of a feature, numbers that are not finite.
    """

    source: str = "constant"
    index: SupportsIndex | str = 0
    scale: Number = 1.0
    offset: Number = 0.0

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"an angle comes from one of {', '.join(map(repr, SOURCES))}, got {self.source!r}")
        object.__setattr__(self, "index", _index(self.source, self.index))
        if not (math.isfinite(self.scale) and math.isfinite(self.offset)):
            raise ValueError(f"an angle is finite, got {self.scale} * {self.source} + {self.offset}")
        object.__setattr__(self, "offset", float(self.offset))
        object.__setattr__(self, "scale", float(self.scale))
        if self.source == "constant":  # one way to write a number: equal circuits have equal keys
            object.__setattr__(self, "index", 0)
            object.__setattr__(self, "scale", 1.0)

    @property
    def place(self) -> int:
        """The index as a number: of angles in a circuit, whose names have been resolved."""
        assert isinstance(self.index, int)
        return self.index

    def __mul__(self, factor: Number) -> "Angle":
        factor = _affine(factor, "multiplied by")
        return replace(self, scale=self.scale * factor, offset=self.offset * factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Number) -> "Angle":
        return self * (1 / _affine(divisor, "divided by"))

    def __add__(self, other: Number) -> "Angle":
        return replace(self, offset=self.offset + _affine(other, "added to"))

    __radd__ = __add__

    def __sub__(self, other: Number) -> "Angle":
        return self + -_affine(other, "added to")

    def __rsub__(self, other: Number) -> "Angle":
        return -self + other

    def __neg__(self) -> "Angle":
        return self * -1.0


def _index(source: str, index: Any) -> int | str:
    if isinstance(index, str):
        if source == "input":
            raise ValueError(f"only weights have names: {index!r} is no number of a feature")
        if not NAME.fullmatch(index):
            raise ValueError(
                f"the name of a weight is made of letters, digits and underscores, got {index!r}; "
                'numbers go around it: 2 * weight("a") + 0.5'
            )
        return index
    number = whole(index)
    if number is None:
        what = "a feature has a number" if source == "input" else "a weight has a number or a name"
        raise TypeError(f"{what}, got {index!r}")
    if number < 0:
        raise ValueError(f"the index of an angle is 0 or more, got {number}")
    return number


def _affine(value: Any, done: str) -> float:
    """The number that an angle is scaled or shifted by."""
    number = as_number(value)
    if number is None:
        raise TypeError(
            f"an angle is one weight or feature, {done} numbers; got {value!r}. Products and sums of several are made "
            "of the values that are given to the circuit: w = torch.stack([a + b, a * b])"
        )
    return number


def as_number(value: Any) -> float | None:
    """The real number that `value` is, or a tensor of one holds; else None."""
    single = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
    return float(value) if single or isinstance(value, Real) else None


def weight(index: SupportsIndex | str) -> Angle:
    """The trainable weight of that index, or of that name: `2 * weight("a") + 0.5`.

    A name is made of letters of any script, digits and underscores.
    """
    return Angle("weight", index)


def feature(index: SupportsIndex) -> Angle:
    """The feature of that index of each sample's input."""
    return Angle("input", index)


def as_angle(value: Any) -> Angle:
    """An `Angle` from a number, a name of a weight, or an `Angle`.

    Raises:
        TypeError: for anything else, and for a tensor that wants a gradient (it would get none).
    """
    if isinstance(value, Angle):
        return value
    if isinstance(value, str):
        return weight(value)
    if isinstance(value, Tensor) and value.requires_grad:
        raise TypeError("a tensor in a circuit is a constant and gets no gradient; make the angle a weight: weight(0)")
    number = as_number(value)
    if number is not None:
        return Angle(offset=number)
    raise TypeError(
        f"an angle is a number, a name of a weight, weight(i) or feature(i), got {type(value).__name__} {value!r}"
    )
