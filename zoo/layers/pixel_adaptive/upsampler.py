"""The pixel-adaptive upsampler as a module behind features."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.layers.pixel_adaptive.coordinates import output_size
from zoo.layers.pixel_adaptive.decide import argmax_classes
from zoo.layers.pixel_adaptive.heads import PixelHeads
from zoo.layers.pixel_adaptive.refine import refined


class PCSRUpsampler(PixelHeads):
    """Enlarges features into an image, each of its pixels by the network that a classifier chooses for it.

    In evaluation y = network_j(pixel) with j the class of the highest score; in training y = sum_j p_j network_j(pixel)
    with p the softmax of the scores, through which the classifier learns. `PCSR` has it behind a backbone, with the
    bilinearly enlarged image added, and with other ways of deciding.

    "Accelerating Image Super-Resolution Networks with Pixel-Level Classification", Jeong et al., ECCV 2024,
    arXiv:2407.21448.

    Shapes: (batch, in_chans, height, width) to (batch, out_chans, scale height, scale width).

    Args:
        in_chans: channels of the features.
        out_chans: channels of the image.
        scale: how much larger it is; need not be whole.
        hidden: widths of the hidden layers of each network, from light to heavy.
        classifier: widths of the hidden layers of the classifier.
        smooth: in evaluation, give pixels beside one of a heavier class the mean around them.

    Raises:
        ValueError: fewer than two networks, networks not ascending in cost, a size below 1, or a scale that is none.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int = 3,
        scale: float | int = 4,
        *,
        hidden: Sequence[Sequence[int]] = ((20, 20, 20), (74, 74, 74, 74)),
        classifier: Sequence[int] = (10, 10),
        smooth: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_chans, out_chans, hidden, classifier, device=device, dtype=dtype)
        output_size((1, 1), scale)
        self.in_chans, self.out_chans, self.scale, self.smooth = in_chans, out_chans, scale, smooth

    def reset_parameters(self) -> None:
        """As torch draws its linear layers."""
        for network in (*self.upsamplers, self.classifier):
            network.reset_parameters()

    def forward(
        self, x: Float[Tensor, "batch in_chans height width"]
    ) -> Float[Tensor, "batch out_chans new_height new_width"]:
        size = output_size((x.shape[2], x.shape[3]), self.scale)
        if self.training:
            return self.blended(x, size)
        classes = argmax_classes(self.scores(x, size))
        values = self.values(x, classes)
        return refined(values, classes) if self.smooth else values

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_chans}, {self.out_chans}, scale={self.scale}, smooth={self.smooth}"
