"""SRResNet in its form without batch norm ("MSRResNet"), with the bilinearly enlarged image added at the end.

"Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", Ledig et al., CVPR 2017,
arXiv:1609.04802; without batch norm: "ESRGAN", Wang et al., 2018, arXiv:1809.00219.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.models.super_resolution.network import SuperResolutionNet, draw_small

_SLOPE = 0.1


class SRResNet(SuperResolutionNet):
    """lrelu(conv 3x3), nb times x + conv(relu(conv(x))), then convolutions with pixel shuffles.

    Unlike the paper's, there is no convolution and no skip around all blocks.

    Args:
        scale: 2, 3 or 4.
        nf: width.
        nb: blocks.
        in_chans, mean, std, no_upsampling: as in `SuperResolutionNet`.
    """

    scales: ClassVar[tuple[int, ...]] = (2, 3, 4)

    def __init__(
        self,
        scale: int = 4,
        *,
        nf: int = 64,
        nb: int = 16,
        in_chans: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        no_upsampling: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(scale, in_chans, nf, mean, std, no_upsampling)
        place: Any = {"device": device, "dtype": dtype}
        self.conv_first = nn.Conv2d(in_chans, nf, 3, padding=1, **place)
        self.recon_trunk = nn.Sequential(*(ResidualBlock(nf, **place) for _ in range(nb)))
        if not no_upsampling:
            step = 3 if scale == 3 else 2
            self.upconv1 = nn.Conv2d(nf, nf * step * step, 3, padding=1, **place)
            self.upconv2 = nn.Conv2d(nf, nf * step * step, 3, padding=1, **place) if scale == 4 else None
            self.HRconv = nn.Conv2d(nf, nf, 3, padding=1, **place)
            self.conv_last = nn.Conv2d(nf, in_chans, 3, padding=1, **place)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small normal numbers."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                draw_small(part)

    def forward_features(
        self, x: Float[Tensor, "batch in_chans height width"]
    ) -> Float[Tensor, "batch nf height width"]:
        return self.recon_trunk(F.leaky_relu(self.conv_first(x), _SLOPE))

    def forward_tail(
        self, features: Float[Tensor, "batch nf height width"], x: Float[Tensor, "batch in_chans height width"]
    ) -> Float[Tensor, "batch in_chans new_height new_width"]:
        for convolution in (self.upconv1, self.upconv2):
            if convolution is not None:
                step = 3 if self.scale == 3 else 2
                features = F.leaky_relu(F.pixel_shuffle(convolution(features), step), _SLOPE)
        detail = self.conv_last(F.leaky_relu(self.HRconv(features), _SLOPE))
        size = (x.shape[2] * self.scale, x.shape[3] * self.scale)
        return detail + F.interpolate(x, size, mode="bilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """x + conv 3x3(relu(conv 3x3(x)))."""

    def __init__(self, nf: int, **place: Any) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(nf, nf, 3, padding=1, **place)
        self.conv2 = nn.Conv2d(nf, nf, 3, padding=1, **place)

    def forward(self, x: Float[Tensor, "batch nf height width"]) -> Float[Tensor, "batch nf height width"]:
        return x + self.conv2(self.conv1(x).relu())
