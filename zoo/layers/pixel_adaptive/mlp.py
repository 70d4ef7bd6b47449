"""A network that gives the value of any single pixel of an enlarged image."""

import itertools
import numbers
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.pixel_adaptive.coordinates import Size, axis_table, belongs_to, relative_to
from zoo.weight_cache import WeightCache


class PixelUpsampler(nn.Module):
    """y = W_l relu(... relu(W_1 [f, r, c] + b_1)) + b_l

    with f the features of the pixel of the small image that the place belongs to, r = (y, x) of the place relative to
    that pixel's centre, and c the size of a pixel of the enlarged image, both in halves of a small pixel's width.

    W_1 [f, r, c] is a sum of a part of the features, once for every small pixel, one of the row and one of the
    column. `forward` computes values at any places as the formula says; `dense`, of all pixels, in that sum.

    Local implicit image functions, Chen et al., CVPR 2021, arXiv:2012.09161, without unfolding and local ensemble, as
    in "Accelerating Image Super-Resolution Networks with Pixel-Level Classification", Jeong et al., ECCV 2024,
    arXiv:2407.21448.

    Shapes: features (batch, in_chans, height, width), places (batch, queries, 2) to (batch, queries, out_chans).

    Args:
        in_chans: channels of the features.
        hidden: widths of the hidden layers; empty for a linear map.
        out_chans: values of a pixel.

    Raises:
        ValueError: a size below 1.
        TypeError: widths that are no list of whole numbers.
    """

    def __init__(
        self,
        in_chans: int,
        hidden: Sequence[int] = (),
        out_chans: int = 3,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not is_widths(hidden):
            raise TypeError(f"hidden layers are given by their widths, [20, 20] say, got {hidden!r}")
        if min(in_chans, out_chans, *hidden) < 1:
            raise ValueError(f"channels and widths must be at least 1, got {in_chans}, {tuple(hidden)}, {out_chans}")
        self.in_chans, self.hidden, self.out_chans = in_chans, tuple(hidden), out_chans
        self.imnet = _Layers((in_chans + 4, *hidden, out_chans), device, dtype)  # the authors' name
        self.packed = (WeightCache(), WeightCache())  # of the two arrangements of `packed.pack`

    def reset_parameters(self) -> None:
        """As torch draws its linear layers."""
        for layer in self.linears:
            layer.reset_parameters()

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers, from the features to the values."""
        return [layer for layer in self.imnet.layers if isinstance(layer, nn.Linear)]

    def forward(
        self,
        features: Float[Tensor, "batch in_chans height width"],
        coord: Float[Tensor, "batch queries 2"],
        cell: Float[Tensor, "batch queries 2"],
    ) -> Float[Tensor, "batch queries out_chans"]:
        """Values at any places.

        Args:
            features: of the small image.
            coord: (y, x) of the places, each from -1 to 1 over the image.
            cell: height and width there of a pixel, as 2 over the number of pixels.
        """
        return self.imnet.layers(self.inputs(features, coord, cell))

    def inputs(
        self,
        features: Float[Tensor, "batch in_chans height width"],
        coord: Float[Tensor, "batch queries 2"],
        cell: Float[Tensor, "batch queries 2"],
    ) -> Float[Tensor, "batch queries inputs"]:
        """[f, r, c] of every place."""
        height, width = features.shape[2:]
        rows, columns = belongs_to(coord[..., 0], height), belongs_to(coord[..., 1], width)
        near = (rows * width + columns).unsqueeze(1).expand(-1, features.shape[1], -1)
        found = features.flatten(2).gather(2, near).mT
        y, x = relative_to(coord[..., 0], rows, height), relative_to(coord[..., 1], columns, width)
        sizes = cell * torch.tensor((height, width), dtype=cell.dtype, device=cell.device)
        return torch.cat([found, torch.stack([y, x], -1).to(found), sizes.to(found)], -1)

    def first_layer(
        self, features: Float[Tensor, "batch in_chans height width"], size: Size
    ) -> tuple[
        Float[Tensor, "batch height width first"], Float[Tensor, "new_height first"], Float[Tensor, "new_width first"]
    ]:
        """The three parts of W_1 [f, r, c] + b_1: of each small pixel, of each row and of each column.

        The value at (row, column) of the enlarged image is the sum of the part of the small pixel that it belongs to,
        as `axis_table` says, of its row and of its column.

        Args:
            features: of the small image.
            size: height and width of the enlarged image.
        """
        height, width = features.shape[2:]
        first, channels = self.linears[0], self.in_chans
        weight = first.weight
        y = axis_table(height, size[0], features.device).relative.to(weight)
        x = axis_table(width, size[1], features.device).relative.to(weight)
        cell = weight[:, channels + 2] * (2 * height / size[0]) + weight[:, channels + 3] * (2 * width / size[1])
        parts = F.linear(features.permute(0, 2, 3, 1), weight[:, :channels])
        rows = y[:, None] * weight[:, channels] + (cell + first.bias)
        return parts, rows, x[:, None] * weight[:, channels + 1]

    def dense(
        self, features: Float[Tensor, "batch in_chans height width"], size: Size
    ) -> Float[Tensor, "batch out_chans new_height new_width"]:
        """The values of all pixels of the enlarged image.

        Args:
            features: of the small image.
            size: height and width of the enlarged image.
        """
        parts, rows, columns = self.first_layer(features, size)
        y = axis_table(features.shape[2], size[0], features.device).index
        x = axis_table(features.shape[3], size[1], features.device).index
        before = parts.index_select(1, y).index_select(2, x) + rows[:, None] + columns
        return self.rest(before).permute(0, 3, 1, 2)

    def rest(self, before: Float[Tensor, "*any first"]) -> Float[Tensor, "*any out_chans"]:
        """Everything after the first linear layer."""
        return self.imnet.layers[1:](before)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_chans}, hidden={self.hidden}, out_chans={self.out_chans}"


def is_widths(value: Any) -> bool:
    """Whether a value is a sequence of whole numbers."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    return all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in value)


class _Layers(nn.Module):
    """Linear layers with ReLUs between, counted together as in the authors' files."""

    def __init__(self, widths: Sequence[int], device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for given, wanted in itertools.pairwise(widths):
            layers += [nn.Linear(given, wanted, device=device, dtype=dtype), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
