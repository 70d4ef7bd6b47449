"""The stitching layers that least squares find from a few images, which is how stitched networks begin.

A layer at the cut (j, k) maps what block j of the front anchor gives to what block k of the end anchor is given; one
that serves several cuts is the average of their maps. Sums of products are taken as the blocks run, so that no features
outlive the few blocks until their counterpart is there, and each front block's matrix is factorised once.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from zoo.layers.least_squares import NormalEquations
from zoo.layers.stitch import StitchLayer, rows_of
from zoo.models.image_contract import check_image
from zoo.models.placed import placed_copy
from zoo.models.stitching.anchors import Anchor, Piece, anchor_of
from zoo.models.stitching.path import Join
from zoo.models.stitching.probed import check_block
from zoo.models.stitching.stitches import StitchConfig

#: A place in a forward pass: the anchor, and how many of its pieces have run.
Point = tuple[int, int]


def batches_of(images: Any, num_samples: int = 100, batch_size: int = 32) -> Iterator[Tensor]:
    """Batches of the first `num_samples` images; of a data set, of samples at equal distances.

    Args:
        images: a tensor (N, C, H, W), an iterable of batches, of single images or of (images, labels), or a data set.
        num_samples: at most so many.
        batch_size: images in a batch.

    Raises:
        TypeError: something else.
        ValueError: numbers below 1.
    """
    for name, number in (("num_samples", num_samples), ("batch_size", batch_size)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be 1 or more, got {number!r}")
    if isinstance(images, Tensor):
        items: Iterable[Any] = [images]
    elif isinstance(images, Dataset) and not isinstance(images, IterableDataset):
        count = len(images)  # pyright: ignore[reportArgumentType]
        taken = min(count, num_samples)
        items = (images[i * count // taken] for i in range(taken))
    elif isinstance(images, str | dict) or not isinstance(images, Iterable):
        raise TypeError(f"expected images, a loader of batches or a data set, got a {type(images).__name__}")
    else:
        items = images
    return _batches(items, num_samples, batch_size)


def _batches(items: Iterable[Any], num_samples: int, batch_size: int) -> Iterator[Tensor]:
    left, single = num_samples, []
    for item in items:
        found = item[0] if isinstance(item, tuple | list) and item else item
        if not isinstance(found, Tensor):
            raise TypeError(
                f"expected tensors of images, or (images, labels), got a {type(found).__name__}; data sets need a "
                "transform that makes tensors"
            )
        if found.ndim == 3:
            if single and found.shape != single[0].shape:
                raise ValueError(f"images differ in shape: {tuple(single[0].shape)} and {tuple(found.shape)}")
            single.append(found)
            if len(single) < min(batch_size, left):
                continue
            found, single = torch.stack(single), []
        if len(found):
            yield from found[:left].split(batch_size)
        left -= min(left, len(found))
        if left == 0:
            return
    if single:
        yield torch.stack(single)[:left]


@torch.no_grad()
def fit_layers(
    configs: Sequence[StitchConfig],
    anchors: Sequence[Anchor],
    layer: Callable[[Join], StitchLayer],
    batches: Iterable[Tensor],
    *,
    rcond: float | None = None,
    ridge: float = 0.0,
) -> None:
    """Set every stitching layer that a stitch uses. Anchors run in evaluation mode and stay as they are.

    Args:
        configs: the stitches.
        anchors: all of the network.
        layer: finds stitching layers.
        batches: of images.
        rcond, ridge: as of `StitchLayer.fit`.

    Raises:
        ValueError: as of `StitchNet.init_stitches`; nothing has been set then.
        TypeError: images of integers.
    """
    if rcond is not None and not 0 <= rcond < 1:
        raise ValueError(f"rcond must be at least 0 and below 1, got {rcond}")
    if not 0 <= ridge < math.inf:
        raise ValueError(f"ridge must be at least 0 and finite, got {ridge}")
    if any(p.is_meta for anchor in anchors for p in anchor.model.parameters()):
        raise ValueError(
            'anchors on the device "meta" have no values: call to_empty and load weights first; after '
            "offload_unused() loading them is enough"
        )
    cuts = _cuts_of(configs, anchors)
    targets: dict[Point, list[Point]] = {}
    for front, end in dict.fromkeys(pair for pairs in cuts.values() for pair in pairs):
        targets.setdefault(front, []).append(end)
    device = next((p.device for anchor in anchors for p in anchor.model.parameters()), torch.device("cpu"))
    # Loaders and models may draw; who calls should not see it.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        copies = [anchor_of(placed_copy(anchor.model)) for anchor in anchors]
        equations = _sums(targets, copies, batches, mixed=rcond is None)
    wanted: dict[tuple[Point, Point], list[Join]] = {}
    for join, pairs in cuts.items():
        for pair in pairs:
            wanted.setdefault(pair, []).append(join)
    maps: dict[Join, Tensor] = {}
    for front, ends in targets.items():
        system = equations.pop(front)
        try:
            found = system.solve(ridge, cutoff=system.float32_cutoff if rcond is None else rcond)
        except ValueError as error:
            raise ValueError(f"{_where(front, anchors)}: {error}") from error
        for end, part in zip(ends, found.split(system.widths, 1), strict=True):
            for join in wanted[front, end]:
                share = part / len(cuts[join])
                maps[join] = maps[join].add_(share) if join in maps else share
    for join, coefficients in maps.items():
        layer(join).take(coefficients)


def _cuts_of(configs: Sequence[StitchConfig], anchors: Sequence[Anchor]) -> dict[Join, list[tuple[Point, Point]]]:
    """For every stitching layer the points that it leads from and to."""
    places = [{piece: i for i, piece in enumerate(anchor.walk())} for anchor in anchors]
    cuts: dict[Join, list[tuple[Point, Point]]] = {}
    for config in configs:
        for join, (front, end) in zip(config.joins, config.cuts, strict=True):
            stage, a, b, _ = join
            after = places[a][Piece("block", stage or 0, front)] + 1
            # Where no block of the end is left, its last block's features are what the map leads to.
            last = anchors[b].depths[stage or 0] - 1
            before = places[b][Piece("block", stage or 0, min(end, last))] + (end > last)
            pair = ((a, after), (b, before))
            if pair not in cuts.setdefault(join, []):
                cuts[join].append(pair)
    return cuts


def _sums(
    targets: dict[Point, list[Point]], anchors: Sequence[Anchor], batches: Iterable[Tensor], mixed: bool
) -> dict[Point, NormalEquations]:
    """The normal equations of every front point, from all images."""
    equations = {front: NormalEquations(constant=True, mixed=mixed) for front in targets}
    needed = [{front, *ends} for front, ends in targets.items()]
    uses = Counter(point for points in needed for point in points)
    walks = [list(anchor.walk()) for anchor in anchors]
    lasts = [max((step for a, step in uses if a == number), default=0) for number in range(len(anchors))]
    # Side by side, so that counterparts come soon after each other.
    order = sorted((step / len(walks[a]), a, step) for a, last in enumerate(lasts) for step in range(1, last + 1))
    seen, low, high = 0, math.inf, -math.inf
    for images in batches:
        _check_images(images, anchors)
        low, high = min(low, images.min().item()), max(high, images.max().item())
        states, held, open_uses = [images] * len(anchors), {}, Counter(uses)
        for _, a, step in order:
            piece = anchors[a].piece(walks[a][step - 1])
            if step == 1:
                like = next(anchors[a].model.parameters(), images)
                states[a] = images.to(device=like.device, dtype=like.dtype)
            states[a] = piece(states[a])
            if walks[a][step - 1].kind == "block":
                check_block(states[a], anchors[a], walks[a][step - 1], f"anchor {a}")
            if (a, step) not in uses:
                continue
            held[a, step] = rows_of(states[a], anchors[a].layout).clone()  # blocks may write over what they are given
            for (front, ends), points in zip(targets.items(), needed, strict=True):
                if (a, step) in points and points <= held.keys():
                    _add(equations[front], front, ends, held, anchors)
                    open_uses.subtract(points)
            held = {point: rows for point, rows in held.items() if open_uses[point]}
        seen += len(images)
    if not seen:
        raise ValueError("there are no images to initialise the stitching layers with")
    if low == high:
        raise ValueError(f"every value of the images is {low:g}: they determine nothing, give images as for training")
    return equations


def _add(
    equations: NormalEquations, front: Point, ends: list[Point], held: dict[Point, Tensor], anchors: Sequence[Anchor]
) -> None:
    x = held[front]
    try:
        equations.add(x, *(held[end].to(x.device) for end in ends))
    except ValueError as error:
        raise ValueError(f"{_where(front, anchors)}: {error}") from error


def _where(point: Point, anchors: Sequence[Anchor]) -> str:
    anchor, step = point
    piece = list(anchors[anchor].walk())[step - 1]
    stage = f" of stage {piece.stage}" if len(anchors[anchor].stages) > 1 else ""
    return f"behind {piece.kind} {piece.index}{stage} of anchor {anchor}"


def _check_images(images: Tensor, anchors: Sequence[Anchor]) -> None:
    check_image(images, int(getattr(anchors[0].model, "in_chans", images.shape[1] if images.ndim == 4 else 3)))
    for number, anchor in enumerate(anchors):
        if anchor.img_size is not None and tuple(images.shape[2:]) != anchor.img_size:
            height, width = anchor.img_size
            raise ValueError(
                f"anchor {number} takes images of {height}x{width}, got {images.shape[2]}x{images.shape[3]}"
            )
    if not images.isfinite().all():
        raise ValueError("the images have NaN or infinite values")
