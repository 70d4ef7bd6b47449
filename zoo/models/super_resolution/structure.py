"""What a network of layers that keep the size of the image runs, known without running it."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from zoo.models.super_resolution.carn import CARN, CascadingBlock
from zoo.models.super_resolution.fsrcnn import FSRCNN
from zoo.models.super_resolution.srresnet import SRResNet

_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d, nn.PReLU)
#: What neither looks at neighbours nor changes the size.
_POINTWISE = (
    nn.Linear,
    nn.BatchNorm2d,
    nn.PReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.GELU,
    nn.SiLU,
    nn.ELU,
    nn.Hardswish,
    nn.Mish,
    nn.Sigmoid,
    nn.Tanh,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
)


class LayerCall(NamedTuple):
    """A layer, and how it is run.

    Attributes:
        layer: a convolution, linear map, batch norm or PReLU.
        times: how often.
        channels: that it gives.
        zoom: how much larger than the network's input its own input is.
    """

    layer: nn.Module
    times: int
    channels: int
    zoom: int


def layer_calls(network: nn.Module) -> list[LayerCall] | None:
    """What an FSRCNN, CARN or SRResNet runs, with or without its tail; None of other networks."""
    if not isinstance(network, FSRCNN | CARN | SRResNet):
        return None
    repeated = {
        id(part) for block in network.modules() if isinstance(block, CascadingBlock) for part in _leaves(block.b1)
    }
    zooms = _zooms(network)
    calls, channels, zoom = [], network.in_chans, 1
    for layer in _leaves(network):  # in the order in which they run
        if isinstance(layer, nn.PixelShuffle):
            zoom *= layer.upscale_factor
        elif isinstance(layer, _LAYERS):
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                channels = layer.out_channels
            times = 3 if id(layer) in repeated else 1
            calls.append(LayerCall(layer, times, channels, zooms.get(id(layer), zoom)))
    return calls


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    return (part for part in module.modules() if not any(True for _ in part.children()))


def _zooms(network: nn.Module) -> dict[int, int]:
    """Where SRResNet's tail runs: it shuffles without a module."""
    if not isinstance(network, SRResNet) or network.no_upsampling:
        return {}
    tail = {network.upconv2: 2, network.HRconv: network.scale, network.conv_last: network.scale}
    return {id(layer): zoom for layer, zoom in tail.items() if layer is not None}


def receptive_radius(backbone: nn.Module) -> int | None:
    """How far from a pixel the pixels lie that its features depend on; None if that cannot be told.

    A backbone may say so itself, in an attribute of this name. Otherwise it is the sum over all convolutions of
    (kernel_size - 1) / 2 * dilation, an upper bound where they do not all follow each other. It is told of backbones
    made of convolutions and of what works on single pixels, where each is run once, and of our own.

    Args:
        backbone: what gives the features; in evaluation.
    """
    stated = getattr(backbone, "receptive_radius", None)
    if isinstance(stated, int):
        return stated
    calls = layer_calls(backbone)
    if calls is not None:
        return sum(call.times * _reach(call.layer) for call in calls)
    return _radius_of_chain(backbone)


def _radius_of_chain(backbone: nn.Module) -> int | None:
    """Of an `nn.Sequential` of known layers, whose forward is known."""
    if not isinstance(backbone, nn.Sequential):
        return None
    radius = 0
    for part in backbone:
        if isinstance(part, nn.Sequential):
            inner = _radius_of_chain(part)
            if inner is None:
                return None
            radius += inner
        elif isinstance(part, nn.Conv2d) and _keeps_size(part):
            radius += _reach(part)
        elif not isinstance(part, _POINTWISE):
            return None
    return radius


def _keeps_size(layer: nn.Conv2d) -> bool:
    """Whether it is centred, with zeros around the image."""
    if set(layer.stride) != {1} or layer.padding_mode != "zeros":
        return False
    if layer.padding == "same":
        return all(k % 2 for k in layer.kernel_size)
    return all(2 * p == d * (k - 1) for p, d, k in zip(layer.padding, layer.dilation, layer.kernel_size, strict=True))


def _reach(layer: nn.Module) -> int:
    if not isinstance(layer, nn.Conv2d):
        return 0
    return max(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
