"""A part of a bilinearly enlarged image, equal to that part of the whole."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Slices = tuple[slice, slice]


class _Between(NamedTuple):
    """Of every pixel along an axis: the two of the small image that it lies between, and how far along."""

    lower: Tensor
    upper: Tensor
    weight: Tensor


def bilinear_part(
    window: Float[Tensor, "batch chans height width"],
    small: tuple[int, int],
    size: tuple[int, int],
    seen: Slices,
    wanted: Slices,
) -> Float[Tensor, "batch chans new_height new_width"]:
    """What `F.interpolate(whole, size, mode="bilinear")` has at some rows and columns.

    Args:
        window: a part of the whole small image, one pixel more on every side than the wanted ones belong to.
        small: height and width of the whole.
        size: of the whole enlarged image.
        seen: rows and columns of the whole that the window has.
        wanted: rows and columns of the enlarged image.
    """
    rows = _between(small[0], size[0], seen[0], wanted[0], window)
    columns = _between(small[1], size[1], seen[1], wanted[1], window)
    found = torch.lerp(window.index_select(2, rows.lower), window.index_select(2, rows.upper), rows.weight[:, None])
    return torch.lerp(found.index_select(3, columns.lower), found.index_select(3, columns.upper), columns.weight)


def _between(extent: int, pixels: int, seen: slice, wanted: slice, like: Tensor) -> _Between:
    """In the arithmetic of `F.interpolate`, with indices from the beginning of what is seen."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    places = torch.arange(wanted.start, wanted.stop, device=like.device, dtype=dtype)
    ratio = torch.tensor(extent, dtype=dtype, device=like.device) / pixels
    places = ((places + 0.5) * ratio - 0.5).clamp_(min=0)
    lower = places.long().clamp_(max=extent - 1)
    upper = (lower + 1).clamp_(max=extent - 1)
    return _Between(lower - seen.start, upper - seen.start, (places - lower).to(like.dtype))
