"""The B-spline basis of a KAN layer."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import must_compose
from zoo.layers.kan.basis.base import Basis, position_dtype
from zoo.layers.kan.basis.spline_tiles import spline_tiles
from zoo.layers.kan.basis.splines import cox_de_boor, cox_de_boor_derivative, uniform_bsplines
from zoo.layers.kan.options import check_count, check_range
from zoo.layers.kan.tiles import Tiles

_HIGHEST_ORDER = 9
_EVEN = 1e-5  # of the spacing
_MOST_SOLVED = 256  # intervals; the pseudo-inverse takes time with their cube


class BSplineBasis(Basis):
    """B-splines of order k over G intervals of [a, b], with k more knots on either side: K = G + k functions.

    Inside [a, b] they add up to 1. Over the outer knots their sum falls to 0, and beyond those all are 0.

    Shapes: (*, in_features) -> (*, in_features, K). State: `knots`, (1, G + 2k + 1) for all inputs, or
    (in_features, G + 2k + 1) for each its own.

    Args:
        grid_size: intervals, G.
        order: degree of the polynomial pieces, k, from 1 to 9.
        grid_range: a and b.
        in_features: inputs that the basis is made for: knots of another number of rows are refused. None takes any.

    Raises:
        ValueError: a value out of range; in the call, knots for another number of inputs.

    Knots evenly spaced within 1e-5 of the spacing, and what their type rounds, take a shorter way to the same values.

    Source: KAN (2024, arXiv 2404.19756), with the knots as efficient-kan (2024) lays them.
    """

    knots: Tensor

    def __init__(
        self,
        grid_size: int = 5,
        order: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        *,
        in_features: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.grid_size = check_count("grid_size", grid_size)
        self.order = check_count("spline_order", order, _HIGHEST_ORDER)
        self.grid_range = check_range(grid_range)
        self.in_features = in_features
        self._seen: tuple[Any, ...] | None = None
        self._even = True
        count = grid_size + 2 * order + 1
        self.register_buffer("knots", torch.empty(1, count, device=device, dtype=position_dtype(dtype)))
        self.reset_parameters()

    @property
    def num_bases(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Functions an input, K."""
        return self.grid_size + self.order

    def reset_parameters(self) -> None:
        """Even knots over the range that the constructor got."""
        if self.knots.is_meta:
            return  # there is no place for values
        with torch.no_grad():
            self.knots.copy_(self._even_knots())
        self._even, self._seen = True, None

    def _even_knots(self) -> Tensor:
        low, high = self.grid_range
        steps = torch.arange(-self.order, self.grid_size + self.order + 1, dtype=torch.float64, device="cpu")
        return low + steps * ((high - low) / self.grid_size)

    @torch.no_grad()
    def set_knots(self, knots: Float[Tensor, "rows knots"]) -> None:
        """Take other knots, and as many intervals as they have. Rows that are all the same are kept once.

        Args:
            knots: (1 or in_features, G + 2k + 1), each row in ascending order.

        Raises:
            ValueError: another shape, descending knots or such that are not finite.
        """
        least = 2 * self.order + 2
        if knots.ndim != 2 or knots.shape[1] < least or knots.shape[0] not in {1, self.in_features or knots.shape[0]}:
            rows = "1 or in_features" if self.in_features is None else f"1 or {self.in_features}"
            raise ValueError(f"knots must have the shape ({rows}, {least} or more), got {tuple(knots.shape)}")
        if not knots.isfinite().all() or (knots.diff() < 0).any() or (knots[:, -1] <= knots[:, 0]).any():
            raise ValueError("knots must be finite and ascend in every row")
        if (knots == knots[:1]).all():
            knots = knots[:1]
        self.knots = knots.detach().to(self.knots).clone()
        self.grid_size = knots.shape[1] - 2 * self.order - 1
        self._look()

    def span(self) -> tuple[float, float]:
        """The lowest a and the highest b of the present knots."""
        if self.knots.is_meta:
            return self.grid_range
        return float(self.knots[:, self.order].min()), float(self.knots[:, -self.order - 1].max())

    def is_uniform(self) -> bool:
        """The knots of every input are evenly spaced, within 1e-5 of the spacing and rounding."""
        # Knots may be edited in place. Where nobody can look at them, they are what they were at the last look.
        if not must_compose(self.knots) and not self.knots.is_meta and self._state() != self._seen:
            self._look()
        return self._even

    def _state(self) -> tuple[Any, ...]:
        knots = self.knots
        return knots.data_ptr(), None if knots.is_inference() else knots._version, knots.shape, knots.dtype

    def _look(self) -> None:
        knots = self.knots.detach().double()
        count = knots.shape[1] - 1
        spacing = (knots[:, -1:] - knots[:, :1]) / count
        wanted = knots[:, :1] + spacing * torch.arange(count + 1, device=knots.device)
        rounding = torch.finfo(self.knots.dtype).eps * knots.abs().amax(1, keepdim=True)
        self._even = bool(((knots - wanted).abs() <= _EVEN * spacing + rounding).all() and (spacing > 0).all())
        self._seen = self._state()

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features bases"]:
        knots = self._fitting_knots(x)
        return (uniform_bsplines if self.is_uniform() else cox_de_boor)(x, knots, self.order)

    def derivative(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features bases"]:
        """The first derivatives of the K functions at x; at knots of order 1 those to the right."""
        return cox_de_boor_derivative(x, self._fitting_knots(x), self.order)

    def tiles(self, dtype: torch.dtype) -> Tiles:
        return spline_tiles(self.knots.to(dtype), self.order, self.is_uniform())

    def compiled_tiles(self, dtype: torch.dtype) -> Tiles:
        """Tiles that are filled in C, where the knots are even and on a CPU; elsewhere `tiles`."""
        if not self.is_uniform() or self.knots.device.type != "cpu":
            return self.tiles(dtype)
        from zoo.layers.kan.native.tiles import CompiledTiles

        return CompiledTiles(self.knots.to(dtype), self.order)

    def _fitting_knots(self, x: Tensor) -> Tensor:
        rows = self.knots.shape[0]
        if rows != 1 and rows != x.shape[-1]:  # a size that is traced is in no set
            raise ValueError(f"the basis has knots for {rows} inputs, x has {x.shape[-1]} (last dimension)")
        return self.knots.to(x.dtype)

    def draw_(self, weight: Float[Tensor, "out in_features bases"], scale: float) -> None:
        """Curves through noise: least squares for values from U(-1/2, 1/2) * scale / G at the knots from a to b.

        The knots of the constructor count, for all inputs: one small pseudo-inverse serves all curves. With more than
        256 intervals the coefficients are drawn from that range: the curves stay in it, too.
        """
        solved = self.grid_size <= _MOST_SOLVED
        with torch.no_grad():
            dtype = torch.promote_types(weight.dtype, torch.float32)
            count = self.grid_size + 1 if solved else self.num_bases
            noise = torch.empty(*weight.shape[:2], count, device=weight.device, dtype=dtype)
            nn.init.uniform_(noise, -0.5 * scale / self.grid_size, 0.5 * scale / self.grid_size)
            weight.copy_(noise @ self._inverse().t().to(noise) if solved else noise)

    def _inverse(self) -> Tensor:
        """From values at the knots from a to b to the smallest coefficients that have them."""
        knots = self._even_knots().unsqueeze(0)
        inner = knots[0, self.order : self.order + self.grid_size + 1]
        return torch.linalg.pinv(cox_de_boor(inner.unsqueeze(-1), knots, self.order)[:, 0])

    def state_shapes(self, given: Mapping[str, Tensor]) -> dict[str, torch.Size | None]:
        """The shape in which the knots of a state dict are taken: for all inputs or for each its own.

        Args:
            given: the basis's part of the state dict.
        """
        knots = given.get("knots")
        if not isinstance(knots, Tensor) or knots.ndim != 2 or knots.shape[1] != self.knots.shape[1]:
            return {}
        return {"knots": knots.shape} if knots.shape[0] in {1, self.in_features or knots.shape[0]} else {}

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        given = {"knots": state_dict[prefix + "knots"]} if prefix + "knots" in state_dict else {}
        shape = self.state_shapes(given).get("knots")
        if shape is not None and shape != self.knots.shape:
            self.knots = self.knots.new_empty(shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if not self.knots.is_meta and not must_compose(self.knots):
            self._look()

    def extra_repr(self) -> str:
        low, high = self.span()
        own = ", knots for each input" if self.knots.shape[0] > 1 else ""
        return f"grid_size={self.grid_size}, order={self.order}, grid_range=({low:.4g}, {high:.4g}){own}"
