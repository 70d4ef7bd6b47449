"""A switch-basis KAN layer as a classifier head."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.fasterkan import FasterKANLayer
from zoo.layers.kan.switch import _composed


class KANHead(FasterKANLayer):
    """One switch-basis KAN layer with a bias: `y = W phi(LayerNorm(x)) + b`, phi_ij = sech^2((u_i - g_j) / h).

    Shapes: (*, in_features) -> (*, out_features).

    Args:
        in_features: width of the features.
        out_features: outputs, usually classes.
        bias: add b, which starts at 0.
        num_centres, grid_range, inv_width, base_branch, backend: see `FasterKANLayer`.

    Raises:
        ValueError: a value that `FasterKANLayer` refuses.

    Source: the layer of faster-kan (2024) as used in MedViTV2 (2025, arXiv 2502.13693); the bias is ours, because
    a head has to hold the frequencies of the classes.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        num_centres: int = 8,
        grid_range: tuple[float, float] = (-2.0, 2.0),
        inv_width: float = 1 / 0.33,
        base_branch: bool = False,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            num_centres=num_centres,
            grid_range=grid_range,
            inv_width=inv_width,
            base_branch=base_branch,
            backend=backend,
            device=device,
            dtype=dtype,
        )
        self.bias: nn.Parameter | None = None
        if bias:
            self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype))

    def _make_weight(self, in_features: int, out_features: int, num_centres: int, **dd: Any) -> None:
        # The last layer of a model is asked for by the name `weight`.
        self.weight = nn.Parameter(torch.empty(out_features, in_features, num_centres, **dd))

    def matrix(self):
        # type: () -> Tensor
        """The weight W as (out_features, in_features * num_centres)."""
        return self.weight.flatten(1)

    def reset_parameters(self) -> None:
        """As `FasterKANLayer`; the bias to 0."""
        super().reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        # type: (Tensor) -> Tensor
        if torch.jit.is_scripting():  # TorchScript knows no super().forward
            norm = self.layernorm
            y = _composed(x, self.matrix(), self.rbf.grid, self.inv_width, norm.weight, norm.bias)
            if self.base_linear is not None:
                y = y + self.base_linear(F.silu(x))
        else:
            y = super().forward(x)
        if self.bias is not None:
            y = y + self.bias
        return y
