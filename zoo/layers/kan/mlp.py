"""Two KAN layers in the place of a perceptron."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.network import KAN
from zoo.layers.kan.slots import changed, grid_option, slot_options


class KANMlp(KAN):
    """Two KAN layers with dropout after each: y = KAN2(KAN1(x)), with the constructor of a feed-forward part.

    Shapes: (*, in_features) -> (*, out_features). State dict: `layers.0.`, `layers.1.` and the names of `KANLinear`.

    Each layer is y = W phi(LayerNorm(x)) + W_b silu(x) + b, as `KANLinear.fast` has it: behind a layer norm the grid
    fits features of any scale. With 8 bells and the base branch that is 9 times the parameters and operations of a
    perceptron of the same hidden width.

    Args:
        in_features: width of the tokens.
        hidden_features: width between the layers; in_features if None.
        out_features: in_features if None.
        act_layer: taken so that the block fits where a `Mlp` was, and unused: the curves are the non-linearity.
        drop: dropout after each layer.
        basis: "gaussian", "bspline", "switch" or "chebyshev".
        grid_size: bells, intervals of B-splines, or degree of polynomials; 8, 5 or 4 if None.
        spline_order: of B-splines.
        grid_range: where bells or intervals lie; -2 to 2 if None.
        base_activation, edge_scale, norm, bias: see `KANLinear`.

    Raises:
        ValueError, TypeError: as `KANLinear`.

    Source: fast-kan (2024, arXiv 2405.06721), whose layers these are.
    """

    layout: ClassVar[str] = "NLC"

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        *,
        act_layer: Any = None,
        drop: float = 0.0,
        basis: str = "gaussian",
        grid_size: int | None = None,
        spline_order: int = 3,
        grid_range: tuple[float, float] | None = None,
        base_activation: str | nn.Module | None = "silu",
        edge_scale: bool = False,
        norm: str | None = "layer",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        hidden = in_features if hidden_features is None else hidden_features
        super().__init__(
            [in_features, hidden, in_features if out_features is None else out_features],
            **slot_options(basis, grid_size, grid_range),
            spline_order=spline_order,
            base_activation=base_activation,
            edge_scale=edge_scale,
            norm=norm,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.hidden_features = hidden
        self.drop = nn.Dropout(drop)
        self._made_with = self._present_options()

    def _present_options(self) -> dict[str, Any]:
        return {"hidden_features": self.sizes[1], **grid_option(self.layers)}

    def changed_options(self) -> dict[str, Any]:
        """Options of the constructor that are others now: `grid_size` by `refine`, `hidden_features` by `prune`."""
        return changed(self._made_with, self._present_options())

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        for layer in self.layers:
            x = self.drop(layer(x))
        return x
