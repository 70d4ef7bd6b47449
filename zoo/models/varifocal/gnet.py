"""The global network: the whole image, its class, and where to look again."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.layers.varifocal.localization_head import LocalizationHead
from zoo.layers.varifocal.region import check_box_options, decode_region
from zoo.models.varifocal.backbone import BackboneLike
from zoo.models.varifocal.output import VarifocalOutput
from zoo.models.varifocal.scale import ScaleNet


class GNet(ScaleNet):
    """G-Net of Varifocal-Net: classifies an image and proposes the box that a second look is worth.

    Shapes: (batch, in_chans, height, width) to `VarifocalOutput` with g_type, g_polarity, region, box and features.

    The paper (Qin et al., 2019, arXiv:1810.05943) states the trunk, max-pools of 8 and 4 before the classifiers and
    the localisation, a linear map a task, and two for the localisation with a sigmoid behind; the image's size (256 in
    a discussion of the time), the decoding of the box and hidden widths are our design, and arguments.

    Args:
        backbone: None for the paper's trunk, a name of ours or timm's, `{"name": ..., **options}`, a composition such
            as `{"base": "resnet18", "act": "mish"}`, or a module that gives a map; a module is copied.
        num_classes: (types, polarities), or a number of types alone.
        in_chans: channels of the image.
        img_size: of the images that it is made for, one side or (height, width).
        head_pool: cells a side that the classifiers see.
        loc_pool: cells a side that the localisation sees.
        loc_hidden: width within the localisation.
        box_mode: "inset" or "clamp", see `decode_region`.
        min_ratio: side of the smallest box, as a fraction of the image's.
        stem, widths, depths, strides: of the paper's trunk.

    Raises:
        ValueError: an option out of range, an unknown backbone, or images smaller than a cell of its map.
    """

    def __init__(
        self,
        backbone: BackboneLike = None,
        num_classes: int | Sequence[int] = (24, 2),
        *,
        in_chans: int = 1,
        img_size: int | Sequence[int] = 256,
        head_pool: int = 4,
        loc_pool: int = 8,
        loc_hidden: int = 256,
        box_mode: str = "inset",
        min_ratio: float | int = 0.25,
        stem: int = 16,
        widths: Sequence[int] = (160, 320, 640),
        depths: Sequence[int] = (4, 4, 4),
        strides: Sequence[int] = (2, 2, 2),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_box_options(box_mode, min_ratio)
        wide = {"stem": stem, "widths": widths, "depths": depths, "strides": strides}
        place: Any = {"device": device, "dtype": dtype}
        super().__init__(backbone, num_classes, in_chans, img_size, head_pool, wide, place)
        self.loc = LocalizationHead(self.shape.dim, pool=loc_pool, hidden=loc_hidden, **place)
        self.box_mode, self.min_ratio = box_mode, min_ratio

    def forward(self, x: Float[Tensor, "batch chans height width"]) -> VarifocalOutput:
        features = self.forward_map(x)
        pooled = self.pooled(features)
        g_type, g_polarity = self.head(pooled)
        region = self.loc(features)
        box = decode_region(region, self.box_mode, self.min_ratio)
        return VarifocalOutput(g_type=g_type, g_polarity=g_polarity, region=region, box=box, features=pooled)
