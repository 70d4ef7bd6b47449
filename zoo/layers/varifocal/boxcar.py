"""The soft box of RA-CNN, a product of two boxcars: useful beside checkpoints of others, and for plots."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.layers.varifocal.checks import both_sides, look_at_boxes


def boxcar_mask(
    boxes: Float[Tensor, "batch 4"], size: int | Sequence[int], k: float | int = 10
) -> Float[Tensor, "batch 1 height width"]:
    """The box with soft edges, at the pixels x = 0..W-1 and y = 0..H-1.

        M = (s(k (x - x0)) - s(k (x - x1))) (s(k (y - y0)) - s(k (y - y1)))

    s is the logistic function; x0, ... are the edges of the box in pixels.

    Args:
        boxes: (x0, y0, x1, y1) as fractions of the image.
        size: of the image in pixels, one side or (height, width).
        k: steepness, a pixel.

    Raises:
        TypeError, ValueError: boxes as `varifocal_crop` refuses them, no size, or a steepness that is not above 0.
    """
    look_at_boxes(boxes)
    height, width = both_sides(size, "size")
    if not k > 0:
        raise ValueError(f"k must be a steepness above 0, got {k!r}")
    x, y = (torch.arange(n, device=boxes.device, dtype=boxes.dtype) for n in (width, height))
    x0, y0, x1, y1 = (edge[:, None] for edge in boxes.unbind(1))
    across = _boxcar(x, x0 * width, x1 * width, k)
    down = _boxcar(y, y0 * height, y1 * height, k)
    return (down[:, :, None] * across[:, None, :])[:, None]


def _boxcar(places: Tensor, begin: Tensor, end: Tensor, k: float | int) -> Tensor:
    return torch.sigmoid(k * (places - begin)) - torch.sigmoid(k * (places - end))
