"""The tile plan: which queries share which keys.

Along an axis each dilation group is cut into tiles of neighbouring queries. All windows of a tile lie in one short run
of keys, so a tile attends densely to its run, under a mask. The mask depends only on where the windows lie within the
run, and tiles that agree in that share a table of it: an axis has one table for its inside and a few for its borders,
whatever its length. Over several axes everything is a Cartesian product.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.layers.neighborhood.windows import Windows


class Plan(NamedTuple):
    """T tiles of t queries and R keys each. Tokens are numbered in raster order."""

    queries: Tensor
    """(T, t) token of each query slot."""
    keys: Tensor
    """(T, R) token of each key slot."""
    owned: Tensor | None
    """(T, t) False where a token has a slot in an earlier tile, or earlier in this one, too; None if nowhere."""
    slot: Tensor
    """(tokens,) number of the query slot that a token owns, counted through the tiles."""
    table: Tensor
    """(T,) table of each tile."""
    offsets: Tensor
    """(tables, t, R) index into the flattened position bias; one past its end where a key is outside the window."""
    entries: int
    """Number of entries of the flattened position bias, per head."""
    masked: bool
    """Whether any key of any run is outside of a window."""


def tile_plan(spatial: Sequence[int], windows: Windows, tile: tuple[int, ...], device: torch.device) -> Plan:
    """The plan of a map. The last few are kept, for each shape, window, tile and device."""
    return _kept_plan(tuple(spatial), windows, tile, device)


@lru_cache(maxsize=32)
def _kept_plan(spatial: tuple[int, ...], windows: Windows, tile: tuple[int, ...], device: torch.device) -> Plan:
    with torch.inference_mode(False):  # a tensor made under inference mode can never be saved for a backward pass
        return build_plan(spatial, windows, tile, device)


def tile_sizes(spatial: Sequence[int], windows: Windows) -> tuple[int, ...]:
    """Queries of a tile along each axis.

    A larger tile attends to more keys in vain, a smaller one makes worse matrix products; on a CPU about 16 to 32
    queries are best for every kernel, as a wide rectangle. An axis of which each window is the whole is not cut.
    """
    members = [-(-length // dilation) for length, dilation in zip(spatial, windows.dilation, strict=True)]
    kernels = windows.kernel_size
    match windows.rank:
        case 1:
            wanted = (16 if kernels[0] <= 16 else 32,)
        case 2:
            width = members[1] if members[1] <= max(2 * kernels[1], 14) else 7
            wanted = (max(1, 28 // width), width)
        case _:
            wanted = (2, 2, 4)
    sizes = []
    for count, kernel, size in zip(members, kernels, wanted, strict=True):
        tiles = 1 if count == kernel else -(-count // size)
        sizes.append(-(-count // tiles))
    return tuple(sizes)


def build_plan(spatial: Sequence[int], windows: Windows, tile: tuple[int, ...], device: torch.device) -> Plan:
    """The plan of a map, from those of its axes."""
    axes = [_axis_plan(*sizes) for sizes in zip(spatial, *windows, tile, strict=True)]

    def tensor(values: list) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    queries = keys = extra = tensor([[0]])
    slot = tile_of = table = tensor([0])
    offsets = outside = tensor([[[0]]])
    for axis, length, kernel in zip(axes, spatial, windows.kernel_size, strict=True):
        queries = _outer_sum(queries * length, tensor(axis.queries))
        keys = _outer_sum(keys * length, tensor(axis.keys))
        extra = _outer_sum(extra, tensor(axis.extra))
        slot = _outer_sum(slot * len(axis.queries[0]), tensor(axis.slot))
        tile_of = _outer_sum(tile_of * len(axis.queries), tensor(axis.tile_of))
        table = _outer_sum(table * len(axis.offsets), tensor(axis.table))
        offsets = _outer_sum(offsets * (2 * kernel - 1), tensor(axis.offsets))
        outside = _outer_sum(outside, tensor(axis.outside))

    entries = math.prod([2 * kernel - 1 for kernel in windows.kernel_size])
    offsets = offsets.masked_fill(outside > 0, entries)
    masked = any(1 in row for axis in axes for rows in axis.outside for row in rows)
    if masked and device.type == "cuda":
        # Its kernels want rows of a mask to be a multiple of 8 long: more keys, all of them outside.
        more = -keys.shape[1] % 8
        keys, offsets = F.pad(keys, (0, more)), F.pad(offsets, (0, more), value=entries)

    overlap = any(1 in row for axis in axes for row in axis.extra)
    return Plan(
        queries=queries,
        keys=keys,
        owned=extra == 0 if overlap else None,
        slot=tile_of * queries.shape[1] + slot,
        table=table,
        offsets=offsets,
        entries=entries,
        masked=masked,
    )


class _Axis(NamedTuple):
    """A plan for one axis, as lists of numbers."""

    queries: list[list[int]]
    keys: list[list[int]]
    extra: list[list[int]]  # 1 for a query slot that does not own its position
    slot: list[int]
    tile_of: list[int]
    table: list[int]
    offsets: list[list[list[int]]]
    outside: list[list[list[int]]]  # 1 where a key is outside of the window


def _axis_plan(length: int, kernel: int, dilation: int, causal: bool, tile: int) -> _Axis:
    axis = _Axis([], [], [], [0] * length, [0] * length, [], [], [])
    tables: dict[tuple, int] = {}
    run = min(tile + kernel - 1, -(-length // dilation))
    for group in range(dilation):
        members = -(-(length - group) // dilation)
        done = 0
        while done < members:
            # The last tile moves back instead of hanging over: it then has the same table in every group.
            first = max(0, min(done, members - tile))
            places = [min(place, members - 1) for place in range(first, first + tile)]
            if causal:
                lows = [max(place - kernel + 1, 0) for place in places]
            else:
                lows = [min(max(place - kernel // 2, 0), members - kernel) for place in places]
            start = max(0, min(lows[0], members - run))
            shape = tuple((start - place, low - place) for place, low in zip(places, lows, strict=True))
            if shape not in tables:
                tables[shape] = len(tables)
                axis.offsets.append([])
                axis.outside.append([])
                for place, low in zip(places, lows, strict=True):
                    high = place if causal else low + kernel - 1
                    steps = [key - place + kernel - 1 for key in range(start, start + run)]
                    inside = [low <= key <= high for key in range(start, start + run)]
                    axis.offsets[-1].append([step if ok else 0 for step, ok in zip(steps, inside, strict=True)])
                    axis.outside[-1].append([0 if ok else 1 for ok in inside])
            for slot in range(tile):
                if done <= first + slot < members:
                    axis.slot[places[slot] * dilation + group] = slot
                    axis.tile_of[places[slot] * dilation + group] = len(axis.table)
            axis.extra.append([0 if done <= place < members else 1 for place in range(first, first + tile)])
            axis.queries.append([place * dilation + group for place in places])
            axis.keys.append([min(key, members - 1) * dilation + group for key in range(start, start + run)])
            axis.table.append(tables[shape])
            done = first + tile
    return axis


def _outer_sum(a: Tensor, b: Tensor) -> Tensor:
    """a[i, ..] + b[j, ..] for all pairs of indices, each pair of axes flattened into one."""
    for axis in range(a.ndim):
        a, b = a.unsqueeze(2 * axis + 1), b.unsqueeze(2 * axis)
    total = a + b
    for axis in range(total.ndim // 2):
        total = total.flatten(axis, axis + 1)
    return total
