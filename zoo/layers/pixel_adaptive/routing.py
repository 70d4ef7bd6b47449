"""Every pixel by the network of its class, without gradients: the form that is fast.

    W_1 [f, r, c] + b_1 = A[small pixel] + P[row] + Q[column]

with A computed once for every pixel of the small image, P once for every row and Q once for every column. Then

- pixels of a class are gathered once, a few thousand at a time go through products of small matrices, and their values
  are put where they belong (`_by_rows`, pixels as rows), or
- a network is run on all pixels, with no gathering (`_by_planes`, pixels as columns): for narrow networks that costs
  less than to gather half of them.

"Accelerating Image Super-Resolution Networks with Pixel-Level Classification", Jeong et al., ECCV 2024,
arXiv:2407.21448; the authors' code computes all of W_1 [f, r, c] for every pixel.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from zoo.eager import autocasts, must_compose, no_autocast
from zoo.layers.pixel_adaptive.coordinates import AxisTable, Size, axis_table
from zoo.layers.pixel_adaptive.mlp import PixelUpsampler
from zoo.layers.pixel_adaptive.packed import Packed, pack

#: Matrix products of rows are fastest with widths that fill registers.
_ROW_WIDTHS = 16
#: Widths up to which all pixels at once as columns take less than rows do.
_NARROW = 32
#: From these parts of all pixels on, a class is computed everywhere, and heavier ones put over it.
_NARROW_EVERYWHERE, _WIDE_EVERYWHERE = 0.5, 0.9
#: Pixels at a time: what the caches of a core hold; elsewhere enough to be busy.
_ROW_NUMBERS, _COLUMNS = {"cpu": 2**19}, {"cpu": 8192}
_MANY = 2**18
#: Pixels of the small image whose part of the first layer is held at once.
_BAND = 2**16
#: Above it, float32 could give a small pixel another number of pixels than its neighbours.
_LARGEST_REPEAT = 16


class Grid(NamedTuple):
    """Where the pixels of an enlarged image, or of a part of it, lie among those of the small one.

    Attributes:
        small: height and width of the features.
        rows, columns: of the enlarged image, with indices into the features.
        cell: height and width of a pixel of it, in halves of a small pixel's.
        near: `rows.index`, as numbers.
        repeat: how many rows every small one becomes, if as many each and where that is of use; else 0.
    """

    small: Size
    rows: AxisTable
    columns: AxisTable
    cell: tuple[float, float]
    near: list[int]
    repeat: int

    @property
    def size(self) -> Size:
        """Height and width of the enlarged part."""
        return len(self.near), len(self.columns.index)


def grid_of(small: Size, size: Size, device: torch.device, part: tuple[slice, slice] | None = None) -> Grid:
    """The grid of an image, or of a part of it.

    Args:
        small: height and width of the whole small image.
        size: of the whole enlarged one.
        device: of the features.
        part: rows and columns of the small image; those of the enlarged one that belong to them are on the grid.
    """
    whole = (slice(0, small[0]), slice(0, small[1]))
    rows, columns = whole if part is None else part
    tables, near = [], []
    for extent, pixels, span in zip(small, size, (rows, columns), strict=True):
        host = axis_table(extent, pixels, torch.device("cpu")).index
        own = enlarged_span(extent, pixels, span)
        near.append([place - span.start for place in host[own].tolist()])
        index, relative = axis_table(extent, pixels, device)
        tables.append(AxisTable(index[own] - span.start if span.start else index[own], relative[own]))
    times = size[0] // small[0] if size[0] % small[0] == 0 else 0
    return Grid(
        small=(rows.stop - rows.start, columns.stop - columns.start),
        rows=tables[0],
        columns=tables[1],
        cell=(2 * small[0] / size[0], 2 * small[1] / size[1]),
        near=near[0],
        repeat=times if times <= _LARGEST_REPEAT else 0,
    )


def enlarged_span(extent: int, pixels: int, span: slice) -> slice:
    """The pixels along an axis of the enlarged image that belong to some of the small one.

    Args:
        extent: of the axis of the small image.
        pixels: of that of the enlarged one.
        span: of the small image.
    """
    index = axis_table(extent, pixels, torch.device("cpu")).index
    begin, end = torch.searchsorted(index, torch.tensor([span.start, span.stop])).tolist()
    return slice(begin, end)


def without_gradients(features: Tensor, upsamplers: Sequence[PixelUpsampler]) -> bool:
    """Whether values may be computed here: nothing is to be learnt, compiled, exported or transformed."""
    parameters = [p for upsampler in upsamplers for p in upsampler.parameters()]
    if must_compose(features, *parameters) or features.is_meta or not features.numel():
        return False
    return not torch.is_grad_enabled() or not any(t.requires_grad for t in (features, *parameters))


def values_of_all(
    upsampler: PixelUpsampler, features: Float[Tensor, "batch in_chans height width"], size: Size
) -> Float[Tensor, "batch out_chans new_height new_width"]:
    """`PixelUpsampler.dense`: the values of all pixels of the enlarged image.

    Args:
        upsampler: the network.
        features: of the small image.
        size: height and width of the enlarged image.
    """
    if not without_gradients(features, [upsampler]):
        return upsampler.dense(features, size)
    return values_on(upsampler, features, grid_of(_extent(features), size, features.device))


def values_on(
    upsampler: PixelUpsampler, features: Float[Tensor, "batch in_chans height width"], grid: Grid
) -> Float[Tensor, "batch out_chans new_height new_width"]:
    """The values of all pixels of a grid, without gradients."""
    out = _empty(features, upsampler, grid.size)
    with no_autocast(features):
        for image, values in zip(features, out.flatten(2), strict=True):
            _fill(upsampler, _rows(image, _dtype(features, upsampler)), grid, values)
    return out


def by_class(
    upsamplers: Sequence[PixelUpsampler],
    features: Float[Tensor, "batch in_chans height width"],
    classes: UInt8[Tensor, "batch new_height new_width"],
    grid: Grid | None = None,
) -> Float[Tensor, "batch out_chans new_height new_width"]:
    """Every pixel by the network of its class.

    Pixels are grouped once, and their numbers looked at once, an image.

    Args:
        upsamplers: from light to heavy.
        features: of the small image.
        classes: of the pixels of the enlarged one.
        grid: where they are; the whole image if None.
    """
    size = (classes.shape[1], classes.shape[2])
    grid = grid_of(_extent(features), size, features.device) if grid is None else grid
    out = _empty(features, upsamplers[0], size)
    dtypes = [_dtype(features, upsampler) for upsampler in upsamplers]
    with no_autocast(features):
        for image, own, values in zip(features, classes.flatten(1), out.flatten(2), strict=True):
            small = {dtype: _rows(image, dtype) for dtype in set(dtypes)}
            order, counts = _grouped(own, len(upsamplers))
            base = _everywhere_first(upsamplers, counts)
            if base is not None:
                _fill(upsamplers[base], small[dtypes[base]], grid, values)
            for place, (upsampler, count) in enumerate(zip(upsamplers, counts, strict=True)):
                if count and place != base:
                    begin = sum(counts[:place])
                    pixels = _pixels_of(own, place) if order is None else order[begin : begin + count]
                    _by_rows(upsampler, small[dtypes[place]], grid, values, pixels)
    return out


def _rows(image: Tensor, dtype: torch.dtype) -> Tensor:
    """Features of an image, each pixel a row."""
    return image.permute(1, 2, 0).flatten(0, 1).to(dtype)


def _extent(features: Tensor) -> Size:
    return features.shape[2], features.shape[3]


def _dtype(features: Tensor, upsampler: PixelUpsampler) -> torch.dtype:
    """Autocast is for wide networks: others would save next to nothing, and decisions lose digits."""
    if autocasts(features) and not _is_narrow(upsampler):
        return torch.get_autocast_dtype(features.device.type)
    return upsampler.linears[0].weight.dtype


def _empty(features: Tensor, upsampler: PixelUpsampler, size: Size) -> Tensor:
    dtype = upsampler.linears[0].weight.dtype
    return torch.empty(len(features), upsampler.out_chans, *size, dtype=dtype, device=features.device)


def _grouped(classes: Tensor, count: int) -> tuple[Tensor | None, list[int]]:
    """Pixels in the order of their classes, and how many are of each.

    On a CPU it costs less to look for those of a class when they are needed, so there is no order.
    """
    counts = torch.bincount(classes, minlength=count)
    order = None if classes.device.type == "cpu" else classes.argsort(stable=True)
    return order, counts.tolist()


def _pixels_of(classes: Tensor, place: int) -> Tensor:
    return (classes == place).nonzero().squeeze(1)


def _everywhere_first(upsamplers: Sequence[PixelUpsampler], counts: Sequence[int]) -> int | None:
    """The class to compute everywhere, if any."""
    most = max(range(len(counts)), key=lambda place: counts[place])
    enough = _NARROW_EVERYWHERE if _is_narrow(upsamplers[most]) else _WIDE_EVERYWHERE
    return most if counts[most] > enough * sum(counts) else None


def _is_narrow(upsampler: PixelUpsampler) -> bool:
    return max(upsampler.hidden, default=0) <= _NARROW


def _fill(upsampler: PixelUpsampler, small: Tensor, grid: Grid, out: Tensor) -> None:
    if _is_narrow(upsampler):
        _by_planes(upsampler, small, grid, out)
    else:
        _by_rows(upsampler, small, grid, out)


def _places(packed: Packed, grid: Grid) -> tuple[Tensor, Tensor]:
    """P (rows, first) and Q (columns, first)."""
    like = packed.places
    weight = like.to(torch.promote_types(like.dtype, torch.float32))
    cells = weight[2] * grid.cell[0] + weight[3] * grid.cell[1]
    rows = grid.rows.relative.to(weight)[:, None] * weight[0] + (cells + weight[4])
    return rows.to(like.dtype), (grid.columns.relative.to(weight)[:, None] * weight[1]).to(like.dtype)


def _by_rows(upsampler: PixelUpsampler, small: Tensor, grid: Grid, out: Tensor, pixels: Tensor | None = None) -> None:
    """Put values of some pixels, all if None, into `out` (out_chans, pixels of the enlarged image).

    A few rows of the small image at a time, so that the table of A, P and Q stays small: three of its rows add up to
    the first layer of a pixel.
    """
    packed = pack(upsampler, _ROW_WIDTHS, small.dtype)
    first, device, width = len(packed.features), out.device, grid.size[1]
    rows, columns = _places(packed, grid)
    step = max(_ROW_NUMBERS.get(device.type, _MANY * first) // first, 1)
    for begin, end, start, stop in _bands(grid, pixels, device):
        above, below = grid.near[begin] * grid.small[1], (grid.near[end - 1] + 1) * grid.small[1]
        smalls = below - above
        table = small.new_empty(smalls + end - begin + width, first)
        torch.mm(small[above:below], packed.features.t(), out=table[:smalls])
        table[smalls : smalls + end - begin], table[smalls + end - begin :] = rows[begin:end], columns
        lines = grid.rows.index * grid.small[1] - above
        for place in range(start, stop, step):
            last = min(place + step, stop)
            chosen = torch.arange(place, last, device=device) if pixels is None else pixels[place:last]
            row = chosen.div(width, rounding_mode="floor")
            column = chosen - row * width
            near = lines.index_select(0, row).add_(grid.columns.index.index_select(0, column))
            three = torch.stack((near, row.add_(smalls - begin), column.add_(smalls + end - begin)), 1)
            values = _chain(packed, F.embedding_bag(three, table, mode="sum"))
            if pixels is None:
                out[:, place:last] = values
            else:
                out.index_copy_(1, chosen, values.to(out.dtype))


def _bands(grid: Grid, pixels: Tensor | None, device: torch.device) -> list[tuple[int, int, int, int]]:
    """Bands of rows: from which to which, and which of the pixels they have; one band elsewhere than on a CPU."""
    height, width = grid.size
    lines = max(_BAND // grid.small[1], 1) if device.type == "cpu" else grid.small[0]
    edges = sorted({0, height, *(bisect_left(grid.near, line) for line in range(lines, grid.small[0], lines))})
    places = [edge * width for edge in edges]
    if pixels is not None:
        inner = torch.searchsorted(pixels, torch.tensor(places[1:-1])).tolist() if len(places) > 2 else []
        places = [0, *inner, len(pixels)]
    return list(zip(edges[:-1], edges[1:], places[:-1], places[1:], strict=True))


def _chain(packed: Packed, x: Tensor) -> Tensor:
    """Values (out_chans, pixels) from what the first layer gives, pixels as rows."""
    if packed.last is None:
        return x.t()
    x = x.relu_()
    for matrix in packed.hidden:
        x = torch.mm(x, matrix.t()).relu_()
    return torch.mm(packed.last, x.t())


def _by_planes(upsampler: PixelUpsampler, small: Tensor, grid: Grid, out: Tensor) -> None:
    """Put values of all pixels into `out` (out_chans, pixels of the enlarged image), a few rows at a time."""
    packed = pack(upsampler, 1, small.dtype)
    rows, columns = (part.t().contiguous() for part in _places(packed, grid))
    height, width = grid.size
    step = max(_COLUMNS.get(out.device.type, _MANY) // width, 1)
    step = -(-step // grid.repeat) * grid.repeat if grid.repeat else step
    for begin in range(0, height, step):
        end = min(begin + step, height)
        above, below = grid.near[begin], grid.near[end - 1] + 1
        parts = packed.features @ small[above * grid.small[1] : below * grid.small[1]].t()
        parts = parts.unflatten(1, (below - above, grid.small[1])).index_select(2, grid.columns.index)
        parts += columns[:, None]
        added = rows[:, begin:end]
        if grid.repeat:
            x = parts.unsqueeze(2) + added.unflatten(1, (-1, grid.repeat)).unsqueeze(3)
        else:
            x = parts.index_select(1, grid.rows.index[begin:end] - above).add_(added.unsqueeze(2))
        x = x.flatten(1)
        if packed.last is not None:
            x = x.relu_()
            for matrix in packed.hidden:
                x = torch.mm(matrix, x).relu_()
            x = torch.mm(packed.last, x)
        out[:, begin * width : end * width] = x
