"""Enlarging pictures of any size in bounded memory, tile by tile.

Where a pixel's class follows from its own scores, one pass over the tiles does. With "adm" and "target" it depends on
all pixels: a first pass keeps the scores, a second one computes the values, with the features of the first if there is
room for them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.layers.modes import evaluating
from zoo.layers.pixel_adaptive.coordinates import Size
from zoo.layers.pixel_adaptive.decide import adm_classes, argmax_classes, hardness
from zoo.layers.pixel_adaptive.refine import refine_
from zoo.layers.pixel_adaptive.routing import Grid, by_class, enlarged_span, grid_of, values_on
from zoo.models.super_resolution.checks import Policy, check_target, wanted_size
from zoo.models.super_resolution.images import check_real
from zoo.models.super_resolution.pictures import LEVELS, Picture, as_written, read_picture
from zoo.models.super_resolution.residual import Slices, bilinear_part
from zoo.models.super_resolution.structure import receptive_radius
from zoo.models.super_resolution.tiles import Tile, quick_features, tiles_of
from zoo.sizes import byte_count, in_words

if TYPE_CHECKING:
    from zoo.models.super_resolution.pcsr import PCSR

#: Small pixels along a side beyond which tiles become no faster, and below which most of the work is halo.
_SIDE, _SIDE_IN_RADII, _LEAST_SIDE = 256, 12, 16
#: Features are computed again rather than to come close to the memory that may be taken.
_SHARE_WITH_FEATURES = 0.75
#: Policies that decide on the scores of all pixels together; those that decide nothing.
_OF_ALL_PIXELS, _ALONE = ("adm", "target"), {"light": 0, "heavy": -1}


class Plan(NamedTuple):
    """How a picture is cut.

    Attributes:
        side: of the tiles, in pixels of the small image.
        halo: around them.
        keeps_features: whether there is room for the features of the whole picture.
    """

    side: int
    halo: int
    keeps_features: bool


class _Piece(NamedTuple):
    """A tile in the making.

    Attributes:
        tile: what is wanted and the halo, in the small image.
        near: rows and columns of the small image whose pixels are computed: the tile and one more on every side.
        far: those of the enlarged image that belong to them.
        grid: of these.
        wanted: rows and columns of the enlarged image that belong to the tile.
        inner: where these are in what is computed.
    """

    tile: Tile
    near: Slices
    far: Slices
    grid: Grid
    wanted: Slices
    inner: Slices


@torch.no_grad()
def upscale(
    model: "PCSR",
    image: Picture,
    scale: float | int | None = None,
    *,
    size: Sequence[int] | None = None,
    policy: str = "argmax",
    k: float | int = 0.0,
    target: float | int | None = None,
    refine: bool = True,
    tile: int | str = "auto",
    max_memory: int | float | str = "2GB",
    out: str = "uint8",
    return_info: bool = False,
    on_tile: Callable[[int, int], None] | None = None,
) -> Any:
    """See `PCSR.upscale`."""
    decided = Policy(policy, k, target, "image")
    if out not in LEVELS:
        raise ValueError(f"out must be one of {', '.join(LEVELS)}, got {out!r}")
    check_tile(tile)
    memory = byte_count(max_memory, "max_memory")
    picture = read_picture(image, model.in_chans)
    if picture.is_floating_point():
        check_real(picture, "the picture")
    small = (picture.shape[1], picture.shape[2])
    enlarged = wanted_size(small, scale, size, model.scale)
    if decided.target is not None:
        check_target(decided.target, model.parts(small, enlarged))
    plan = plan_of(model, small, enlarged, decided, tile, memory, np.dtype(out).itemsize)
    with evaluating(model):
        run = _Run(model, picture, enlarged, decided, scale, plan, refine)
        result = run.all(out, on_tile, return_info)
    if not return_info:
        return result
    assert run.classes is not None
    return result, model._info(run.classes, small, policy)


class _Run:
    """One picture."""

    def __init__(
        self,
        model: "PCSR",
        picture: Tensor,
        enlarged: Size,
        policy: Policy,
        scale: float | int | None,
        plan: Plan,
        refine: bool,
    ) -> None:
        self.model, self.picture, self.enlarged, self.policy, self.scale = model, picture, enlarged, policy, scale
        self.small = (picture.shape[1], picture.shape[2])
        self.plan, self.refine = plan, refine and policy.name not in _ALONE
        self.tiles = list(tiles_of(*self.small, plan.side, plan.halo))
        self.like = next(model.classifier.parameters())
        self.costs = model._costs_at(self.small, enlarged, scale) if policy.k else None
        self.kept: list[Tensor] = []
        self.classes: Tensor | None = None

    def all(self, out: str, on_tile: Callable[[int, int], None] | None, keep_classes: bool) -> np.ndarray:
        """The enlarged picture (height, width, channels)."""
        twice = self.policy.name in _OF_ALL_PIXELS
        done = _Count(len(self.tiles) * (1 + twice), on_tile)
        if twice:
            self.classes = self._decided(done)
        elif keep_classes:
            self.classes = torch.empty(1, *self.enlarged, dtype=torch.uint8)
        result = np.empty((*self.enlarged, self.picture.shape[0]), dtype=out)
        for number, piece in enumerate(self._pieces()):
            values = self._values(number, piece)
            result[piece.wanted] = as_written(values[0][(slice(None), *piece.inner)], out)
            done.one_more()
        return result

    def _decided(self, done: "_Count") -> Tensor:
        """The first pass: the classes of all pixels."""
        adm, count = self.policy.name == "adm", len(self.model.upsamplers)
        kept = torch.empty(1, 1 if adm else count, *self.enlarged, dtype=self.like.dtype)
        for piece in self._pieces():
            features = self._features(piece, self._window(piece))
            scores = values_on(self.model.classifier, features, piece.grid)
            scores = hardness(scores)[:, None] if adm else scores
            kept[(slice(None), slice(None), *piece.wanted)] = scores[(slice(None), slice(None), *piece.inner)].cpu()
            if self.plan.keeps_features:
                self.kept.append(features.clone(memory_format=torch.channels_last))  # without those of the halo
            done.one_more()
        if adm:
            return adm_classes(kept[:, 0], count)
        return self.model.decide_on(kept, self.small, self.policy, self.scale)

    def _values(self, number: int, piece: _Piece) -> Tensor:
        """The enlarged tile and what is around it."""
        model, normal, classes = self.model, self._window(piece), None
        features = self.kept[number] if self.kept else self._features(piece, normal)
        if self.policy.name in _ALONE:
            place = _ALONE[self.policy.name]
            values = values_on(model.upsamplers[place], features, piece.grid)
            if self.classes is not None:
                self.classes.fill_(place % len(model.upsamplers))
        else:
            classes = self._classes(piece, features)
            values = by_class(model.upsamplers, features, classes, piece.grid)
        seen = (slice(*piece.tile.rows[2:]), slice(*piece.tile.columns[2:]))
        values += bilinear_part(normal, self.small, self.enlarged, seen, piece.far)
        if self.refine and classes is not None:
            values = refine_(values, classes)
        return model.normalisation.undo(values)

    def _classes(self, piece: _Piece, features: Tensor) -> Tensor:
        if self.policy.name in _OF_ALL_PIXELS:
            assert self.classes is not None
            return self.classes[(slice(None), *piece.far)].to(features.device)
        found = argmax_classes(values_on(self.model.classifier, features, piece.grid), self.costs, self.policy.k)
        if self.classes is not None:
            self.classes[(slice(None), *piece.wanted)] = found[(slice(None), *piece.inner)].cpu()
        return found

    def _pieces(self) -> Iterator[_Piece]:
        for tile in self.tiles:
            near, far, wanted, inner = [], [], [], []
            for extent, pixels, span in zip(self.small, self.enlarged, tile, strict=True):
                near.append(slice(max(span.begin - 1, 0), min(span.end + 1, extent)))
                far.append(enlarged_span(extent, pixels, near[-1]))
                wanted.append(enlarged_span(extent, pixels, slice(span.begin, span.end)))
                inner.append(slice(wanted[-1].start - far[-1].start, wanted[-1].stop - far[-1].start))
            grid = grid_of(self.small, self.enlarged, self.like.device, (near[0], near[1]))
            yield _Piece(tile, (near[0], near[1]), (far[0], far[1]), grid, (wanted[0], wanted[1]), (inner[0], inner[1]))

    def _window(self, piece: _Piece) -> Float[Tensor, "1 chans height width"]:
        """The normalised pixels of a tile and its halo."""
        rows, columns = piece.tile
        part = self.picture[None, :, rows.first : rows.last, columns.first : columns.last]
        white = LEVELS.get(str(part.dtype).removeprefix("torch."), 1)
        part = part.to(device=self.like.device, dtype=self.like.dtype)
        return self.model.normalisation(part / white if white != 1 else part)

    def _features(self, piece: _Piece, normal: Tensor) -> Tensor:
        """Of the tile and one pixel around it."""
        first = (piece.tile.rows.first, piece.tile.columns.first)
        rows, columns = (slice(n.start - f, n.stop - f) for n, f in zip(piece.near, first, strict=True))
        return quick_features(self.model.encoder, normal)[:, :, rows, columns]


class _Count:
    """Tells how many tiles are done."""

    def __init__(self, total: int, tell: Callable[[int, int], None] | None) -> None:
        self.done, self.total, self.tell = 0, total, tell

    def one_more(self) -> None:
        self.done += 1
        if self.tell is not None:
            self.tell(self.done, self.total)


def plan_of(
    model: "PCSR", small: Size, enlarged: Size, policy: Policy, tile: int | str, memory: float | int, itemsize: int
) -> Plan:
    """Tiles that fit into the memory.

    Args:
        model: that enlarges.
        small: height and width of the picture.
        enlarged: of the enlarged one.
        policy: how classes are decided.
        tile: side of a tile in pixels of the small image, or "auto".
        memory: bytes that may be taken.
        itemsize: bytes of a value of the result.

    Raises:
        ValueError: too little memory for one tile.
    """
    count, pixels = len(model.upsamplers), enlarged[0] * enlarged[1]
    fixed = pixels * model.in_chans * itemsize + small[0] * small[1] * model.in_chans * 4 + pixels
    if policy.name in _OF_ALL_PIXELS:  # what is kept of the scores, and what deciding makes of it
        fixed += pixels * (12 if policy.name == "adm" else 4 * count + 12)
    radius = receptive_radius(model.encoder)
    each = _bytes_of_a_pixel(model, pixels / (small[0] * small[1]))
    longest = max(small)
    halo = longest if radius is None else max(radius, 1) + 1
    if tile == "auto":
        side = min(longest, max(_SIDE, _SIDE_IN_RADII * (radius or 0)))
        while side > _LEAST_SIDE and fixed + _window(small, side, halo) * each > memory:
            side = max(side * 3 // 4, _LEAST_SIDE)
    else:
        side = int(tile)
    if radius is None:
        side = longest
    needed = fixed + _window(small, side, halo) * each
    if needed > memory:
        why = (
            "the backbone does not say how far its features see, so the picture cannot be cut: set its attribute "
            "receptive_radius"
            if radius is None
            else f"tiles have {side} pixels a side and {halo} around"
        )
        raise ValueError(
            f"max_memory is {in_words(memory)}, but {in_words(needed)} are needed for "
            f"{enlarged[0]}x{enlarged[1]} pixels: {why}"
        )
    features = 4 * model.classifier.in_chans * small[0] * small[1] * (1 + 2 / side) ** 2
    return Plan(side, halo, needed + features <= _SHARE_WITH_FEATURES * memory)


def check_tile(tile: Any) -> None:
    """Refuse what is no side of a tile.

    Raises:
        ValueError: neither a whole number from 1 nor "auto".
    """
    if tile == "auto" or (isinstance(tile, int | np.integer) and not isinstance(tile, bool) and tile >= 1):
        return
    raise ValueError(f"tile must be a whole number of pixels of the small image from 1, or 'auto', got {tile!r}")


def _window(small: Size, side: int, halo: int) -> int:
    return min(small[0], side + 2 * halo) * min(small[1], side + 2 * halo)


def _bytes_of_a_pixel(model: "PCSR", area: float) -> float:
    """What is alive at once for a pixel of the small image, of which `area` are made, at most."""
    channels = model.classifier.in_chans
    widest = max((width for u in model.upsamplers for width in u.hidden), default=0)
    behind = 4 * (channels + widest + 16) + area * (4 * len(model.upsamplers) + 9 + 16 * model.in_chans)
    return 4 * 12 * channels + behind
