"""The varifocal crop: the box of each image, resampled to one size.

    x_j = x0 + (x1 - x0) (j + 0.5) / w,      y_i = y0 + (y1 - y0) (i + 0.5) / h

Bilinear, the border repeated. That the crop is rescaled, and that the loss on it reaches the box, the paper states
("Varifocal-Net", Qin et al., 2019, arXiv:1810.05943); the sampling is our design. A box of the whole image and half its
size give exactly 2x2 average pooling, so no filter against aliasing is needed at the usual sizes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import no_autocast
from zoo.layers.varifocal.checks import both_sides, look_at_boxes
from zoo.layers.varifocal.region import check_box_options, decode_region


def varifocal_crop(
    images: Float[Tensor, "batch chans height width"], boxes: Float[Tensor, "batch 4"], size: int | Sequence[int]
) -> Float[Tensor, "batch chans new_height new_width"]:
    """The boxes of the images, one each, resampled to one size; differentiable in both.

    Places are computed in float32 at least, whatever the images' precision: in float16 they would be off by up to 0.06
    pixels at 256.

    Args:
        images: of any channels.
        boxes: (x0, y0, x1, y1) as fractions of the image, float32 or more.
        size: of the crop, one side or (height, width).

    Raises:
        TypeError: boxes that are no tensor.
        ValueError: no images of rank 4, or not a box each; an edge outside [0, 1], no area or NaN, which is not looked
            at in compiled code nor while something is learned on a GPU (`check_boxes` always does); no size.
    """
    look_at_boxes(boxes, images)
    if images.ndim != 4 or boxes.shape[0] != images.shape[0]:
        raise ValueError(
            f"expected images (batch, chans, height, width) and boxes (batch, 4), got {tuple(images.shape)} and "
            f"{tuple(boxes.shape)}"
        )
    return crop_inside(images, boxes, both_sides(size, "size"))


def crop_inside(
    images: Float[Tensor, "batch chans height width"], boxes: Float[Tensor, "batch 4"], size: tuple[int, int]
) -> Float[Tensor, "batch chans new_height new_width"]:
    """`varifocal_crop` of boxes that `decode_region` gave: they are inside by construction, and nothing is checked."""
    height, width = size
    exact = torch.promote_types(torch.promote_types(images.dtype, boxes.dtype), torch.float32)
    edges = 2 * boxes.to(exact) - 1  # of grid_sample, from -1 to 1
    x = _places(edges[:, 0], edges[:, 2], width)
    y = _places(edges[:, 1], edges[:, 3], height)
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1)
    with no_autocast(images):
        crop = F.grid_sample(images.to(exact), grid, "bilinear", "border", align_corners=False)
    return crop.to(images.dtype)


def _places(begin: Tensor, end: Tensor, count: int) -> Tensor:
    steps = (torch.arange(count, device=begin.device, dtype=begin.dtype) + 0.5) / count
    return begin[:, None] + (end - begin)[:, None] * steps


class VarifocalCrop(nn.Module):
    """Box and crop of a region: `decode_region`, then `varifocal_crop`. It has no parameters.

    Shapes: images (batch, chans, height, width) and region (batch, 3) to the crop (batch, chans, *size) and its box
    (batch, 4).

    Args:
        size: of the crop, one side or (height, width).
        box_mode, min_ratio: of `decode_region`.

    Raises:
        ValueError: no size, an unknown mode, or a ratio out of (0, 1].
    """

    def __init__(self, size: int | Sequence[int], *, box_mode: str = "inset", min_ratio: float | int = 0.25) -> None:
        super().__init__()
        check_box_options(box_mode, min_ratio)
        self.size = both_sides(size, "size")
        self.box_mode, self.min_ratio = box_mode, min_ratio

    def forward(
        self, images: Float[Tensor, "batch chans height width"], region: Float[Tensor, "batch 3"]
    ) -> tuple[Float[Tensor, "batch chans new_height new_width"], Float[Tensor, "batch 4"]]:
        box = decode_region(region, self.box_mode, self.min_ratio)
        return varifocal_crop(images, box, self.size), box

    def extra_repr(self) -> str:
        return f"{self.size}, box_mode={self.box_mode!r}, min_ratio={self.min_ratio}"
