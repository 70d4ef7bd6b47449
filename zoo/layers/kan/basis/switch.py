"""The reflectional switch basis of a KAN layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.basis.base import CentredBasis
from zoo.layers.kan.options import check_positive
from zoo.layers.kan.switch import SwitchTiles, switch_basis
from zoo.layers.kan.tiles import Tiles

_OFFICIAL_FACTOR = 0.5


class SwitchBasis(CentredBasis):
    """Bells of the reflectional switch: phi_j(x) = 1 - tanh^2((x - t_j) / h).

    Shapes: (*, in_features) -> (*, in_features, num_centres). State: `centers`.

    Args:
        num_centres: bells, K.
        grid_range: first and last centre; the rest lie evenly between.
        inv_width: 1 / h.
        compat_gradient: halve the derivative of the basis, as faster-kan's backward pass does with its defaults. Only
            for repeating a training of that code: it is not the gradient of what the layer computes.

    Raises:
        ValueError: a value out of range.

    Source: faster-kan (2024), whose forward pass has h = 1 whatever its `inv_denominator` is; the range is that of its
    single layer.
    """

    def __init__(
        self,
        num_centres: int = 8,
        grid_range: tuple[float, float] = (-1.2, 0.2),
        *,
        inv_width: float = 1.0,
        compat_gradient: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_centres, grid_range, device=device, dtype=dtype)
        self.inv_width = check_positive("inv_width", inv_width)
        self.compat_gradient = bool(compat_gradient)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features bases"]:
        if self.compat_gradient:
            x = _OFFICIAL_FACTOR * x + ((1 - _OFFICIAL_FACTOR) * x).detach()
        return switch_basis(x, self.centers.to(x.dtype), self.inv_width)

    def derivative(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features bases"]:
        """phi_j' = -2 / h tanh((x - t_j) / h) phi_j, whatever `compat_gradient` is."""
        tanh = torch.tanh(self._offsets(x) * self.inv_width)
        return (-2 * self.inv_width) * tanh * (1 - tanh.square())

    def tiles(self, dtype: torch.dtype) -> Tiles:
        factor = _OFFICIAL_FACTOR if self.compat_gradient else 1.0
        return SwitchTiles(self.centers.to(dtype), self.inv_width, factor)

    def draw_(self, weight: Float[Tensor, "out in_features bases"], scale: float) -> None:
        """Xavier-uniform over the in_features * K columns; `scale` is not asked."""
        nn.init.xavier_uniform_(weight.flatten(1))

    def extra_repr(self) -> str:
        compat = ", compat_gradient=True" if self.compat_gradient else ""
        return f"{super().extra_repr()}, inv_width={self.inv_width:.4g}{compat}"
