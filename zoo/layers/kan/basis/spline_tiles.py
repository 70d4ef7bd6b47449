"""Tiles of B-splines: a closed form for even knots and orders 2 and 3, the local recursion for all others.

On even knots every function is the same bell of s = (x - g_j) / h - (order + 1) / 2, with a = |s|:

    order 2: B = (max(3/2 - a, 0)^2 - 3 max(1/2 - a, 0)^2) / 2
    order 3: B = (max(2 - a, 0)^3 - 4 max(1 - a, 0)^3) / 6

exact zeros outside, and no case is told from another: on a coarse grid it is quickest to write all K functions so. On
a fine one only the order + 1 functions that are not 0 are made, in the cell of x, and put in their places.

Source: C. de Boor, "On calculating with B-splines" (1972).
"""

import torch
from torch import Tensor

from zoo.layers.kan.basis.splines import functions_of_cell
from zoo.layers.kan.tiles import SparseTiles, Tiles

_MOST_DENSE = 16  # functions; with more of them, those that are 0 cost more than putting the others in their places
_FACTORS = {2: (2.0, 3.0), 3: (6.0, 4.0)}  # by order: the divisor of B, and the weight of its inner part


def spline_tiles(knots: Tensor, order: int, even: bool) -> Tiles:
    """The tiles of B-splines over knots (1 or in_features, n)."""
    if not (even and order in _FACTORS and knots.shape[0] == 1):
        return LocalTiles(knots, order)
    return (BellTiles if knots.shape[1] - 1 - order <= _MOST_DENSE else FineBellTiles)(knots, order)


class BellTiles(Tiles):
    """All functions of even knots in closed form."""

    spares = 2

    def __init__(self, knots: Tensor, order: int) -> None:
        self.bell = _Bell(knots, order)
        self.num_bases = knots.shape[1] - 1 - order
        self.middles = self.bell.middles(self.num_bases)
        self.value_factor = 1 / self.bell.divisor

    def fill(self, u: Tensor, phi: Tensor, spare: list[Tensor]) -> None:
        self._distances(u, phi)
        self.bell.values(phi, spare[0])

    def fill_both(self, u: Tensor, phi: Tensor, slope: Tensor, spare: list[Tensor]) -> None:
        self._distances(u, slope)
        self.bell.both(slope, phi, *spare)

    def slope_factor(self, u: Tensor) -> Tensor | float:
        return self.bell.slope_factor

    def _distances(self, u: Tensor, out: Tensor) -> None:
        torch.sub(((u - self.bell.start) * self.bell.per_unit).unsqueeze(1), self.middles, out=out)


class LocalTiles(SparseTiles):
    """The order + 1 functions that are not 0 in the cell of x, for any knots and orders, put among zeros."""

    def __init__(self, knots: Tensor, order: int) -> None:
        self.knots = knots.contiguous()
        self.order = order
        self.num_bases = knots.shape[1] - 1 - order

    def inputs(self, block: slice) -> SparseTiles:
        return self if self.knots.shape[0] == 1 else LocalTiles(self.knots[block], self.order)

    def local(self, u: Tensor, firsts: Tensor | int = 0) -> tuple[Tensor, Tensor]:
        return self.local_both(u, firsts)[:2]

    def local_both(self, u: Tensor, firsts: Tensor | int = 0) -> tuple[Tensor, Tensor, Tensor]:
        k = self.order
        cell = self._cell(u.nan_to_num(0.0))  # NaN as an index would lie anywhere
        outside = (u < self.knots[:, 0]) | (u >= self.knots[:, -1])
        values, slopes = self._recursion(u, cell)
        # Function number m of the cell is j = cell - order + m. Those left of the first and right of the last one do
        # not exist: their zeros go to the places that the others leave free.
        j = (cell - k).unsqueeze(1) + torch.arange(k + 1, device=u.device).unsqueeze(-1)
        places = torch.where(j < 0, j + (k + 1), torch.where(j >= self.num_bases, j - (k + 1), j))
        gone = (j != places) | outside.unsqueeze(1)
        return places + firsts, values.masked_fill_(gone, 0.0), slopes.masked_fill_(gone, 0.0)

    def _cell(self, u: Tensor) -> Tensor:
        """The cell g_c <= x < g_{c+1}; the first or last cell for what lies outside."""
        last = self.knots.shape[1] - 2
        if self.knots.shape[0] == 1:
            return torch.searchsorted(self.knots[0], u.contiguous(), right=True).sub_(1).clamp_(0, last)
        return torch.searchsorted(self.knots, u.t().contiguous(), right=True).t().sub_(1).clamp_(0, last)

    def _knot(self, index: Tensor) -> Tensor:
        index = index.clamp(0, self.knots.shape[1] - 1)
        return self.knots[0].take(index) if self.knots.shape[0] == 1 else self.knots.t().gather(0, index)

    def _recursion(self, u: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """The values of the order + 1 functions, and their slopes from the functions one order lower."""
        k = self.order
        right = [self._knot(cell + d) - u for d in range(1, k + 1)]
        left = [u - self._knot(cell + 1 - d) for d in range(1, k + 1)]
        # Inside, a cell is not empty and nothing is divided by 0; beyond the ends of the knots it may be, and nothing
        # of it is kept.
        values, shares = functions_of_cell(left, right)
        slopes = [-k * shares[0], *(k * (shares[m] - shares[m + 1]) for m in range(k - 1)), k * shares[k - 1]]
        return torch.stack(values, 1), torch.stack(slopes, 1)


class FineBellTiles(LocalTiles):
    """The same for even knots, in closed form."""

    def __init__(self, knots: Tensor, order: int) -> None:
        super().__init__(knots, order)
        self.bell = _Bell(knots, order)
        self.middles = self.bell.middles(order + 1)
        self.window = torch.arange(order + 1, device=knots.device).unsqueeze(-1)
        self.value_factor = 1 / self.bell.divisor

    def slope_factor(self, u: Tensor) -> Tensor | float:
        return self.bell.slope_factor

    def local(self, u: Tensor, firsts: Tensor | int = 0) -> tuple[Tensor, Tensor]:
        places, values = self._distances(u, firsts)
        self.bell.values(values, torch.empty_like(values))
        return places, values

    def local_both(self, u: Tensor, firsts: Tensor | int = 0) -> tuple[Tensor, Tensor, Tensor]:
        places, slopes = self._distances(u, firsts)
        values = torch.empty_like(slopes)
        self.bell.both(slopes, values, torch.empty_like(values), torch.empty_like(values))
        return places, values, slopes

    def _distances(self, u: Tensor, firsts: Tensor | int) -> tuple[Tensor, Tensor]:
        """order + 1 functions of each input, all that are not 0 among them, and the distances from their middles."""
        bell, last = self.bell, self.knots.shape[1] - 2
        cell = ((u - bell.start) * bell.per_unit).nan_to_num_(0.0).clamp_(0, last).long()
        first = (cell - self.order).clamp_(0, self.num_bases - 1 - self.order)
        # A distance from the first knot instead would lose the digits of a fine grid.
        within = (u - self.knots[0].take(cell)) * bell.per_unit + (cell - first)
        return (first + firsts).unsqueeze(1) + self.window, within.unsqueeze(1) - self.middles


class _Bell:
    """The closed form of orders 2 and 3, in place, times a divisor; slopes times a factor."""

    def __init__(self, knots: Tensor, order: int) -> None:
        self.order, self.knots = order, knots
        self.start = knots[0, 0]
        self.per_unit = (knots.shape[1] - 1) / (knots[0, -1] - knots[0, 0])
        self.divisor, self.inner = _FACTORS[order]
        self.half = knots.new_tensor((order + 1) / 2)
        self.slope_factor = self.per_unit * (-order / self.divisor)

    def middles(self, count: int) -> Tensor:
        """Of the first functions, in cells from the first knot: (count, 1)."""
        numbers = torch.arange(count, device=self.knots.device, dtype=self.knots.dtype)
        return (numbers + self.half).unsqueeze(-1)

    def values(self, distance: Tensor, spare: Tensor) -> None:
        """The functions in place of the distances from their middles."""
        inner = self._parts(distance.abs_(), spare)
        distance.pow_(self.order).sub_(inner.pow_(self.order), alpha=self.inner)

    def both(self, distance: Tensor, values: Tensor, inner: Tensor, power: Tensor) -> None:
        """The functions, and their slopes in place of the distances."""
        self._parts(torch.abs(distance, out=values), inner)
        if self.order == 2:
            torch.sub(values, inner, alpha=self.inner, out=power)
            values.square_().sub_(inner.square_(), alpha=self.inner)
        else:
            torch.mul(values, values, out=power)
            values.mul_(power)
            power.addcmul_(inner, inner, value=-self.inner)
            values.sub_(inner.pow_(3), alpha=self.inner)
        torch.copysign(power, distance, out=distance)  # the power is never below 0

    def _parts(self, distance: Tensor, inner: Tensor) -> Tensor:
        """max(half - a, 0) in place of a, and max(half - 1 - a, 0)."""
        torch.sub(self.half, distance, out=distance).clamp_min_(0)
        return torch.sub(distance, 1, out=inner).clamp_min_(0)
