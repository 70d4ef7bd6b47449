"""Pieces of an image that are computed one by one, with as much around them as their values depend on.

Around a piece lies a halo of `radius` pixels, which is computed and thrown away. It ends where the image ends, so that
zeros are padded at the image's own borders alone, and what is kept equals the values of the whole image.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import autocasts, must_compose
from zoo.models.super_resolution.backbone import features_of
from zoo.models.super_resolution.folding import can_fold, folded_features
from zoo.models.super_resolution.structure import receptive_radius

#: Pixels from which on features are computed in bands, and how many radii a band must have: 1/4 is computed twice.
_BAND_PIXELS, _BAND_RADII = 100_000, 8


class Span(NamedTuple):
    """A piece of an axis.

    Attributes:
        begin, end: what is wanted.
        first, last: with the halo; `last` is exclusive, as `end` is.
    """

    begin: int
    end: int
    first: int
    last: int

    @property
    def kept(self) -> slice:
        """What is wanted within what is computed."""
        return slice(self.begin - self.first, self.end - self.first)


class Tile(NamedTuple):
    """A piece of an image."""

    rows: Span
    columns: Span


def spans(length: int, longest: int, radius: int) -> list[Span]:
    """Pieces of an axis, as long as each other but for a pixel.

    Args:
        length: of the axis.
        longest: that a piece may be, without its halo.
        radius: of the halo.
    """
    count = -(-length // longest)
    edges = [length * place // count for place in range(count + 1)]
    return [
        Span(begin, end, max(begin - radius, 0), min(end + radius, length)) for begin, end in itertools.pairwise(edges)
    ]


def tiles_of(height: int, width: int, side: int, radius: int) -> Iterator[Tile]:
    """Tiles of an image, row by row.

    Args:
        height, width: of the image.
        side: that a tile may have at most, without its halo.
        radius: of the halo.
    """
    columns = spans(width, side, radius)
    return (Tile(row, column) for row in spans(height, side, radius) for column in columns)


def quick_features(
    backbone: nn.Module, x: Float[Tensor, "batch in_chans height width"]
) -> Float[Tensor, "batch c height width"]:
    """`features_of`; where nothing is learnt, channels are innermost, and large images are computed in bands.

    Args:
        backbone: gives features.
        x: normalised images.
    """
    if not _nothing_learnt(backbone, x):
        return features_of(backbone, x)
    height, width = x.shape[2:]
    radius = None if height * width <= _BAND_PIXELS else receptive_radius(backbone)
    if radius is None:
        return _features(backbone, x)
    longest = max(_BAND_PIXELS // width, _BAND_RADII * radius, 1)
    out = None
    for span in spans(height, longest, radius):
        band = _features(backbone, x[:, :, span.first : span.last])[:, :, span.kept]
        if span.end - span.begin == height:
            return band
        if out is None:
            shape = (len(x), band.shape[1], height, width)
            out = torch.empty(shape, dtype=band.dtype, device=band.device, memory_format=torch.channels_last)
        out[:, :, span.begin : span.end] = band
    assert out is not None
    return out


def _features(backbone: nn.Module, x: Tensor) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    return folded_features(backbone, x) if can_fold(backbone, x) else features_of(backbone, x)  # pyright: ignore[reportArgumentType]


def _nothing_learnt(backbone: nn.Module, x: Tensor) -> bool:
    """Whether neither gradients nor statistics are wanted, nor a graph."""
    parameters = tuple(backbone.parameters())
    if any(part.training for part in backbone.modules()) or must_compose(x, *parameters):
        return False
    if x.is_meta or not x.numel() or autocasts(x):
        return False
    return not torch.is_grad_enabled() or not any(t.requires_grad for t in (x, *parameters))
