"""The bases by their names."""

from typing import Any

from torch import nn

from zoo.layers.kan.basis.bspline import BSplineBasis
from zoo.layers.kan.basis.chebyshev import ChebyshevBasis
from zoo.layers.kan.basis.gaussian import GaussianBasis
from zoo.layers.kan.basis.switch import SwitchBasis
from zoo.layers.kan.options import check_choice, check_count

BASES: dict[str, type[nn.Module]] = {
    "bspline": BSplineBasis,
    "gaussian": GaussianBasis,
    "switch": SwitchBasis,
    "chebyshev": ChebyshevBasis,
}


def named_basis(
    name: str, in_features: int, grid_size: int, spline_order: int, grid_range: tuple[float, float], **dd: Any
) -> nn.Module:
    """The basis of a name, as fine as `grid_size` says.

    Args:
        name: a key of `BASES`.
        in_features: inputs.
        grid_size: intervals of B-splines, centres of bells, degree of polynomials.
        spline_order: of B-splines.
        grid_range: where the intervals or centres lie; Chebyshev polynomials have all numbers as their range.
        dd: device and dtype.

    Raises:
        ValueError: an unknown name or a value out of range.
    """
    check_choice("basis", name, BASES)
    check_count("grid_size", grid_size)
    if name == "bspline":
        return BSplineBasis(grid_size, spline_order, grid_range, in_features=in_features, **dd)
    if name == "chebyshev":
        return ChebyshevBasis(grid_size)
    return (GaussianBasis if name == "gaussian" else SwitchBasis)(grid_size, grid_range, **dd)
