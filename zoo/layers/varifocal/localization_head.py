"""From a map of features to a region of interest.

    u = sigmoid(W2 tanh(W1 flatten(maxpool(map)) + b1) + b2) = (u_x, u_y, u_l)

The paper ("Varifocal-Net", Qin et al., 2019, arXiv:1810.05943) states the pool, two linear maps and the sigmoid; the
hidden width and tanh between them are our design.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.varifocal.pool import grid_max


class LocalizationHead(nn.Module):
    """u = sigmoid(fc2(tanh(fc1(flatten(max-pool of the map to `pool` x `pool` cells))))).

    Shapes: (batch, dim, height, width) to (batch, 3), float32 at least: places need its precision.

    Args:
        dim: channels of the map.
        pool: cells a side after the pool; any size of map becomes so many.
        hidden: width between the linear maps.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        dim: int,
        *,
        pool: int = 8,
        hidden: int = 256,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(dim, pool, hidden) < 1:
            raise ValueError(f"dim, pool and hidden must be at least 1, got {dim}, {pool} and {hidden}")
        dd: Any = {"device": device, "dtype": dtype}
        self.dim, self.pool = dim, pool
        self.fc1 = nn.Linear(dim * pool * pool, hidden, **dd)
        self.fc2 = nn.Linear(hidden, 3, **dd)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Weights as torch draws them, no bias: at first the region is about the middle, of middling size."""
        for layer in (self.fc1, self.fc2):
            layer.reset_parameters()
            nn.init.zeros_(layer.bias)

    def forward(self, features: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch 3"]:
        hidden = torch.tanh(self.fc1(grid_max(features, self.pool).flatten(1)))
        u = self.fc2(hidden)
        return F.sigmoid(u.to(torch.promote_types(u.dtype, torch.float32)))

    def extra_repr(self) -> str:
        return f"{self.dim}, pool={self.pool}"
