"""Seams between classes are smoothed: a pixel beside one of a heavier class becomes the mean around it."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor


def refined(
    image: Float[Tensor, "batch chans height width"], classes: UInt8[Tensor, "batch height width"]
) -> Float[Tensor, "batch chans height width"]:
    """Pixels with a heavier class among their 8 neighbours become the mean of their 3x3 pixels.

    Pixels of the outermost rows and columns stay as they are. All means are of the values before.

    Args:
        image: the enlarged image.
        classes: of its pixels.
    """
    if min(image.shape[2:]) < 3:
        return image
    means = F.avg_pool2d(image, 3, 1, 1)  # those of the border are not used
    return torch.where(beside_heavier(classes).unsqueeze(1), means, image)


def beside_heavier(classes: UInt8[Tensor, "batch height width"]) -> Bool[Tensor, "batch height width"]:
    """Where one of the 8 neighbours is of a heavier class; nowhere in the outermost rows and columns."""
    heaviest = F.max_pool2d(classes.float().unsqueeze(1), 3, 1).squeeze(1)
    return F.pad(heaviest > classes[:, 1:-1, 1:-1], (1, 1, 1, 1))
