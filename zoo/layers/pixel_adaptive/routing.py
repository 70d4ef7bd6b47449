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

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from zoo.eager import autocasts, must_compose, no_autocast
from zoo.layers.pixel_adaptive.coordinates import Size, axis_table
from zoo.layers.pixel_adaptive.mlp import PixelUpsampler
from zoo.layers.pixel_adaptive.packed import Packed, pack

#: Matrix products of rows are fastest with widths that fill registers.
_ROW_WIDTHS = 16
#: Widths up to which all pixels at once as columns take less than rows do.
_NARROW = 32
#: From these parts of all pixels on, a class is computed everywhere, and heavier ones put over it.
_NARROW_EVERYWHERE, _WIDE_EVERYWHERE = 0.5, 0.9
#: Pixels at a time: what the caches of a core hold; elsewhere enough to be busy.
_ROWS = {"cpu": 8192}
_COLUMNS = {"cpu": 8192}
_MANY = 2**18
#: Above it, float32 could give a small pixel another number of pixels than its neighbours.
_LARGEST_REPEAT = 16


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
    out = _empty(features, upsampler, size)
    with no_autocast(features):
        for image, values in zip(features, out.flatten(2), strict=True):
            _fill(upsampler, _Small(image, _dtype(features, upsampler)), size, values)
    return out


def by_class(
    upsamplers: Sequence[PixelUpsampler],
    features: Float[Tensor, "batch in_chans height width"],
    classes: UInt8[Tensor, "batch new_height new_width"],
) -> Float[Tensor, "batch out_chans new_height new_width"]:
    """Every pixel by the network of its class.

    Pixels are grouped once, and their numbers looked at once, an image.

    Args:
        upsamplers: from light to heavy.
        features: of the small image.
        classes: of the pixels of the enlarged one.
    """
    size = (classes.shape[1], classes.shape[2])
    out = _empty(features, upsamplers[0], size)
    dtype = _dtype(features, upsamplers[0])
    with no_autocast(features):
        for image, own, values in zip(features, classes.flatten(1), out.flatten(2), strict=True):
            small = _Small(image, dtype)
            order, counts = _grouped(own, len(upsamplers))
            base = _everywhere_first(upsamplers, counts)
            if base is not None:
                _fill(upsamplers[base], small, size, values)
            for place, (upsampler, count) in enumerate(zip(upsamplers, counts, strict=True)):
                if count and place != base:
                    begin = sum(counts[:place])
                    pixels = _pixels_of(own, place) if order is None else order[begin : begin + count]
                    _by_rows(upsampler, small, size, values, pixels)
    return out


class _Small:
    """Features of a small image, each pixel a row."""

    def __init__(self, image: Tensor, dtype: torch.dtype) -> None:
        self.height, self.width = image.shape[1:]
        self.rows = image.permute(1, 2, 0).flatten(0, 1).to(dtype)


def _dtype(features: Tensor, upsampler: PixelUpsampler) -> torch.dtype:
    if autocasts(features):
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


def _fill(upsampler: PixelUpsampler, small: _Small, size: Size, out: Tensor) -> None:
    if _is_narrow(upsampler):
        _by_planes(upsampler, small, size, out)
    else:
        _by_rows(upsampler, small, size, out)


def _places(packed: Packed, small: _Small, size: Size) -> tuple[Tensor, Tensor]:
    """P (rows, first) and Q (columns, first)."""
    like = packed.places
    y = axis_table(small.height, size[0], like.device).relative
    x = axis_table(small.width, size[1], like.device).relative
    weight = like.to(torch.promote_types(like.dtype, torch.float32))
    cells = weight[2] * (2 * small.height / size[0]) + weight[3] * (2 * small.width / size[1])
    rows = y.to(weight)[:, None] * weight[0] + (cells + weight[4])
    return rows.to(like.dtype), (x.to(weight)[:, None] * weight[1]).to(like.dtype)


def _by_rows(upsampler: PixelUpsampler, small: _Small, size: Size, out: Tensor, pixels: Tensor | None = None) -> None:
    """Put values of some pixels, all if None, into `out` (out_chans, pixels of the enlarged image)."""
    packed = pack(upsampler, _ROW_WIDTHS, small.rows.dtype)
    first, device, smalls = len(packed.features), out.device, len(small.rows)
    # One table of A, P and Q: three of its rows add up to a pixel's.
    table = small.rows.new_empty(smalls + sum(size), first)
    torch.mm(small.rows, packed.features.t(), out=table[:smalls])
    table[smalls : smalls + size[0]], table[smalls + size[0] :] = _places(packed, small, size)
    begins = axis_table(small.height, size[0], device).index * small.width
    ends = axis_table(small.width, size[1], device).index
    count = size[0] * size[1] if pixels is None else len(pixels)
    step = min(_ROWS.get(device.type, _MANY), max(count, 1))
    for begin in range(0, count, step):
        end = min(begin + step, count)
        chosen = torch.arange(begin, end, device=device) if pixels is None else pixels[begin:end]
        row = chosen.div(size[1], rounding_mode="floor")
        column = chosen - row * size[1]
        near = begins.index_select(0, row).add_(ends.index_select(0, column))
        three = torch.stack((near, row.add_(smalls), column.add_(smalls + size[0])), 1)
        values = _chain(packed, F.embedding_bag(three, table, mode="sum"))
        if pixels is None:
            out[:, begin:end] = values
        else:
            out.index_copy_(1, chosen, values.to(out.dtype))


def _chain(packed: Packed, x: Tensor) -> Tensor:
    """Values (out_chans, pixels) from what the first layer gives, pixels as rows."""
    if packed.last is None:
        return x.t()
    x = x.relu_()
    for matrix in packed.hidden:
        x = torch.mm(x, matrix.t()).relu_()
    return torch.mm(packed.last, x.t())


def _by_planes(upsampler: PixelUpsampler, small: _Small, size: Size, out: Tensor) -> None:
    """Put values of all pixels into `out` (out_chans, pixels of the enlarged image), a few rows at a time."""
    packed = pack(upsampler, 1, small.rows.dtype)
    rows, columns = (part.t().contiguous() for part in _places(packed, small, size))
    device = out.device
    near_columns = axis_table(small.width, size[1], device).index
    near_rows = axis_table(small.height, size[0], device).index
    host_rows = axis_table(small.height, size[0], torch.device("cpu")).index.tolist()
    repeat = size[0] // small.height if size[0] % small.height == 0 else 0
    repeat = repeat if repeat <= _LARGEST_REPEAT else 0
    step = max(_COLUMNS.get(device.type, _MANY) // size[1], 1)
    step = -(-step // repeat) * repeat if repeat else step
    for begin in range(0, size[0], step):
        end = min(begin + step, size[0])
        above, below = host_rows[begin], host_rows[end - 1] + 1
        parts = packed.features @ small.rows[above * small.width : below * small.width].t()
        parts = parts.unflatten(1, (below - above, small.width)).index_select(2, near_columns)
        parts += columns[:, None]
        added = rows[:, begin:end]
        if repeat:
            x = parts.unsqueeze(2) + added.unflatten(1, (-1, repeat)).unsqueeze(3)
        else:
            x = parts.index_select(1, near_rows[begin:end] - above).add_(added.unsqueeze(2))
        x = x.flatten(1)
        if packed.last is None:
            values = x
        else:
            x = x.relu_()
            for matrix in packed.hidden:
                x = torch.mm(matrix, x).relu_()
            values = torch.mm(packed.last, x)
        out[:, begin * size[1] : end * size[1]] = values
