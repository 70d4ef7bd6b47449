"""The reflectional switch basis and the linear map over it.

For an input u and centres g_1..g_K of width h = 1 / inv_width

    phi_j(u) = 1 - tanh^2((u - g_j) / h) = sech^2((u - g_j) / h),        y = W phi(u),

where column K*i + j of W belongs to centre j of input feature i. In tiles, with tau = exp(2 (u - g_j) / h),
q = tau / (1 + tau) and d = 1 / (1 + tau),

    phi = 4 q d,        d phi / d u = (8 / h) q d (d - q),

and tau costs one exponential per input, because exp(2 (u - g_j) / h) = exp(2 u / h) exp(-2 g_j / h).

Source: faster-kan (A. Delis, 2024); used in MedViTV2 (2025, arXiv 2502.13693) with 8 centres on [-2, 2], h = 0.33.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.layers.kan.functional import BACKENDS, Norm, composed, fast_linear, must_be_composed
from zoo.layers.kan.options import check_choice
from zoo.layers.kan.tiles import Tiles

_EXPONENT_LIMIT = 40.0  # exp(40) * exp(40) is finite in float32, and the basis at that distance is below 1e-11
_NORM_EPS = 1e-5


def switch_basis(
    u: Float[Tensor, "*batch features"], centres: Float[Tensor, " centres"], inv_width: float = 1.0
) -> Float[Tensor, "*batch features centres"]:
    """The basis as its formula says: `1 - tanh((u - g) * inv_width) ** 2`, differentiable any number of times.

    Args:
        u: inputs, usually layer-normalised.
        centres: the K fixed centres.
        inv_width: 1 / h.
    """
    # type: (Tensor, Tensor, float) -> Tensor
    return 1 - torch.tanh((u.unsqueeze(-1) - centres) * inv_width).square()


def switch_linear(
    x: Float[Tensor, "*batch features"],
    weight: Float[Tensor, "out features_x_centres"],
    centres: Float[Tensor, " centres"],
    inv_width: float = 1.0,
    *,
    norm_weight: Float[Tensor, " features"] | None = None,
    norm_bias: Float[Tensor, " features"] | None = None,
    backend: str = "auto",
) -> Float[Tensor, "*batch out"]:
    """Layer norm (if its weight is given), switch basis and linear map in one.

    Args:
        x: inputs, any number of leading dimensions.
        weight: (out, features * K), the K centres of a feature side by side.
        centres: the K centres; no gradient flows to them.
        inv_width: 1 / h.
        norm_weight: scale of a layer norm over the features (eps 1e-5); None leaves x as it is.
        norm_bias: shift of that layer norm.
        backend: see `kan_linear`.

    Raises:
        ValueError: unknown backend, or a weight that does not have features * K columns.
    """
    check_choice("backend", backend, BACKENDS)
    expected = x.shape[-1] * centres.numel()
    if weight.shape[-1] != expected:
        raise ValueError(
            f"weight has {weight.shape[-1]} columns, but {x.shape[-1]} features with {centres.numel()} centres need "
            f"{expected}; check the number of features of x (last dimension) or of the centres"
        )
    norm = None if norm_weight is None else Norm(norm_weight, norm_bias, _NORM_EPS)
    weight = weight.unflatten(1, (x.shape[-1], centres.numel()))

    def basis(u: Tensor) -> Tensor:
        return switch_basis(u, centres.to(u.dtype), inv_width)

    if backend == "reference" or must_be_composed(x, weight):
        return composed(x, weight, None, basis, norm)
    work = torch.float64 if x.dtype == torch.float64 else torch.float32
    return fast_linear(x, weight, None, basis, SwitchTiles(centres.to(work), inv_width), norm)


class SwitchTiles(Tiles):
    """q and d, of which all else is made; `gradient` is a factor of the slopes."""

    def __init__(self, centres: Tensor, inv_width: float, gradient: float = 1.0) -> None:
        self.num_bases = centres.numel()
        self.centres = centres.unsqueeze(-1)
        self.exponent = 2 * inv_width
        self.value_factor = 4.0
        self.gradient = 8 * inv_width * gradient
        self.factors = torch.exp(self.centres * -self.exponent)
        # One exponential per input is possible while the centres are few widths from zero. Reading them costs
        # nothing on a CPU; elsewhere it would wait for the device, so there each basis takes its own exponentials.
        self.one_exponential = centres.device.type == "cpu" and bool(
            (centres.abs().amax() * abs(self.exponent) <= _EXPONENT_LIMIT).item()
        )

    def fill(self, u: Tensor, phi: Tensor, spare: list[Tensor]) -> None:
        self._fill(u, phi, spare[0])
        phi.mul_(spare[0])

    def fill_both(self, u: Tensor, phi: Tensor, slope: Tensor, spare: list[Tensor]) -> None:
        (other,) = spare
        self._fill(u, phi, other)
        torch.sub(other, phi, out=slope)
        phi.mul_(other)
        slope.mul_(phi)

    def slope_factor(self, u: Tensor) -> Tensor | float:
        return self.gradient

    def _fill(self, u: Tensor, q: Tensor, d: Tensor) -> None:
        """q = tau / (1 + tau) and d = 1 / (1 + tau)."""
        if self.one_exponential:
            e = (u * self.exponent).clamp_(-_EXPONENT_LIMIT, _EXPONENT_LIMIT).exp_()
            torch.mul(e.unsqueeze(1), self.factors, out=q)
            torch.add(q, 1, out=d).reciprocal_()
            q.mul_(d)
        else:
            torch.sub(u.unsqueeze(1), self.centres, out=q).mul_(self.exponent)
            torch.neg(q, out=d).sigmoid_()
            q.sigmoid_()
