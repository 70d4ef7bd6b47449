"""The sets of functions that a KAN layer expands its inputs in."""

from zoo.layers.kan.basis.base import Basis
from zoo.layers.kan.basis.bspline import BSplineBasis
from zoo.layers.kan.basis.chebyshev import ChebyshevBasis
from zoo.layers.kan.basis.gaussian import GaussianBasis
from zoo.layers.kan.basis.named import BASES, named_basis
from zoo.layers.kan.basis.splines import cox_de_boor, uniform_bsplines
from zoo.layers.kan.basis.switch import SwitchBasis

__all__ = [
    "BASES",
    "BSplineBasis",
    "Basis",
    "ChebyshevBasis",
    "GaussianBasis",
    "SwitchBasis",
    "cox_de_boor",
    "named_basis",
    "uniform_bsplines",
]
