"""Making images smaller as MATLAB's `imresize` does, with which papers on super-resolution make their small images."""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

#: Keys' cubic with a = -0.5 reaches so far.
_REACH = 2.0
_A = -0.5


def bicubic_downscale(x: Tensor, size: tuple[int, int]) -> Float[Tensor, "*batch new_height new_width"]:
    """y = R x C^T with the weights of Keys' cubic (a = -1/2), stretched by the factor where the image becomes smaller.

    Pixels beyond the border are mirrored, the border included. `torch.nn.functional.interpolate` has another cubic
    (a = -3/4), and repeats the border.

    Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 1981.

    Args:
        x: images (*, height, width), float; computed in the type that they have.
        size: height and width of the result.

    Raises:
        ValueError: a size below 1, or images that are no numbers with a fraction.
    """
    if min(size) < 1 or min(x.shape[-2:]) < 1:
        raise ValueError(f"sizes must be at least 1, got {tuple(x.shape[-2:])} and {tuple(size)}")
    if not x.is_floating_point():
        raise ValueError(f"images must be float, in [0, 1] say, got {x.dtype}; divide by 255")
    rows, columns = (_weights(old, new).to(x) for old, new in zip(x.shape[-2:], size, strict=True))
    return rows @ x @ columns.mT


@lru_cache(maxsize=64)
def _weights(old: int, new: int) -> Tensor:
    """(new, old): how much each pixel of an axis counts in each of the new ones."""
    step = old / new
    stretch = max(step, 1.0)
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * step - 0.5
    reach = _REACH * stretch
    first = (centres - reach).floor().long() + 1
    taps = first[:, None] + torch.arange(math.ceil(2 * reach) + 1)
    weights = _cubic((taps - centres[:, None]) / stretch)
    weights /= weights.sum(1, keepdim=True)
    mirrored = taps.remainder(2 * old)
    mirrored = torch.where(mirrored < old, mirrored, 2 * old - 1 - mirrored)
    return torch.zeros(new, old, dtype=torch.float64).scatter_add_(1, mirrored, weights)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' kernel."""
    d = distance.abs()
    near = (_A + 2) * d**3 - (_A + 3) * d**2 + 1
    far = _A * (d**3 - 5 * d**2 + 8 * d - 4)
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
