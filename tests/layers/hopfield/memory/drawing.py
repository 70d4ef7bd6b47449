"""Patterns and states for the tests of memories."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers, the same whenever they are asked for."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def on_sphere(count: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random patterns of the length sqrt(dim - 1)."""
    x = draw(count, dim, seed=seed, dtype=dtype)
    return x / x.norm(dim=-1, keepdim=True) * (dim - 1) ** 0.5
