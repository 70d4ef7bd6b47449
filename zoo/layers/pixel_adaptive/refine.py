"""Seams between classes are smoothed: a pixel beside one of a heavier class becomes the mean around it."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

#: Pixels whose neighbours are added up at a time.
_AT_A_TIME = 32_768


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


def refine_(
    image: Float[Tensor, "batch chans height width"], classes: UInt8[Tensor, "batch height width"]
) -> Float[Tensor, "batch chans height width"]:
    """`refined` in place, without gradients: on a CPU only the pixels that change are touched.

    Args:
        image: the enlarged image.
        classes: of its pixels.
    """
    if min(image.shape[2:]) < 3:
        return image
    if image.device.type != "cpu" or not image.is_contiguous():
        return image.copy_(refined(image, classes))
    width = image.shape[3]
    around = [row * width + column for row in (-1, 0, 1) for column in (-1, 0, 1)]
    for values, marked in zip(image.flatten(2), beside_heavier(classes).flatten(1), strict=True):
        pixels = marked.nonzero().squeeze(1)
        means = torch.zeros(len(values), len(pixels), dtype=image.dtype)
        for begin in range(0, len(pixels), _AT_A_TIME):
            chosen, sums = pixels[begin : begin + _AT_A_TIME], means[:, begin : begin + _AT_A_TIME]
            for step in around:
                sums += values.index_select(1, chosen + step)
        values.index_copy_(1, pixels, means.div_(9))
    return image


def beside_heavier(classes: UInt8[Tensor, "batch height width"]) -> Bool[Tensor, "batch height width"]:
    """Where one of the 8 neighbours is of a heavier class; nowhere in the outermost rows and columns."""
    rows = torch.maximum(torch.maximum(classes[:, :-2], classes[:, 1:-1]), classes[:, 2:])
    heaviest = torch.maximum(torch.maximum(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:])
    return F.pad(heaviest > classes[:, 1:-1, 1:-1], (1, 1, 1, 1))
