"""The Chebyshev basis of a KAN layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.basis.base import Basis
from zoo.layers.kan.options import check_count
from zoo.layers.kan.tiles import Tiles


class ChebyshevBasis(Basis):
    """Chebyshev polynomials of the squashed input: phi_n(x) = T_n(tanh x), n = 0 to the degree.

        T_0 = 1,        T_1 = t,        T_{n+1} = 2 t T_n - T_{n-1}.

    Shapes: (*, in_features) -> (*, in_features, degree + 1). There is no state.

    Args:
        degree: highest polynomial, 1 or more.

    Raises:
        ValueError: a degree below 1.

    Source: ChebyKAN (2024). Its cos(n acos t) has no finite gradient once tanh rounds to 1; the recursion has.
    """

    def __init__(self, degree: int = 4) -> None:
        super().__init__()
        self.degree = check_count("degree", degree)
        self.num_bases = degree + 1

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features bases"]:
        t = torch.tanh(x)
        # 0 t: where x is NaN the constant is NaN too.
        return torch.stack(_recursion(t, 1 + 0 * t, t, self.degree), -1)

    def derivative(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features bases"]:
        """phi_n' = n U_{n-1}(t) (1 - t^2), with the polynomials of the second kind U."""
        t = torch.tanh(x)
        second = _recursion(t, 0 * t, 1 + 0 * t, self.degree)  # U_{-1} = 0, U_0 = 1
        return torch.stack([n * u for n, u in enumerate(second)], -1) * (1 - t.square()).unsqueeze(-1)

    def span(self) -> tuple[float, float]:
        """Where tanh has nine tenths of its range."""
        return -1.5, 1.5

    def tiles(self, dtype: torch.dtype) -> Tiles:
        return _ChebyshevTiles(self.degree)

    def draw_(self, weight: Float[Tensor, "out in_features bases"], scale: float) -> None:
        """Normal of standard deviation 1 / (in_features (degree + 1)); `scale` is not asked."""
        nn.init.normal_(weight, std=1 / max(weight.shape[1:].numel(), 1))

    def extra_repr(self) -> str:
        return f"degree={self.degree}"


def _recursion(t: Tensor, first: Tensor, second: Tensor, degree: int) -> list[Tensor]:
    """degree + 1 terms, each 2 t times the one before less the one before that."""
    terms = [first, second]
    while len(terms) <= degree:
        terms.append(2 * t * terms[-1] - terms[-2])
    return terms


class _ChebyshevTiles(Tiles):
    """T_n by its recursion, and n U_{n-1} for the slopes."""

    spares = 0

    def __init__(self, degree: int) -> None:
        self.num_bases = degree + 1

    def fill(self, u: Tensor, phi: Tensor, spare: list[Tensor]) -> None:
        t = torch.tanh(u)
        self._recursion(t, 1 + 0 * t, t, phi)  # where u is NaN the constant is NaN too

    def fill_both(self, u: Tensor, phi: Tensor, slope: Tensor, spare: list[Tensor]) -> None:
        t = torch.tanh(u)
        self._recursion(t, 1 + 0 * t, t, phi)
        self._recursion(t, 0 * t, 1 + 0 * t, slope)
        slope.mul_(torch.arange(self.num_bases, device=u.device, dtype=u.dtype).unsqueeze(-1))

    def slope_factor(self, u: Tensor) -> Tensor | float:
        return 1 - torch.tanh(u).square()

    def _recursion(self, t: Tensor, first: Tensor, second: Tensor, out: Tensor) -> None:
        out[:, 0], out[:, 1] = first, second
        doubled = 2 * t
        for n in range(2, self.num_bases):
            torch.mul(doubled, out[:, n - 1], out=out[:, n]).sub_(out[:, n - 2])
