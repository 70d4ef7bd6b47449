"""What images a network that enlarges them takes."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from zoo.eager import autocasts, must_compose

#: Resampling overshoots, noise may be added; images of 0 to 255 and standardised ones go further.
_LOWEST, _HIGHEST = -1.0, 2.0


def check_images(x: Any, in_chans: int, dtype: torch.dtype) -> None:
    """Refuse what is no batch of images.

    Args:
        x: the images.
        in_chans: their channels.
        dtype: of the network.

    Raises:
        ValueError: another rank or number of channels, or no pixels.
        TypeError: no tensor, whole numbers, or another precision than the network's where autocast is off.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"images must be a tensor, got {type(x).__name__}; `upscale` takes pictures as they are")
    if x.ndim != 4 or x.shape[1] != in_chans:
        hint = "; add the batch with x[None]" if x.ndim == 3 else ""
        raise ValueError(f"expected images (batch, {in_chans}, height, width), got {tuple(x.shape)}{hint}")
    if not x.is_floating_point():
        raise TypeError(
            f"images must be floating point in [0, 1], got {x.dtype}: x.float() / 255; `upscale` takes pictures as "
            "they are"
        )
    if x.dtype != dtype and not must_compose(x) and not autocasts(x):
        raise TypeError(f"images are {x.dtype} and the network is {dtype}: x.to({dtype}), or model.to({x.dtype})")
    if min(x.shape[2:]) < 1:
        raise ValueError(f"images must have at least one pixel, got {x.shape[2]}x{x.shape[3]}")


def check_values(x: Tensor) -> None:
    """Refuse values that are not finite, and warn of those far outside [0, 1].

    Raises:
        ValueError: NaN or infinity, with its place.
    """
    least, most = finite_range(x)
    if least < _LOWEST or most > _HIGHEST:
        what = "x / 255" if most > 20 else "normalisation is inside the network"
        warnings.warn(f"images must be in [0, 1], got values from {least:.3g} to {most:.3g}: {what}", stacklevel=3)


def check_real(picture: Tensor, where: str) -> None:
    """Refuse real numbers that are not those of a picture.

    Args:
        picture: from 0, black, to 1, white.
        where: what it is, for messages.

    Raises:
        ValueError: values beyond, NaN or infinity.
    """
    least, most = finite_range(picture, where)
    if not (least >= 0 and most <= 1):
        way = "divide by the value of white, or give whole numbers of 8 or 16 bits" if most > 2 else "clip them"
        raise ValueError(f"{where} has real numbers from {least:.3g} to {most:.3g}, where 0 to 1 are expected: {way}")


def finite_range(x: Tensor, what: str = "images") -> tuple[float, float]:
    """The least and the largest value; 0 and 0 of none.

    Args:
        x: values.
        what: they are of, for messages.

    Raises:
        ValueError: NaN or infinity, with its place.
    """
    if not x.numel():
        return 0.0, 0.0
    least, most = (float(value) for value in x.detach().aminmax())
    if not (math.isfinite(least) and math.isfinite(most)):
        bad = (~x.detach().isfinite()).nonzero()
        raise ValueError(
            f"{what} must be finite: NaN or infinity in {len(bad)} of {x.numel()} values, the first at "
            f"{tuple(bad[0].tolist())} of {tuple(x.shape)}"
        )
    return least, most
