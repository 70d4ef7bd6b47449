"""Where the pixels of the enlarged image lie among those of the small one.

A pixel i of n along an axis has its centre at c_i = -1 + 1/n + 2i/n. Of the small image it belongs to pixel

    j = round((c_i + 1) n_lr / 2 - 1/2),     halves to the even number,

and lies (c_i - c_j) n_lr from its centre, in halves of its width. Both follow from the axis alone, so that an image
of H x W pixels has H + W such numbers. They are computed in float32 whatever the features are: at a scale of 5/2
every fifth pixel lies halfway between two, and the rounding of float32 decides to which it belongs.
"""

import math
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.eager import must_compose

Size = tuple[int, int]
#: Axes whose tables are kept: two a size, for the sizes of a handful of images and their tiles.
_KEPT = 128


class AxisTable(NamedTuple):
    """Of every pixel along an axis of the enlarged image.

    Attributes:
        index: the pixel of the small image that it belongs to.
        relative: how far from that pixel's centre it lies, in halves of its width; float32.
    """

    index: Int[Tensor, " pixels"]
    relative: Float[Tensor, " pixels"]


_tables: dict[tuple[int, int, torch.device], AxisTable] = {}


def output_size(size: Size, scale: float | int) -> Size:
    """Height and width after enlargement; halves are rounded to the even number.

    Raises:
        ValueError: a scale that is not a finite number above 0.
        TypeError: a scale that is no number.
    """
    if not is_number(scale):
        raise TypeError(f"scale must be a number, got {scale!r}")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a finite number above 0, got {scale}")
    scale = int(scale) if scale == int(scale) else scale  # whole sizes are nothing to round, also where they are open
    return round(size[0] * scale), round(size[1] * scale)


def check_size(size: Any) -> None:
    """Refuse what is not (height, width) in whole pixels.

    Raises:
        ValueError: another number of sides, or a side below 1.
        TypeError: no whole numbers.
    """
    if torch.compiler.is_compiling():
        return
    sides = size if isinstance(size, Sequence) and not isinstance(size, str) else ()
    if not sides or any(isinstance(n, bool) or not isinstance(n, numbers.Integral) for n in sides):
        raise TypeError(f"size must be (height, width), two whole numbers of pixels, got {size!r}")
    if len(sides) != 2:
        raise ValueError(f"size must be (height, width), got {tuple(sides)}")
    if min(sides) < 1:
        raise ValueError(f"size must be of at least one pixel a side, got {tuple(sides)}")


def is_number(value: Any) -> bool:
    """Whether a value is a real number, and no truth value."""
    return torch.compiler.is_compiling() or (isinstance(value, numbers.Real) and not isinstance(value, bool))


def axis_centres(pixels: int, device: torch.device | None = None) -> Float[Tensor, " pixels"]:
    """The centres of the pixels along an axis from -1 to 1, in float32."""
    places = torch.arange(pixels, device=device, dtype=torch.float32)
    return (-1 + 1 / pixels) + (2 / pixels) * places


def make_coords(height: int, width: int, device: torch.device | str | None = None) -> Float[Tensor, "pixels 2"]:
    """(y, x) of the centres of all pixels, row by row, each from -1 to 1; float32."""
    device = torch.empty(0, device=device).device
    y, x = axis_centres(height, device), axis_centres(width, device)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).flatten(0, 1)


def belongs_to(centres: Float[Tensor, "*any"], pixels: int) -> Int[Tensor, "*any"]:
    """Which of the `pixels` along an axis of the small image the places on it belong to."""
    index = ((centres.float() + 1) * (pixels / 2) - 0.5).round()
    return index.clamp(0, pixels - 1).long()


def relative_to(centres: Float[Tensor, "*any"], index: Int[Tensor, "*any"], pixels: int) -> Float[Tensor, "*any"]:
    """How far places lie from the centres of the pixels `index` of the small image, in halves of a pixel's width."""
    return (centres - axis_centres(pixels, centres.device)[index]) * pixels


def axis_table(n_lr: int, n_hr: int, device: torch.device) -> AxisTable:
    """The table of an axis of n_lr pixels that become n_hr; kept for the next image of that size."""
    composed = must_compose()  # sizes are no numbers there, tensors no values
    key = (n_lr, n_hr, device)
    if not composed and key in _tables:
        return _tables[key]
    with torch.inference_mode(False):  # what is kept must serve where gradients are wanted, too
        centres = axis_centres(n_hr, device)
        index = belongs_to(centres, n_lr)
        table = AxisTable(index, relative_to(centres, index, n_lr))
    if not composed and not must_compose(*table) and not index.is_meta:
        if len(_tables) >= _KEPT:
            _tables.pop(next(iter(_tables)))
        _tables[key] = table
    return table
