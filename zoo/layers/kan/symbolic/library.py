"""The functions that a curve may turn out to be."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.layers.kan.options import check_choice

#: What of a and b in c f(a x + b) + d is left to search once c and d are known: nothing ("none"); -b / a, as f(t x) is
#: a multiple of f(x) or differs by a number ("shift"), for each sign of a ("signed shift"); a, as f(x + t) is a
#: multiple of f(x) ("rate"); both ("both").
Search = Literal["none", "shift", "signed shift", "rate", "both"]


@dataclass(frozen=True)
class SymbolicFunction:
    """A function of one number that a formula can be made of.

    Args:
        name: how it is asked for and written.
        function: on tensors; NaN or infinite where it is not defined.
        complexity: how simple a formula with it is, from 0 (no dependence at all) to 5.
        search: which of its two inner parameters matter.
        expression: the same in sympy, made from its module and an argument.
        period: of the function, if it has one.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    complexity: int
    search: Search
    expression: Callable[[Any, Any], Any]
    period: float | None = None

    def __reduce__(self) -> Any:
        """Functions of the library are pickled and copied by name: pickle knows no lambdas."""
        if FUNCTIONS.get(self.name) is self:
            return _named, (self.name,)
        return super().__reduce__()


def _power(exponent: int, complexity: int) -> SymbolicFunction:
    name = f"x^{exponent}" if exponent > 0 else f"1/x^{-exponent}" if exponent < -1 else "1/x"
    return SymbolicFunction(name, lambda z: z**exponent, complexity, "shift", lambda sympy, z: z**exponent)


def _gaussian(z: Tensor) -> Tensor:
    return torch.exp(-z.square())


_ALL = (
    SymbolicFunction("0", torch.zeros_like, 0, "none", lambda sympy, z: sympy.Integer(0)),
    SymbolicFunction("x", lambda z: z, 1, "none", lambda sympy, z: z),
    *(_power(exponent, complexity) for exponent, complexity in ((2, 2), (3, 3), (4, 3), (5, 3))),
    *(_power(-exponent, complexity) for exponent, complexity in ((1, 2), (2, 2), (3, 3), (4, 4), (5, 5))),
    SymbolicFunction("sqrt", torch.sqrt, 2, "signed shift", lambda sympy, z: sympy.sqrt(z)),
    SymbolicFunction("x^1.5", lambda z: z**1.5, 4, "signed shift", lambda sympy, z: z ** sympy.Rational(3, 2)),
    SymbolicFunction("1/sqrt", torch.rsqrt, 2, "signed shift", lambda sympy, z: 1 / sympy.sqrt(z)),
    SymbolicFunction("exp", torch.exp, 2, "rate", lambda sympy, z: sympy.exp(z)),
    SymbolicFunction("log", torch.log, 2, "signed shift", lambda sympy, z: sympy.log(z)),
    SymbolicFunction("abs", torch.abs, 3, "shift", lambda sympy, z: sympy.Abs(z)),
    SymbolicFunction("sgn", torch.sign, 3, "shift", lambda sympy, z: sympy.sign(z)),
    SymbolicFunction("sin", torch.sin, 2, "both", lambda sympy, z: sympy.sin(z), 2 * math.pi),
    SymbolicFunction("cos", torch.cos, 2, "both", lambda sympy, z: sympy.cos(z), 2 * math.pi),
    SymbolicFunction("tan", torch.tan, 3, "both", lambda sympy, z: sympy.tan(z), math.pi),
    SymbolicFunction("tanh", torch.tanh, 3, "both", lambda sympy, z: sympy.tanh(z)),
    SymbolicFunction("arcsin", torch.asin, 4, "both", lambda sympy, z: sympy.asin(z)),
    SymbolicFunction("arccos", torch.acos, 4, "both", lambda sympy, z: sympy.acos(z)),
    SymbolicFunction("arctan", torch.atan, 4, "both", lambda sympy, z: sympy.atan(z)),
    SymbolicFunction("arctanh", torch.atanh, 4, "both", lambda sympy, z: sympy.atanh(z)),
    SymbolicFunction("gaussian", _gaussian, 3, "both", lambda sympy, z: sympy.exp(-(z**2))),
)

#: Every function by its name.
FUNCTIONS: dict[str, SymbolicFunction] = {function.name: function for function in _ALL}


def _named(name: str) -> SymbolicFunction:
    return FUNCTIONS[name]


def chosen_functions(names: Collection[str | SymbolicFunction] | None) -> list[SymbolicFunction]:
    """The functions of these names, one's own as they are; all of the library if None.

    Raises:
        ValueError: an unknown name, none at all.
    """
    if names is None:
        return list(_ALL)
    if isinstance(names, str):
        names = [names]
    found = [
        name if isinstance(name, SymbolicFunction) else FUNCTIONS[check_choice("functions", name, FUNCTIONS)]
        for name in names
    ]
    if not found:
        raise ValueError("functions must hold at least one name, got none; None means all")
    return found


def preference(r2: float, complexity: int, weight: float) -> float:
    """What the choice of a function makes small: weight * complexity + (1 - weight) * log2(1 + 1e-5 - R^2)."""
    return weight * complexity + (1 - weight) * math.log2(1 + 1e-5 - min(r2, 1.0))
