"""Norms, projections and patterns of a Hopfield layer, any of which may be left out."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.layers.hopfield.options import norm_options


def optional_norm(
    name: str, option: bool | Mapping[str, Any], width: int | None, place: dict[str, Any], *, affine: bool = True
) -> nn.LayerNorm | None:
    """The layer norm that an option asks for.

    Raises:
        ValueError, TypeError: as `norm_options`; a norm of unknown width.
    """
    options = norm_options(name, option, affine=affine)
    if options is None:
        return None
    if width is None:
        raise ValueError(f"{name} needs a width: give dim or head_dim, or {name}=False")
    return nn.LayerNorm(width, **options, **place)


def optional_linear(
    wanted: bool, in_features: int | None, out_features: int | None, bias: bool, place: dict[str, Any]
) -> nn.Linear | None:
    """A projection, if one is wanted."""
    return nn.Linear(in_features or 0, out_features or 0, bias, **place) if wanted else None


def optional_pattern(wanted: bool, num_heads: int, width: int | None, place: dict[str, Any]) -> nn.Parameter | None:
    """A learned pattern for each head, if wanted."""
    return nn.Parameter(torch.empty(num_heads, width or 0, **place)) if wanted else None


def apply(part: nn.Module | None, x: Tensor) -> Tensor:
    """What a part makes of x; x itself where there is none."""
    return x if part is None else part(x)


def append_pattern(heads: Tensor, pattern: Tensor | None) -> Tensor:
    """One more stored pattern, (heads, width), behind those of every sample."""
    if pattern is None:
        return heads
    return torch.cat([heads, pattern.to(heads.dtype)[:, None].expand(heads.shape[0], -1, -1, -1)], 2)
