"""A KAN layer as a classifier head."""

from typing import Any

import torch
from torch import nn

from zoo.layers.kan.linear import KANLinear
from zoo.layers.kan.slots import changed, grid_option, slot_options


class KANHead(KANLinear):
    """One KAN layer with a bias: y = W phi(LayerNorm(x)) + W_b silu(x) + b, phi Gaussian bells unless said otherwise.

    Shapes: (*, in_features) -> (*, out_features). State dict: as `KANLinear`.

    The defaults are those of `KANLinear.fast`: behind a layer norm the grid fits features of any scale.

    Args:
        in_features: width of the features.
        out_features: outputs, usually classes.
        bias: add b.
        basis: "gaussian", "bspline", "switch" or "chebyshev".
        grid_size: bells, intervals of B-splines, or degree of polynomials; 8, 5 or 4 if None.
        spline_order: of B-splines.
        grid_range: where bells or intervals lie; -2 to 2 if None.
        base_activation, edge_scale, norm: see `KANLinear`.

    Raises:
        ValueError, TypeError: as `KANLinear`.

    Source: fast-kan (2024, arXiv 2405.06721), whose layer it is.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        basis: str = "gaussian",
        grid_size: int | None = None,
        spline_order: int = 3,
        grid_range: tuple[float, float] | None = None,
        base_activation: str | nn.Module | None = "silu",
        edge_scale: bool = False,
        norm: str | nn.Module | None = "layer",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            **slot_options(basis, grid_size, grid_range),
            spline_order=spline_order,
            base_activation=base_activation,
            edge_scale=edge_scale,
            norm=norm,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self._made_with = grid_option([self])

    def changed_options(self) -> dict[str, Any]:
        """Options of the constructor that are others now: `grid_size` by `refine`."""
        return changed(self._made_with, grid_option([self]))
