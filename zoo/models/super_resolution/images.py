"""What images a network that enlarges them takes."""

import warnings

from torch import Tensor

#: Resampling overshoots, noise may be added; images of 0 to 255 and standardised ones go further.
_LOWEST, _HIGHEST = -1.0, 2.0


def check_images(x: Tensor, in_chans: int) -> None:
    """Refuse what is no batch of images.

    Raises:
        ValueError: another rank or number of channels, or no pixels.
        TypeError: whole numbers.
    """
    if x.ndim != 4 or x.shape[1] != in_chans:
        hint = "; add the batch with x[None]" if x.ndim == 3 else ""
        raise ValueError(f"expected images (batch, {in_chans}, height, width), got {tuple(x.shape)}{hint}")
    if not x.is_floating_point():
        raise TypeError(
            f"images must be floating point in [0, 1], got {x.dtype}: x.float() / 255; `upscale` takes pictures as "
            "they are"
        )
    if min(x.shape[2:]) < 1:
        raise ValueError(f"images must have at least one pixel, got {x.shape[2]}x{x.shape[3]}")


def warn_of_range(x: Tensor) -> None:
    """Warn of values far outside [0, 1]."""
    if not x.numel():
        return
    least, most = (float(value) for value in x.aminmax())
    if least < _LOWEST or most > _HIGHEST:
        what = "x / 255" if most > 20 else "normalisation is inside the network"
        warnings.warn(f"images must be in [0, 1], got values from {least:.3g} to {most:.3g}: {what}", stacklevel=3)
