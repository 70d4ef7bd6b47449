"""Rendered chromosomes: banded rods of 24 types, drawn by a program. No patient, no microscope, no diagnosis.

There is no large set of chromosome images under a free licence, so this one stands in for it: to try the training and
the karyotype with cases of 46, to test and to show. What is real is the proportion of the types: lengths and places of
the centromere are those of the human reference genome (GRCh37). The bands are drawn at random, once for each type; they
are not those of a real idiogram. A model that learned these images knows nothing of real ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from zoo.karyotype import HUMAN

#: Types in their order; number k of a label is `TYPES[k]`.
TYPES = HUMAN.names
#: Millions of base pairs of each type, and how many of them lie on the short arm.
_LENGTHS = (
    249.3, 243.2, 198.0, 191.2, 180.9, 171.1, 159.1, 146.4, 141.2, 135.5, 135.0, 133.9,
    115.2, 107.3, 102.5, 90.4, 81.2, 78.1, 59.1, 63.0, 48.1, 51.3, 155.3, 59.4,
)  # fmt: skip
_SHORT_ARMS = (
    125.0, 93.3, 91.0, 50.4, 48.4, 61.0, 59.9, 45.6, 49.0, 40.2, 53.7, 35.8,
    17.9, 17.6, 19.0, 36.6, 24.0, 17.2, 26.5, 27.5, 13.2, 14.7, 60.6, 12.5,
)  # fmt: skip
#: Of the side of the canvas, how long the longest type is on average, and how wide all are.
_LONGEST, _WIDTH = 0.78, 0.15
#: Bands of the longest type; a pixel of a canvas of 64 shows about half a band.
_BANDS = 24
_BAND_SEED = 1810


class Look(NamedTuple):
    """How one case was prepared: the same for all its chromosomes.

    Attributes:
        length: factor on all lengths.
        contrast: of the bands.
        blur: standard deviation, in parts of the canvas.
        noise: standard deviation.
        ink: how dark the chromosomes are.
        paper: how bright the background is.
    """

    length: float = 1.0
    contrast: float = 0.8
    blur: float = 0.012
    noise: float = 0.03
    ink: float = 0.75
    paper: float = 1.0


def band_pattern(kind: int, places: np.ndarray) -> np.ndarray:
    """How dark a type is along its axis, in [0, 1]; fixed, drawn at random for each type.

    Args:
        kind: number of the type, from 0.
        places: along the axis, 0 at the end of the short arm and 1 at that of the long one.
    """
    draw = np.random.RandomState(_BAND_SEED + kind)
    count = max(4, round(_BANDS * _LENGTHS[kind] / _LENGTHS[0]))
    edges = np.sort(draw.uniform(0, 1, count))
    grey = draw.uniform(0, 1, count + 1)
    grey[::2] = 0.25 * grey[::2]  # light bands and dark ones by turns
    grey[1::2] = 0.5 + 0.5 * grey[1::2]
    return grey[np.searchsorted(edges, places)]


def render_chromosome(
    kind: int,
    *,
    size: int = 64,
    inverted: bool = False,
    bend: float = 0.0,
    turn: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    length: float = 1.0,
    width: float = 1.0,
    warp: float = 0.0,
    look: Look | None = None,
    draw: np.random.RandomState | None = None,
) -> np.ndarray:
    """One chromosome, dark on a bright background, as (size, size) uint8.

    Args:
        kind: number of the type, from 0; its length is in proportion to the longest one's.
        size: side of the canvas.
        inverted: the short arm points down.
        bend: of the axis, in radians from end to end.
        turn: of the whole, in degrees.
        shift: of the middle, right and down, in parts of the canvas.
        length, width: factors of this chromosome.
        warp: how unevenly it is stretched, from -1 to 1.
        look: of its case.
        draw: makes the noise; none without it.

    Raises:
        ValueError: a type that there is not, or a canvas below 16.
    """
    if not 0 <= kind < len(TYPES):
        raise ValueError(f"kind must be a number from 0 to {len(TYPES) - 1}, got {kind!r}")
    if not isinstance(size, int) or size < 16:
        raise ValueError(f"size must be a whole number from 16, got {size!r}")
    look = look or Look()
    whole = _LONGEST * _LENGTHS[kind] / _LENGTHS[0] * length * look.length
    half = _WIDTH / 2 * width
    along, across = _axes(size, bend / whole, turn, shift)
    place = along / whole + 0.5
    place = place if not inverted else 1 - place
    centromere = _SHORT_ARMS[kind] / _LENGTHS[kind]
    # A rod with round ends, pinched at the centromere.
    pinch = 1 - 0.55 * np.exp(-(((place - centromere) * whole / (0.4 * _WIDTH)) ** 2))
    beyond = np.maximum(np.abs(along) - (whole / 2 - half), 0)
    distance = np.hypot(across / pinch, beyond)
    body = np.clip((half - distance) * size + 0.5, 0, 1)
    stretched = np.clip(place + 0.3 * warp * place * (1 - place), 0, 1)
    grey = 1 - look.contrast * (1 - band_pattern(kind, stretched))
    gap = 1 - 0.12 * np.exp(-((across / (0.15 * _WIDTH)) ** 2))  # between the two chromatids
    picture = _blurred(look.paper - (look.paper - 1 + look.ink) * body * grey * gap, look.blur * size)
    if draw is not None:
        picture = picture + _blurred(draw.normal(0, 1, picture.shape), 0.6) * 2 * look.noise
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _axes(size: int, curvature: float, turn: float, shift: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Of every pixel how far along the axis it lies and how far from it, in parts of the canvas; down is positive."""
    line = (np.arange(size) + 0.5) / size - 0.5
    x, y = line[None, :] - shift[0], line[:, None] - shift[1]
    angle = np.deg2rad(turn)
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    if abs(curvature) < 1e-3:
        return y + 0 * x, x + 0 * y
    radius = 1 / curvature
    # The axis is an arc whose middle is that of the canvas.
    along = np.arctan2(y, (radius - x) * np.sign(radius)) * abs(radius)
    return along, radius - np.sign(radius) * np.hypot(radius - x, y)


def _blurred(picture: np.ndarray, deviation: float) -> np.ndarray:
    """Gauss, by rows and by columns; at the edge the weights of what is inside are made to add up to 1."""
    steps = np.arange(len(picture))
    weights = np.exp(-0.5 * ((steps[:, None] - steps) / deviation) ** 2)
    weights /= weights.sum(1, keepdims=True)
    return weights @ picture @ weights.T


@dataclass(frozen=True)
class RenderedCase:
    """What is drawn of one case: 46 chromosomes.

    Attributes:
        name: of the case.
        sex: "XX" or "XY".
        kinds: (46,) numbers of the types.
        inverted: (46,) whether the short arm points down.
        look: of all of them.
        seed: of each picture.
    """

    name: str
    sex: str
    kinds: np.ndarray
    inverted: np.ndarray
    look: Look
    seed: int

    def picture(self, index: int, size: int) -> np.ndarray:
        """Chromosome `index` of the case, as (size, size) uint8; the same every time."""
        draw = np.random.RandomState((self.seed + index) % 2**32)
        return render_chromosome(
            int(self.kinds[index]),
            size=size,
            inverted=bool(self.inverted[index]),
            bend=float(draw.normal(0, 0.35)),
            turn=float(draw.normal(0, 6)),
            shift=(float(draw.normal(0, 0.02)), float(draw.normal(0, 0.02))),
            length=float(np.exp(draw.normal(0, 0.05))),
            width=float(np.exp(draw.normal(0, 0.08))),
            warp=float(draw.uniform(-1, 1)),
            look=self.look,
            draw=draw,
        )


def render_case(seed: int, name: str | None = None) -> RenderedCase:
    """A normal case by its seed: two of each autosome, and XX or XY; in random order, each one up or down."""
    draw = np.random.RandomState(seed % 2**32)
    sex = "XX" if draw.rand() < 0.5 else "XY"
    kinds = np.concatenate([np.repeat(np.arange(22), 2), [22, 22] if sex == "XX" else [22, 23]])
    look = Look(
        length=float(np.clip(np.exp(draw.normal(0, 0.06)), 0.88, 1.12)),
        contrast=float(draw.uniform(0.6, 0.95)),
        blur=float(draw.uniform(0.010, 0.020)),
        noise=float(draw.uniform(0.015, 0.05)),
        ink=float(draw.uniform(0.6, 0.85)),
        paper=float(draw.uniform(0.92, 1.0)),
    )
    return RenderedCase(
        name if name is not None else f"case {seed}",
        sex,
        draw.permutation(kinds),
        draw.rand(len(kinds)) < 0.5,
        look,
        int(draw.randint(2**31)),
    )
