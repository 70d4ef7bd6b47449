"""What the KAN layers are by default that stand inside of other models, in place of a perceptron or a classifier."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from zoo.layers.kan.basis import BSplineBasis
from zoo.layers.kan.basis.named import BASES
from zoo.layers.kan.options import check_choice

#: Behind a layer norm nearly all inputs are in this range.
_RANGE = (-2.0, 2.0)
_SIZES = {"bspline": 5, "gaussian": 8, "switch": 8, "chebyshev": 4}


def slot_options(basis: str, grid_size: int | None, grid_range: tuple[float, float] | None) -> dict[str, Any]:
    """Options of `KANLinear` for a basis that sees normed features.

    Args:
        basis: a name.
        grid_size: None for 8 bells, 5 intervals of B-splines, or polynomials up to the fourth degree.
        grid_range: None for -2 to 2; polynomials are of tanh(x) and have none.

    Raises:
        ValueError: an unknown name.
    """
    options: dict[str, Any] = {"basis": check_choice("basis", basis, BASES)}
    options["grid_size"] = _SIZES[basis] if grid_size is None else grid_size
    if grid_range is not None or basis != "chebyshev":
        options["grid_range"] = _RANGE if grid_range is None else grid_range
    return options


def grid_option(layers: Iterable[nn.Module]) -> dict[str, Any]:
    """The `grid_size` that layers of B-splines have in common; nothing where there is none."""
    sizes = {layer.basis.grid_size for layer in layers if isinstance(layer.basis, BSplineBasis)}
    return {"grid_size": sizes.pop()} if len(sizes) == 1 else {}


def changed(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Options that are others than before."""
    return {name: value for name, value in now.items() if before.get(name) != value}
