"""The local network: the crop, and its class."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.models.varifocal.backbone import BackboneLike
from zoo.models.varifocal.output import VarifocalOutput
from zoo.models.varifocal.scale import ScaleNet


class LNet(ScaleNet):
    """L-Net of Varifocal-Net: classifies what the varifocal mechanism cropped. The trunk is G-Net's, with own weights.

    Shapes: (batch, in_chans, height, width) to `VarifocalOutput` with l_type, l_polarity and features.

    Args:
        img_size: of the crops, which at test time must be of the size of training.
        backbone, num_classes, in_chans, head_pool, stem, widths, depths, strides: as of `GNet`. The paper states a
            max-pool of 4, which gives as many features as G-Net's of 8 on images of twice the size.

    Raises:
        ValueError: an option out of range, an unknown backbone, or crops smaller than a cell of its map.
    """

    def __init__(
        self,
        backbone: BackboneLike = None,
        num_classes: int | Sequence[int] = (24, 2),
        *,
        in_chans: int = 1,
        img_size: int | Sequence[int] = 128,
        head_pool: int = 4,
        stem: int = 16,
        widths: Sequence[int] = (160, 320, 640),
        depths: Sequence[int] = (4, 4, 4),
        strides: Sequence[int] = (2, 2, 2),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        wide = {"stem": stem, "widths": widths, "depths": depths, "strides": strides}
        place: Any = {"device": device, "dtype": dtype}
        super().__init__(backbone, num_classes, in_chans, img_size, head_pool, wide, place)

    def forward(self, x: Float[Tensor, "batch chans height width"]) -> VarifocalOutput:
        pooled = self.pooled(self.forward_map(x))
        l_type, l_polarity = self.head(pooled)
        return VarifocalOutput(l_type=l_type, l_polarity=l_polarity, features=pooled)
