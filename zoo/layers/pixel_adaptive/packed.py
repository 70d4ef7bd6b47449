"""Weights of a network on single pixels, arranged for products of matrices and nothing else.

A channel that is 1 stands beside those of every hidden layer, with the biases as its weights: then no bias has to be
added. The columns of a pixel's features, its row and its column stand apart, because their parts of the first layer
are computed apart.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from zoo.layers.pixel_adaptive.mlp import PixelUpsampler
from zoo.weight_cache import Values


class Packed(NamedTuple):
    """What `pack` makes.

    Attributes:
        features: (first, in_chans), of the features.
        places: (5, first), of y, x, cell height and cell width, and the bias.
        hidden: (out, in) of every hidden layer after the first.
        last: (out_chans, in), or None where the first layer is the last.
    """

    features: Tensor
    places: Tensor
    hidden: tuple[Tensor, ...]
    last: Tensor | None


def pack(upsampler: PixelUpsampler, multiple: int, dtype: torch.dtype) -> Packed:
    """The weights of a network, kept until they change.

    Args:
        upsampler: the network.
        multiple: widths of hidden layers become the next multiple of it, the channel of 1 included.
        dtype: of the copies.
    """
    cache = upsampler.packed[multiple > 1]
    parameters = tuple(p for layer in upsampler.linears for p in (layer.weight, layer.bias))
    features, places, *matrices = (
        matrix.to(dtype)
        for matrix in cache.get(parameters, lambda: _arranged(upsampler, multiple))
        if matrix is not None
    )
    return Packed(features, places, tuple(matrices[:-1]), matrices[-1] if matrices else None)


def _arranged(upsampler: PixelUpsampler, multiple: int) -> Values:
    first, *others = upsampler.linears
    widths = [-(-(width + 1) // multiple) * multiple for width in upsampler.hidden]
    weight, bias, channels = first.weight.detach(), first.bias.detach(), upsampler.in_chans
    rows = widths[0] if widths else upsampler.out_chans
    features = weight.new_zeros(rows, channels)
    places = weight.new_zeros(5, rows)
    features[: len(weight)] = weight[:, :channels]
    places[:4, : len(weight)] = weight[:, channels:].t()
    places[4, : len(weight)] = bias
    if widths:
        places[4, len(weight)] = 1
    found = [features, places]
    for layer, given, wanted in zip(others, widths, [*widths[1:], None][: len(widths)], strict=True):
        matrix = weight.new_zeros(layer.out_features if wanted is None else wanted, given)
        matrix[: layer.out_features, : layer.in_features] = layer.weight.detach()
        matrix[: layer.out_features, layer.in_features] = layer.bias.detach()
        if wanted is not None:
            matrix[layer.out_features, layer.in_features] = 1
        found.append(matrix)
    return tuple(found)
