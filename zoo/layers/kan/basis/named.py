"""The bases by their names."""

from typing import Any

from torch import nn

from zoo.layers.kan.basis.bspline import BSplineBasis
from zoo.layers.kan.basis.chebyshev import ChebyshevBasis
from zoo.layers.kan.basis.gaussian import GaussianBasis
from zoo.layers.kan.basis.switch import SwitchBasis
from zoo.layers.kan.options import check_choice, check_count, check_range

_NORMED_RANGE = (-2.0, 2.0)  # behind a norm nearly all inputs are in it
_TANH_RANGE = (-1.0, 1.0)
BASES: dict[str, type[nn.Module]] = {
    "bspline": BSplineBasis,
    "gaussian": GaussianBasis,
    "switch": SwitchBasis,
    "chebyshev": ChebyshevBasis,
}


def named_basis(
    name: str, in_features: int, grid_size: int, spline_order: int, grid_range: tuple[float, float] | None, **dd: Any
) -> nn.Module:
    """The basis of a name, as fine as `grid_size` says.

    Args:
        name: a key of `BASES`.
        in_features: inputs.
        grid_size: intervals of B-splines, centres of bells, degree of polynomials.
        spline_order: of B-splines.
        grid_range: where the intervals or centres lie; None for -2 to 2, and for Chebyshev polynomials.
        dd: device and dtype.

    Raises:
        ValueError: an unknown name or a value out of range; a range for Chebyshev polynomials, which have none.
    """
    check_choice("basis", name, BASES)
    check_count("grid_size", grid_size)
    if name == "chebyshev":
        if grid_range is not None and check_range(grid_range) != _TANH_RANGE:
            raise ValueError(f"basis='chebyshev' is made of tanh(x), for all x: it has no grid_range, got {grid_range}")
        return ChebyshevBasis(grid_size)
    grid_range = _NORMED_RANGE if grid_range is None else grid_range
    if name == "bspline":
        return BSplineBasis(grid_size, spline_order, grid_range, in_features=in_features, **dd)
    return (GaussianBasis if name == "gaussian" else SwitchBasis)(grid_size, grid_range, **dd)
