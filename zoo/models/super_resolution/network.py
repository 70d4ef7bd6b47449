"""What the networks that enlarge images by a fixed scale have in common."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import must_compose
from zoo.layers.pixel_adaptive.coordinates import Size, check_size, is_number
from zoo.models.super_resolution.images import check_images, finite_range


class SuperResolutionNet(nn.Module):
    """y = tail(features(x'), x') on the normalised image x' = (x - mean) / std, brought back to the range of x.

    Without its tail it is an encoder: (batch, in_chans, height, width) to (batch, out_channels, height, width).

    Args:
        scale: how much larger the image becomes.
        in_chans: channels of the image.
        out_channels: of the features.
        mean, std: of the channels of images in [0, 1].
        no_upsampling: leave out the tail, and give the features.

    Raises:
        ValueError: a scale that the network has no tail for, or means and deviations that do not fit the channels.
    """

    #: What the network is for.
    task: ClassVar[str] = "super-resolution"
    #: Scales that there is a tail for.
    scales: ClassVar[tuple[int, ...]] = ()

    def __init__(
        self,
        scale: int,
        in_chans: int,
        out_channels: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        no_upsampling: bool,
    ) -> None:
        super().__init__()
        if not no_upsampling and scale not in self.scales:
            allowed = ", ".join(map(str, self.scales))
            raise ValueError(f"{type(self).__name__} has no tail for scale {scale}; it has one for {allowed}")
        self.scale, self.in_chans, self.out_channels, self.no_upsampling = scale, in_chans, out_channels, no_upsampling
        self.normalisation = Normalisation(mean, std, in_chans)

    def forward_features(
        self, x: Float[Tensor, "batch in_chans height width"]
    ) -> Float[Tensor, "batch c height width"]:
        """The features of a normalised image."""
        raise NotImplementedError

    def forward_tail(
        self, features: Float[Tensor, "batch c height width"], x: Float[Tensor, "batch in_chans height width"]
    ) -> Float[Tensor, "batch in_chans new_height new_width"]:
        """The enlarged image, normalised, of the features and the normalised image."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Float[Tensor, "batch c new_height new_width"]:
        """The enlarged image of one (batch, in_chans, height, width); without a tail, the features.

        Raises:
            ValueError: another rank or number of channels, no pixels, or, on a CPU, values that are not finite.
            TypeError: whole numbers, or another precision than the network's.
        """
        check_images(x, self.in_chans, next(self.parameters()).dtype)
        if not self.no_upsampling and x.device.type == "cpu" and not must_compose(x):
            finite_range(x)
        normal = self.normalisation(x)
        features = self.forward_features(normal)
        return features if self.no_upsampling else self.normalisation.undo(self.forward_tail(features, normal))

    def flops(self, size: Size, scale: float | int | None = None, *, convention: str = "paper") -> int:
        """FLOPs of an image; the network is not run.

        Args:
            size: height and width of the small image.
            scale: the network's own, as for a model that takes others.
            convention: "paper", "true" or "factorised", which is here as "true"; see `flops`.

        Raises:
            ValueError: another scale, an unknown convention, a size below 1.
            TypeError: a size that is not two whole numbers.
        """
        from zoo.models.super_resolution.flops import network_flops  # it knows the networks that are made of this one

        check_size(size)
        if scale is not None and scale != self.scale:
            raise ValueError(f"this {type(self).__name__} enlarges by {self.scale} alone, got scale={scale!r}")
        return network_flops(self, size, convention)


class Normalisation:
    """(x - mean) / std and back.

    Args:
        mean, std: one number a channel; 0 and 1 if None.
        channels: of the image.

    Raises:
        ValueError: another number of means or deviations, or a deviation that is not above 0.
    """

    def __init__(self, mean: Sequence[float] | None, std: Sequence[float] | None, channels: int) -> None:
        given: tuple[Any, Any] = (
            (0.0,) * channels if mean is None else mean,
            (1.0,) * channels if std is None else std,
        )
        lists = all(isinstance(one, Sequence) and len(one) == channels for one in given)
        if not (lists and all(is_number(n) and math.isfinite(n) for one in given for n in one) and min(given[1]) > 0):
            raise ValueError(
                f"mean and std must be {channels} numbers, one a channel, the deviations above 0; "
                f"got {given[0]} and {given[1]}"
            )
        self.mean, self.std = tuple(given[0]), tuple(given[1])
        self.is_identity = not any(self.mean) and all(s == 1 for s in self.std)

    def __call__(self, x: Tensor) -> Tensor:
        if self.is_identity:
            return x
        mean, std = self._like(x)
        return (x - mean) / std

    def undo(self, x: Tensor) -> Tensor:
        """From the normalised range to that of the image."""
        if self.is_identity:
            return x
        mean, std = self._like(x)
        return x * std + mean

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.tensor((self.mean, self.std), dtype=x.dtype, device=x.device)[..., None, None]
        return both[0], both[1]


def draw_small(layer: nn.Conv2d) -> None:
    """A tenth of Kaiming's normal numbers, and no bias."""
    nn.init.kaiming_normal_(layer.weight)
    with torch.no_grad():
        layer.weight.mul_(0.1)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
