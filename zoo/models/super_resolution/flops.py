"""What enlarging an image costs, without running it.

    whole = backbone + classifier + sum over classes j of fraction_j * upsampler_j

Three ways of counting:

- "paper": as the published tables do: 2 for a multiply-accumulate of a convolution or a linear map, 2 for an element
  of a batch norm, 1 for one of a PReLU, nothing for the rest. A transposed convolution is charged for every pixel of
  its *output*, stride^2 times what it does: by this count FSRCNN takes 468 MFLOPs for 32 x 32 pixels, not 50.
- "true": 2 for a multiply-accumulate that is done, nothing for the rest.
- "factorised": as "true", of what is run here: the first layer of the classifier and of the upsamplers is computed
  once for every pixel of the small image, and adding the parts of row and column counts 2.

FSRCNN, CARN and SRResNet are counted by their layers. Of another backbone one forward pass on the device "meta" is
counted, which computes no values; "paper" is then 2 for a multiply-accumulate plus what norms count.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from zoo.layers.pixel_adaptive.coordinates import Size, output_size
from zoo.layers.pixel_adaptive.mlp import PixelUpsampler
from zoo.models.super_resolution.structure import LayerCall, layer_calls
from zoo.naming import did_you_mean

CONVENTIONS = ("paper", "true", "factorised")
#: The small image that the costs of classes are of, as the authors have it.
_OF_COSTS = (16, 16)


class PartFlops(NamedTuple):
    """FLOPs of each part, on all pixels of an image.

    Attributes:
        backbone: once, at the size of the small image.
        classifier: of all pixels of the enlarged image.
        upsamplers: of all pixels, by class from light to heavy.
    """

    backbone: int
    classifier: int
    upsamplers: tuple[int, ...]

    def whole(self, fractions: Sequence[float | int] | None = None) -> float | int:
        """FLOPs where each class has a fraction of the pixels; all are of the heaviest class if None.

        Raises:
            ValueError: another number of fractions than classes, or fractions that do not add up to 1.
        """
        if fractions is None:
            return self.backbone + self.classifier + self.upsamplers[-1]
        if len(fractions) != len(self.upsamplers) or abs(sum(fractions) - 1) > 1e-4 or min(fractions) < 0:
            raise ValueError(
                f"fractions must be {len(self.upsamplers)} numbers of at least 0 that add up to 1, got {fractions}"
            )
        adaptive = sum(part * upsampler for part, upsampler in zip(fractions, self.upsamplers, strict=True))
        return self.backbone + self.classifier + adaptive


def part_flops(
    backbone: nn.Module,
    classifier: PixelUpsampler,
    upsamplers: Sequence[PixelUpsampler],
    size: Size,
    enlarged: Size,
    convention: str = "paper",
) -> PartFlops:
    """What each part counts.

    Args:
        backbone: gives the features.
        classifier: gives the scores of the classes.
        upsamplers: from light to heavy.
        size: height and width of the small image.
        enlarged: those of the enlarged one.
        convention: "paper", "true" or "factorised".

    Raises:
        ValueError: an unknown convention.
    """
    small, large = size[0] * size[1], enlarged[0] * enlarged[1]
    return PartFlops(
        network_flops(backbone, size, convention),
        upsampler_flops(classifier, small, large, convention),
        tuple(upsampler_flops(upsampler, small, large, convention) for upsampler in upsamplers),
    )


def costs(backbone: nn.Module, upsamplers: Sequence[PixelUpsampler], scale: float | int) -> tuple[float, ...]:
    """What a pixel of each class costs, in parts of 1: backbone and its upsampler, in the convention of the paper.

    Args:
        backbone: gives the features.
        upsamplers: from light to heavy.
        scale: how much larger the image becomes.
    """
    enlarged = output_size(_OF_COSTS, scale)
    pixels = enlarged[0] * enlarged[1]
    shared = network_flops(backbone, _OF_COSTS, "paper")
    each = [shared + upsampler_flops(u, _OF_COSTS[0] * _OF_COSTS[1], pixels, "paper") for u in upsamplers]
    return tuple(one / sum(each) for one in each)


def upsampler_flops(upsampler: PixelUpsampler, small: int, large: int, convention: str = "paper") -> int:
    """What an upsampler, or a classifier, counts.

    Args:
        upsampler: a network on single pixels.
        small: pixels of the small image.
        large: of the enlarged one.
        convention: "paper", "true" or "factorised".

    Raises:
        ValueError: an unknown convention.
    """
    _check(convention)
    first, *others = (layer.weight.shape for layer in upsampler.linears)
    rest = 2 * large * sum(out * given for out, given in others)
    if convention == "factorised":
        return 2 * small * upsampler.in_chans * first[0] + 2 * large * first[0] + rest
    return 2 * large * first[0] * first[1] + rest


def network_flops(network: nn.Module, size: Size, convention: str = "paper", in_chans: int = 3) -> int:
    """What a network that takes images counts.

    Args:
        network: a backbone, or a whole network with its tail.
        size: height and width of the image.
        convention: "paper", "true" or "factorised", which is here as "true".
        in_chans: channels of the image, where a network does not say so in `in_chans`.

    Raises:
        ValueError: an unknown convention.
    """
    _check(convention)
    calls = layer_calls(network)
    if calls is None:
        from zoo.models.super_resolution.foreign import counted_flops  # it takes stitched networks along

        return counted_flops(network, size, getattr(network, "in_chans", in_chans), norms=convention == "paper")
    pixels = size[0] * size[1]
    return sum(call.times * call.zoom**2 * pixels * _of_layer(call, convention == "paper") for call in calls)


def _of_layer(call: LayerCall, paper: bool) -> int:
    """What a layer counts for one pixel of its input."""
    layer = call.layer
    if isinstance(layer, nn.Conv2d | nn.Linear):
        return 2 * layer.weight.numel()
    if isinstance(layer, nn.ConvTranspose2d):
        return 2 * layer.weight.numel() * (layer.stride[0] * layer.stride[1] if paper else 1)
    if not paper:
        return 0
    return call.channels * (2 if isinstance(layer, nn.BatchNorm2d) else 1)


def _check(convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(
            f"unknown convention {convention!r}{did_you_mean(convention, CONVENTIONS) or '.'} "
            f"There are {', '.join(CONVENTIONS)}"
        )
