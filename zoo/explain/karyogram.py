"""A karyogram: the chromosomes of a case in their order, as a karyotype has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import DataError
from zoo.explain.figure import finish
from zoo.karyotype import HUMAN, Karyotype, Template
from zoo.training.data.chromosome_transform import ChromosomeToTensor
from zoo.training.plots import GREY, ORANGE, new_figure

RED = "#b5475a"
#: Groups of the types of a human, row by row, as karyograms have them.
_CLASSIC = (((0, 3), (3, 5)), ((5, 12),), ((12, 15), (15, 18)), ((18, 20), (20, 22), (22, 23), (23, 24)))
#: Autosomes of a row where the species is another one.
_ROW = 7
#: In widths of a slot: between two types, and between two groups at least.
_APART, _GROUPS = 0.8, 1.2
#: Inches of the figure's width.
_WIDE = 9.0
#: What hangs together is looked at in so many cells a side.
_CELLS = 64


class Slot(NamedTuple):
    """Where a chromosome stands, or should stand.

    Attributes:
        kind: number of its type.
        chromosome: its index in the case; None where a copy is missing.
        x: of its middle, in pixels of the images.
        floor: what it stands on; y grows downwards.
    """

    kind: int
    chromosome: int | None
    x: float
    floor: float


def plot_karyogram(
    images: Any,
    karyotype: Karyotype,
    *,
    polarity: Any = None,
    background: str = "auto",
    threshold: float = 0.1,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """The chromosomes of a case in the order of their types, as a matplotlib Figure; not a medical device.

    Human ones stand in four rows: 1-3 and 4-5; 6-12; 13-15 and 16-18; 19-20, 21-22, X and Y. All have their true size
    relative to each other: a pixel is as long in every image, and what is empty about a chromosome is cut off. Dark on
    white, whatever the images are. A type with copies too many or too few has its name and change in red, a dashed
    frame stands where a copy is missing. A chromosome that was overruled has an orange frame, with its index and what
    alone is likeliest above it.

    Args:
        images: those of the case, in the order in which their probabilities were given: a tensor (n, chans, height,
            width) or (n, height, width), or a sequence of tensors, arrays or PIL images of any sizes.
        karyotype: what `zoo.karyotype.dispatch` or `predict_case` found; by `dispatch_cases` of several, its images are
            those of `karyotype.rows`.
        polarity: one number each; 1 (short arm down) is turned by 180 degrees, 0 and -1 (not known) are left.
        background: "auto", "white" or "black", as of `ChromosomeToTensor`.
        threshold: a pixel that differs less from the background, in parts of the image's largest difference, is
            empty, and so is what is within the noise of the background.
        title: of the figure; the karyotype's short form if None.
        path: a PNG file to write.

    Raises:
        ValueError: other numbers of images or polarities than of chromosomes, another polarity, a threshold out of
            [0, 1), an unknown background, images of another rank.
        TypeError: what is no karyotype.
        MissingExtraError: matplotlib is not installed.
    """
    if not isinstance(karyotype, Karyotype):
        raise TypeError(
            f"karyotype must be what zoo.karyotype.dispatch gives, of one case; got {type(karyotype).__name__}"
        )
    if len(images) != len(karyotype):
        raise ValueError(
            f"images must be one for each of {len(karyotype)} chromosomes, got {len(images)}; of several cases, those "
            "of karyotype.rows"
        )
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be at least 0 and below 1, got {threshold}")
    down = _turned(polarity, len(karyotype))
    cut = [_cut(image, background, threshold) for image in images]
    cut = [picture.flip(0, 1) if turned else picture for picture, turned in zip(cut, down, strict=True)]
    slots, size = _layout(karyotype, [picture.shape for picture in cut])
    left, right, top, bottom = size
    figure, (axes,) = new_figure(1, (_WIDE, _WIDE * (bottom - top) / (right - left) + 0.5))
    most = max(float(picture.max()) for picture in cut) or 1.0
    for slot in slots:
        if slot.chromosome is not None:
            picture = cut[slot.chromosome]
            high, wide = picture.shape
            place = (slot.x - wide / 2, slot.x + wide / 2, slot.floor, slot.floor - high)
            axes.imshow(picture.numpy(), extent=place, cmap="gray_r", vmin=0, vmax=most, interpolation="nearest")
    _mark(axes, karyotype, slots, cut)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_axis_off()
    figure.suptitle(_words(karyotype) if title is None else title, fontsize=11, x=0.01, ha="left", weight="bold")
    figure.supxlabel("not a medical device", fontsize=7, x=0.99, ha="right", color=GREY)
    return finish(figure, path)


def _turned(polarity: Any, count: int) -> list[bool]:
    """Which ones are turned."""
    if polarity is None:
        return [False] * count
    found = np.asarray(polarity.detach().cpu() if isinstance(polarity, Tensor) else polarity)
    if found.shape != (count,):
        raise ValueError(f"polarity must be a number for each of {count} chromosomes, got shape {found.shape}")
    wrong = [value for value in found.tolist() if value not in (-1, 0, 1)]
    if wrong:
        raise ValueError(f"polarity must be 0 (short arm up), 1 (down) or -1 (not known), got {wrong[0]!r}")
    return (found == 1).tolist()


def _cut(image: Any, background: str, threshold: float) -> Tensor:
    """(height, width) in grey, the background 0, without what is empty about the chromosome."""
    image = image.detach().cpu() if isinstance(image, Tensor) else image
    shape = image.shape if hasattr(image, "shape") else image.size
    if len(shape) not in (2, 3):
        raise ValueError(f"an image must be (height, width) or have channels besides, got {tuple(shape)}")
    try:
        grey = ChromosomeToTensor(max(shape), background)(image).mean(0)
    except DataError:  # the canvas is large enough, so nothing is on the background
        return torch.zeros(max(shape), max(shape))
    looked = grey
    if _edge(grey).any():  # noise: smoothed, which leaves a margin of two pixels at most
        looked = F.avg_pool2d(grey[None], 5, 1, 2, count_include_pad=False)[0]
    seen = _together(looked > max(threshold * float(looked.max()), _noise(looked)), int(looked.argmax()))
    if not seen.any():
        return grey
    (top, bottom), (left, right) = (_ends(seen.any(side)) for side in (1, 0))
    return grey[top:bottom, left:right].contiguous()


def _edge(image: Tensor) -> Tensor:
    """The outermost pixels, most of which are background."""
    return torch.cat([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])


def _noise(image: Tensor) -> float:
    """What the background hardly ever exceeds: three standard deviations of the outermost pixels."""
    middle, above = _edge(image).quantile(torch.tensor([0.5, 0.84])).tolist()
    return middle + 3 * (above - middle)


def _together(seen: Tensor, start: int) -> Tensor:
    """The part of a mask that hangs together with one of its pixels, over gaps of up to 1/20 of the side."""
    high, wide = seen.shape
    step = max(1, max(high, wide) // _CELLS)  # cells of so many pixels: few steps even for large images
    within = F.max_pool2d(seen.float()[None], step, ceil_mode=True)[0]
    part = torch.zeros_like(within)
    part[start // wide // step, start % wide // step] = 1
    while True:
        grown = F.max_pool2d(part[None], 7, 1, 3)[0] * within  # bands may be as light as the background
        if torch.equal(grown, part):
            break
        part = grown
    near = part.repeat_interleave(step, 0).repeat_interleave(step, 1)[:high, :wide]
    return seen & (near > 0)


def _ends(marked: Tensor) -> tuple[int, int]:
    """From the first marked place to behind the last."""
    places = marked.nonzero().flatten()
    return int(places[0]), int(places[-1]) + 1


def _groups(template: Template) -> list[list[list[int]]]:
    """Rows of groups of types."""
    if template.names == HUMAN.names:
        return [[list(range(*span)) for span in row] for row in _CLASSIC]
    sexes = [[template.names.index(name)] for name in template.sex_names]
    others = [kind for kind in range(len(template)) if [kind] not in sexes]
    rows = [[others[start : start + _ROW]] for start in range(0, len(others), _ROW)] or [[]]
    rows[-1] += sexes
    return rows


def _layout(
    karyotype: Karyotype, shapes: Sequence[Sequence[int]]
) -> tuple[list[Slot], tuple[float, float, float, float]]:
    """Every slot, and left, right, top and bottom of all: rows as wide as the widest, by the room between groups."""
    width = max(shape[1] for shape in shapes) * 1.1
    line = max(max(shape[0] for shape in shapes) * 0.16, width * 0.5)  # what a line of text takes
    wanted = karyotype.template.of(karyotype.sex)
    members = [np.flatnonzero(karyotype.types == kind).tolist() for kind in range(len(karyotype.template))]
    places = [max(len(here), wanted[kind], 1) for kind, here in enumerate(members)]
    rows = _groups(karyotype.template)
    wide = [
        [width * (sum(places[kind] for kind in group) + _APART * (len(group) - 1)) for group in row] for row in rows
    ]
    whole = max(sum(row) + _GROUPS * width * (len(row) - 1) for row in wide)
    slots, floor = [], 0.0
    for row, sizes in zip(rows, wide, strict=True):
        here = [shapes[one][0] for group in row for kind in group for one in members[kind]]
        floor += line + max(here, default=width)
        room = (whole - sum(sizes)) / (len(row) - 1) if len(row) > 1 else 0.0
        x = 0.0 if len(row) > 1 else (whole - sizes[0]) / 2
        for group, size in zip(row, sizes, strict=True):
            start = x
            for kind in group:
                missing = max(wanted[kind] - len(members[kind]), 0)
                for place, one in enumerate([*members[kind], *[None] * missing]):
                    slots.append(Slot(kind, one, start + (place + 0.5) * width, floor))
                start += width * (places[kind] + _APART)
            x += size + room
        floor += 1.2 * line  # the names
    return slots, (-0.5 * width, whole + 0.5 * width, 0.0, floor)


def _mark(axes: Any, karyotype: Karyotype, slots: list[Slot], cut: list[Tensor]) -> None:
    """Names of the types beneath, gains and losses, and who was overruled."""
    from matplotlib.patches import Rectangle

    wanted = karyotype.template.of(karyotype.sex)
    wide = max(picture.shape[1] for picture in cut)
    overruled = {one.index: one for one in karyotype.overruled}
    for kind, name in enumerate(karyotype.template.names):
        own = [slot for slot in slots if slot.kind == kind]
        if not own:
            continue
        change = int(karyotype.copies[kind]) - wanted[kind]
        middle = sum(slot.x for slot in own) / len(own)
        edge = (min(slot.x for slot in own) - wide / 2, max(slot.x for slot in own) + wide / 2)
        floor = own[0].floor + 0.12 * wide
        axes.plot(edge, (floor, floor), color=RED if change else GREY, lw=1.6 if change else 0.8)
        style: dict[str, Any] = {"color": RED, "weight": "bold"} if change else {}
        text = f"{name} ({change:+d})" if change else name
        axes.text(middle, floor + 0.12 * wide, text, ha="center", va="top", fontsize=9, **style)
        heights = [cut[slot.chromosome].shape[0] for slot in own if slot.chromosome is not None]
        for slot in own:
            if slot.chromosome is None:
                high = sum(heights) / len(heights) if heights else wide
                corner = (slot.x - wide / 2, slot.floor - high)
                axes.add_patch(Rectangle(corner, wide, high, fill=False, ec=RED, lw=1, ls="--"))
            elif slot.chromosome in overruled:
                one = overruled[slot.chromosome]
                high, width = cut[slot.chromosome].shape
                corner = (slot.x - width / 2, slot.floor - high)
                axes.add_patch(Rectangle(corner, width, high, fill=False, ec=ORANGE, lw=1.4))
                text = f"{one.index}: {one.likeliest}?"
                axes.text(slot.x, slot.floor - high, text, ha="center", va="bottom", fontsize=6, color=ORANGE)


def _words(karyotype: Karyotype) -> str:
    more = ["template forced"] if karyotype.strict else []
    more += [f"{len(karyotype.overruled)} overruled"] if karyotype.overruled else []
    return karyotype.karyotype + (f" ({', '.join(more)})" if more else "")
