"""Which share of what a KAN layer gets lies in the range of its basis."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from zoo.layers.kan.basis import BSplineBasis
from zoo.layers.kan.basis.base import CentredBasis


def coverage(layer: Any, x: Float[Tensor, "rows in_features"]) -> float:
    """The fraction of the inputs, after the norm, that lie in [a, b].

    That is from the first to the last interval of B-splines, from the first to the last centre of bells. A basis that
    has no range, as polynomials of tanh(x), covers all. NaN lies nowhere.

    Args:
        layer: a `KANLinear`.
        x: rows for it.
    """
    u, basis = layer.normalised(x), layer.basis
    if isinstance(basis, BSplineBasis):
        low, high = basis.knots[:, basis.order], basis.knots[:, -basis.order - 1]
    elif isinstance(basis, CentredBasis):
        low, high = basis.centers.aminmax()
    else:
        return 1.0 - float(u.isnan().double().mean())
    return float(((u >= low.to(u)) & (u <= high.to(u))).double().mean())
