"""The crop and the rough targets of RA-CNN as the community runs them, for checkpoints and results of others.

"Look Closer to See Better: Recurrent Attention Convolutional Neural Network", Fu, Zheng and Mei, CVPR 2017. First
coordinates index rows here; values are those of the community's code, gradients are the true ones, which its are not.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def racnn_crop(
    images: Float[Tensor, "batch chans height width"],
    places: Float[Tensor, "batch 3"],
    size: int = 224,
    k: float | int = 10,
) -> Float[Tensor, "batch chans rows columns"]:
    """A masked square of whole pixels, resampled with its corners kept.

    The half length is at least a third of the side, the centre such that the square is inside; its edges are cut to
    whole pixels. Differentiable in the images alone: the edges are whole numbers.

    Args:
        images: square ones.
        places: (row, column, half length) of the centre, in pixels.
        size: side of the crop.
        k: steepness of the mask, a pixel.

    Raises:
        ValueError: images that are not square.
    """
    side = images.shape[2]
    if images.shape[3] != side:
        raise ValueError(f"the crop of RA-CNN is of square images, got {tuple(images.shape)}")
    half = places[:, 2:].clamp(min=side / 3)
    centre = torch.minimum(torch.maximum(places[:, :2], half), side - half)
    begin, end = (centre - half).clamp(min=0).trunc(), (centre + half).clamp(max=side).trunc()
    pixels = torch.arange(side, device=images.device, dtype=images.dtype)
    edges = begin[:, :, None], end[:, :, None]
    boxcars = torch.sigmoid(k * (pixels - edges[0])) - torch.sigmoid(k * (pixels - edges[1]))
    masked = images * boxcars[:, None, 0, :, None] * boxcars[:, None, 1, None, :]
    steps = torch.linspace(0, 1, size, device=images.device, dtype=images.dtype)
    # The last pixel of the square is end - 1; places of grid_sample run from -1 to 1 between the corners' middles.
    at = (begin[:, :, None] + (end - 1 - begin)[:, :, None] * steps) * (2 / (side - 1)) - 1
    grid = torch.stack(torch.broadcast_tensors(at[:, 1, None, :], at[:, 0, :, None]), -1)
    return F.grid_sample(masked, grid, "bilinear", "border", align_corners=True)


def racnn_region(
    features: Float[Tensor, "batch dim height width"], side: int, half: float | int = 0.25
) -> Float[Tensor, "batch 3"]:
    """Rough targets (row, column, half length) as fractions: the map enlarged to the image, its largest mean.

    Args:
        features: the map of a trunk.
        side: of the image in pixels.
        half: half length.
    """
    mean = F.interpolate(features.detach(), (side, side), mode="bilinear").mean(1)
    cell = mean.flatten(1).argmax(1)
    rows, columns = cell.div(side, rounding_mode="floor"), cell % side
    centre = (torch.stack([rows, columns], 1) / side).clamp(half, 1 - half)
    return torch.cat([centre, torch.full_like(centre[:, :1], half)], 1).to(features.dtype)
