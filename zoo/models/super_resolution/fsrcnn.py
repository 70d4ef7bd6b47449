"""FSRCNN: features are computed at the size of the small image, a transposed convolution enlarges them at the end.

"Accelerating the Super-Resolution Convolutional Neural Network", Dong, Loy and Tang, ECCV 2016, arXiv:1608.00367.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.models.super_resolution.network import SuperResolutionNet, draw_small


class FSRCNN(SuperResolutionNet):
    """conv 5x5 to d, 1x1 to s, m times conv 3x3 on s, 1x1 to d, transposed conv 9x9 with stride 4.

    Each but the m convolutions is followed by a PReLU of one slope; the m have one after the last of them.

    Args:
        scale: 4.
        d, s, m: width of the features, width of the m convolutions in the middle, and their number.
        in_chans, mean, std, no_upsampling: as in `SuperResolutionNet`.
    """

    scales: ClassVar[tuple[int, ...]] = (4,)

    def __init__(
        self,
        scale: int = 4,
        *,
        d: int = 56,
        s: int = 12,
        m: int = 4,
        in_chans: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        no_upsampling: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(scale, in_chans, d, mean, std, no_upsampling)
        place: Any = {"device": device, "dtype": dtype}
        self.head_conv = nn.Sequential(nn.Conv2d(in_chans, d, 5, padding=2, **place), nn.PReLU(**place))
        self.body_conv = nn.Sequential(
            nn.Sequential(nn.Conv2d(d, s, 1, **place), nn.PReLU(**place)),
            *(nn.Conv2d(s, s, 3, padding=1, **place) for _ in range(m)),
            nn.PReLU(**place),
            nn.Sequential(nn.Conv2d(s, d, 1, **place), nn.PReLU(**place)),
        )
        if not no_upsampling:
            self.tail_conv = nn.ConvTranspose2d(d, in_chans, 9, stride=4, padding=3, output_padding=1, **place)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small normal numbers in the convolutions; the transposed one and the slopes as torch draws them."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                draw_small(part)
            elif isinstance(part, nn.PReLU | nn.ConvTranspose2d):
                part.reset_parameters()

    def forward_features(
        self, x: Float[Tensor, "batch in_chans height width"]
    ) -> Float[Tensor, "batch d height width"]:
        return self.body_conv(self.head_conv(x))

    def forward_tail(
        self, features: Float[Tensor, "batch d height width"], x: Float[Tensor, "batch in_chans height width"]
    ) -> Float[Tensor, "batch in_chans new_height new_width"]:
        return self.tail_conv(features)
