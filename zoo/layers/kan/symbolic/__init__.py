"""From curves to formulas: which functions the edges of a KAN are."""

from zoo.layers.kan.symbolic.fitting import SymbolicFit, fit_edge
from zoo.layers.kan.symbolic.layer import SymbolicLinear
from zoo.layers.kan.symbolic.library import FUNCTIONS, SymbolicFunction
from zoo.layers.kan.symbolic.network import SymbolicKAN, symbolic_network

__all__ = [
    "FUNCTIONS",
    "SymbolicFit",
    "SymbolicFunction",
    "SymbolicKAN",
    "SymbolicLinear",
    "fit_edge",
    "symbolic_network",
]
