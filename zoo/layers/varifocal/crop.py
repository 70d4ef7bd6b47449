"""The varifocal crop: the box of each image, resampled to one size.

    x_j = x0 + (x1 - x0) (j + 0.5) / w,      y_i = y0 + (y1 - y0) (i + 0.5) / h

Bilinear, the border repeated. That the crop is rescaled, and that the loss on it reaches the box, the paper states
("Varifocal-Net", Qin et al., 2019, arXiv:1810.05943); the sampling is our design. A box of the whole image and half its
size give exactly 2x2 average pooling, so no filter against aliasing is needed at the usual sizes.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import no_autocast
from zoo.layers.varifocal.region import check_box_options, decode_region


def varifocal_crop(
    images: Float[Tensor, "batch chans height width"], boxes: Float[Tensor, "batch 4"], size: int | Sequence[int]
) -> Float[Tensor, "batch chans new_height new_width"]:
    """The boxes of the images, one each, resampled to one size; differentiable in both.

    Places are computed in float32 at least, whatever the images' precision: in float16 they would be off by up to 0.06
    pixels at 256. What the boxes are is looked at by `check_boxes`.

    Args:
        images: of any channels.
        boxes: (x0, y0, x1, y1) as fractions of the image, float32 or more.
        size: of the crop, one side or (height, width).

    Raises:
        ValueError: no images of rank 4, or not a box each.
    """
    if images.ndim != 4 or boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.shape[0] != images.shape[0]:
        raise ValueError(
            f"expected images (batch, chans, height, width) and boxes (batch, 4), got {tuple(images.shape)} and "
            f"{tuple(boxes.shape)}"
        )
    height, width = (size, size) if isinstance(size, int) else size
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


def check_boxes(boxes: Tensor) -> None:
    """Refuse what are no boxes in an image; it looks at values, so it is not for compiled code.

    Raises:
        ValueError: another shape, an edge outside [0, 1], or no area.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be (batch, 4), (x0, y0, x1, y1) of each, got {tuple(boxes.shape)}")
    if not boxes.numel() or boxes.is_meta:
        return
    slack = 4 * torch.finfo(boxes.dtype).eps
    wrong = ~((boxes >= -slack) & (boxes <= 1 + slack)).all(1)
    if wrong.any():
        found = boxes[wrong][0].tolist()
        raise ValueError(f"boxes must be inside the image, all numbers in [0, 1], got {found}; divide pixels by size")
    empty = (boxes[:, :2] >= boxes[:, 2:]).any(1)
    if empty.any():
        raise ValueError(f"boxes must have x0 < x1 and y0 < y1, got {boxes[empty][0].tolist()}")


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
        sides: Any = (size, size) if isinstance(size, int) else tuple(size)
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"size must be one side or (height, width), from 1, got {size!r}")
        check_box_options(box_mode, min_ratio)
        self.size: tuple[int, int] = sides
        self.box_mode, self.min_ratio = box_mode, min_ratio

    def forward(
        self, images: Float[Tensor, "batch chans height width"], region: Float[Tensor, "batch 3"]
    ) -> tuple[Float[Tensor, "batch chans new_height new_width"], Float[Tensor, "batch 4"]]:
        box = decode_region(region, self.box_mode, self.min_ratio)
        return varifocal_crop(images, box, self.size), box

    def extra_repr(self) -> str:
        return f"{self.size}, box_mode={self.box_mode!r}, min_ratio={self.min_ratio}"
