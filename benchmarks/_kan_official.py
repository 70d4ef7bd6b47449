"""The layers of efficient-kan, fast-kan and faster-kan as their arithmetic is: what KAN layers are measured against."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SplineLinear(nn.Module):
    """efficient-kan's: the recursion over the whole grid, knots for every input, scaled edges, SiLU base."""

    grid: Tensor

    def __init__(self, in_features: int, out_features: int, grid_size: int = 5, order: int = 3) -> None:
        super().__init__()
        self.grid_size, self.order = grid_size, order
        knots = torch.arange(-order, grid_size + order + 1) * (2 / grid_size) - 1
        self.register_buffer("grid", knots.expand(in_features, -1).contiguous())
        self.base_weight = nn.Parameter(torch.randn(out_features, in_features) / in_features)
        self.spline_weight = nn.Parameter(torch.randn(out_features, in_features, grid_size + order) / in_features)
        self.spline_scaler = nn.Parameter(torch.randn(out_features, in_features))

    def bases(self, x: Tensor) -> Tensor:
        x, grid = x.unsqueeze(-1), self.grid
        bases = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
        for d in range(1, self.order + 1):
            rising = (x - grid[:, : -(d + 1)]) / (grid[:, d:-1] - grid[:, : -(d + 1)]) * bases[:, :, :-1]
            falling = (grid[:, d + 1 :] - x) / (grid[:, d + 1 :] - grid[:, 1:-d]) * bases[:, :, 1:]
            bases = rising + falling
        return bases

    def scaled_weight(self) -> Tensor:
        return self.spline_weight * self.spline_scaler.unsqueeze(-1)

    def forward(self, x: Tensor) -> Tensor:
        base = F.linear(F.silu(x), self.base_weight)
        return base + F.linear(self.bases(x).flatten(1), self.scaled_weight().flatten(1))

    @torch.no_grad()
    def update_grid(self, x: Tensor, margin: float = 0.01, grid_eps: float = 0.02) -> None:
        """Every curve evaluated at every row, knots moved, every curve fitted again."""
        batch, step_count = x.shape[0], self.grid_size
        curves = (self.bases(x).permute(1, 0, 2) @ self.scaled_weight().permute(1, 2, 0)).permute(1, 0, 2)
        ordered = x.sort(dim=0).values
        adaptive = ordered[torch.linspace(0, batch - 1, step_count + 1, dtype=torch.int64)]
        step = (ordered[-1] - ordered[0] + 2 * margin) / step_count
        even = torch.arange(step_count + 1, dtype=x.dtype).unsqueeze(1) * step + ordered[0] - margin
        grid = grid_eps * even + (1 - grid_eps) * adaptive
        outer = step * torch.arange(1, self.order + 1).unsqueeze(1)
        self.grid.copy_(torch.cat([grid[:1] - outer.flip(0), grid, grid[-1:] + outer]).T)
        fitted = torch.linalg.lstsq(self.bases(x).transpose(0, 1), curves.transpose(0, 1)).solution
        self.spline_weight.copy_(fitted.permute(2, 0, 1))


class GaussianLinear(nn.Module):
    """fast-kan's: 8 Gaussians on [-2, 2] after a layer norm, SiLU base with a bias."""

    grid: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_features)
        self.register_buffer("grid", torch.linspace(-2, 2, 8))
        self.spline = nn.Linear(8 * in_features, out_features, bias=False)
        self.base = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        bases = torch.exp(-(((self.norm(x).unsqueeze(-1) - self.grid) / (4 / 7)) ** 2))
        return self.spline(bases.flatten(1)) + self.base(F.silu(x))


class SwitchLinear(nn.Module):
    """faster-kan's: 8 switches on [-1.2, 0.2] after a layer norm, with its own backward pass."""

    grid: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_features)
        self.register_buffer("grid", torch.linspace(-1.2, 0.2, 8))
        self.spline = nn.Linear(8 * in_features, out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        bases: Tensor = _Switch.apply(self.norm(x), self.grid)  # pyright: ignore[reportAssignmentType]
        return self.spline(bases.flatten(1))


class _Switch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        tanh = torch.tanh(x.unsqueeze(-1) - grid)
        bases = 1 - tanh**2
        ctx.save_for_backward(tanh, bases)
        return bases

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        tanh, bases = ctx.saved_tensors
        return (0.5 * (-2 * tanh * bases) * grads[0]).sum(-1), None
