"""The Gaussian basis of a KAN layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.basis.base import CentredBasis
from zoo.layers.kan.options import check_positive
from zoo.layers.kan.tiles import Tiles


class GaussianBasis(CentredBasis):
    """Gaussian bells: phi_j(x) = exp(-((x - t_j) / d)^2).

    Shapes: (*, in_features) -> (*, in_features, num_centres). State: `centers`.

    Args:
        num_centres: bells, K.
        grid_range: first and last centre; the rest lie evenly between.
        width: d; the distance of the centres if None. It is no part of the state.

    Raises:
        ValueError: a value out of range; one centre and no width.

    Source: fast-kan (2024, arXiv 2405.06721).
    """

    def __init__(
        self,
        num_centres: int = 8,
        grid_range: tuple[float, float] = (-2.0, 2.0),
        *,
        width: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_centres, grid_range, device=device, dtype=dtype)
        if width is None and num_centres == 1:
            raise ValueError("width must be given for a single centre: there is no distance of centres to take")
        low, high = self.grid_range
        self.width = (high - low) / (num_centres - 1) if width is None else check_positive("width", width)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features bases"]:
        return torch.exp(-(self._offsets(x) / self.width).square())

    def derivative(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features bases"]:
        """phi_j' = -2 (x - t_j) / d^2 phi_j."""
        return self._offsets(x) * (-2 / self.width**2) * self(x)

    def tiles(self, dtype: torch.dtype) -> Tiles:
        return _GaussianTiles(self.centers.to(dtype), self.width)

    def draw_(self, weight: Float[Tensor, "out in_features bases"], scale: float) -> None:
        """Normal of standard deviation `scale`. fast-kan cuts it at -2 and 2: 20 deviations, so nothing."""
        nn.init.normal_(weight, std=scale)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, width={self.width:.4g}"


class _GaussianTiles(Tiles):
    """With s = (u - t_j) / d: exp(-s^2), and s exp(-s^2) for the slopes."""

    def __init__(self, centres: Tensor, width: float) -> None:
        self.num_bases = centres.numel()
        self.per_unit = 1 / width
        self.centres = (centres * self.per_unit).unsqueeze(-1)
        self.nothing = centres.new_zeros(())

    def fill(self, u: Tensor, phi: Tensor, spare: list[Tensor]) -> None:
        distance = self._distances(u, spare[0])
        torch.addcmul(self.nothing, distance, distance, value=-1, out=phi).exp_()

    def fill_both(self, u: Tensor, phi: Tensor, slope: Tensor, spare: list[Tensor]) -> None:
        self.fill(u, phi, [slope])
        slope.mul_(phi)

    def slope_factor(self, u: Tensor) -> Tensor | float:
        return -2 * self.per_unit

    def _distances(self, u: Tensor, out: Tensor) -> Tensor:
        return torch.sub((u * self.per_unit).unsqueeze(1), self.centres, out=out)
