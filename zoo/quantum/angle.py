"""An angle of a gate: a number, or a trainable weight or a feature of the input, scaled and shifted."""

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from torch import Tensor

Number = float | int
SOURCES = ("constant", "weight", "input")


@dataclass(frozen=True)
class Angle:
    """scale * vector[index] + offset, in radians; a constant is its offset alone.

    Args:
        source: "constant", "weight" or "input": the vector it reads.
        index: the place in that vector; a name stands for a weight until the angle is put into a circuit.
        scale: the factor.
        offset: what is added.
    """

    source: str = "constant"
    index: int | str = 0
    scale: Number = 1.0
    offset: Number = 0.0

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"an angle comes from one of {', '.join(map(repr, SOURCES))}, got {self.source!r}")
        if isinstance(self.index, int) and self.index < 0:
            raise ValueError(f"the index of an angle is 0 or more, got {self.index}")
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
        return replace(self, scale=self.scale * factor, offset=self.offset * factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Number) -> "Angle":
        return self * (1 / divisor)

    def __add__(self, other: Number) -> "Angle":
        return replace(self, offset=self.offset + other)

    __radd__ = __add__

    def __sub__(self, other: Number) -> "Angle":
        return self + -other

    def __rsub__(self, other: Number) -> "Angle":
        return -self + other

    def __neg__(self) -> "Angle":
        return self * -1.0


def weight(index: int | str) -> Angle:
    """The trainable weight of that index, or of that name: `2 * weight("a") + 0.5`."""
    return Angle("weight", index)


def feature(index: int) -> Angle:
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
    if isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()):
        return Angle(offset=float(value))
    raise TypeError(
        f"an angle is a number, a name of a weight, weight(i) or feature(i), got {type(value).__name__} {value!r}"
    )
