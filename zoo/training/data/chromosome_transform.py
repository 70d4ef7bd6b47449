"""Chromosomes as a network takes them, and how they are varied: their size is kept, and their polarity is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import DataError

BACKGROUNDS = ("auto", "white", "black")
#: Between these, corners are grey, and do not say whether the object is darker or brighter.
_GREY = (0.25, 0.75)


class ChromosomeToTensor:
    """Put an image onto a square canvas with a background of 0, without resizing it.

    The size of a chromosome tells much of its type, so no image is stretched to fill the canvas. All may be scaled by
    one common factor. The corners say what the background is: their median becomes 0, and a bright one is inverted, as
    is a grey one with a darker object on it.

    Args:
        size: side of the canvas.
        background: "white" is inverted, "black" is not, "auto" looks at the corners, and on grey at the object.
        scale: common factor on the size of all images, where these are larger or much smaller than the canvas.

    Raises:
        ValueError: another word; a size or factor that is not positive.
    """

    def __init__(self, size: int = 256, background: str = "auto", *, scale: float = 1.0):
        if background not in BACKGROUNDS:
            raise ValueError(f"background must be one of {', '.join(BACKGROUNDS)}, got {background!r}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"size must be a whole number from 1, got {size!r}")
        if not scale > 0:
            raise ValueError(f"scale must be a positive number, got {scale!r}")
        self.size, self.background, self.scale = size, background, scale

    def __call__(self, image: Any) -> Tensor:
        """(C, size, size) float32 in [0, 1], of a PIL image, an array (H, W[, C]) or a tensor (C, H, W).

        Whole numbers are pixels of their type's range, real numbers lie in [0, 1] already.

        Raises:
            DataError: an image that is larger than the canvas, or has nothing on its background.
        """
        pixels = _in_unit(image)
        corners = pixels[:, (0, 0, -1, -1), (0, -1, 0, -1)].median()
        white = self.background == "white" or (self.background == "auto" and _is_white(pixels, float(corners)))
        pixels = ((corners - pixels) if white else (pixels - corners)).clamp_min(0)
        if not float(pixels.amax()) > 0:
            where = "" if self.background == "auto" else f" {'darker' if white else 'brighter'}"
            raise DataError(f"no chromosome is in an image of which nothing is{where or ' other'} than the background")
        if self.scale != 1:
            height, width = (max(1, round(side * self.scale)) for side in pixels.shape[1:])
            pixels = F.interpolate(pixels[None], (height, width), mode="bilinear", antialias=True)[0]
        height, width = pixels.shape[1:]
        if max(height, width) > self.size:
            most = self.scale * self.size / max(height, width)
            raise DataError(
                f"a chromosome of {width} x {height} pixels does not fit onto the canvas of {self.size} x {self.size}; "
                f"images are never resized one by one, for their size tells of their type: build the model with "
                f"img_size={max(height, width)} or more, or scale all images by {most:.3g} or less (crop_pct)"
            )
        left, top = (self.size - width) // 2, (self.size - height) // 2
        return F.pad(pixels, (left, self.size - width - left, top, self.size - height - top))

    def __repr__(self) -> str:
        return f"ChromosomeToTensor(size={self.size}, background={self.background!r}, scale={self.scale:g})"


class ChromosomeAugment:
    """Vary images of chromosomes, and correct the polarity where they are turned over.

    Mirroring left and right keeps the polarity. Mirroring top and bottom, or turning by more than 90 degrees, makes the
    other one of it; both together keep it.

    Args:
        rotation: largest angle in degrees, either way.
        shift: largest shift, either way, in parts of the image.
        scale: largest change of size, 0.05 is from 95 to 105 %. Little: size tells of the type.
        jitter: largest change of brightness, as a factor, and of the exponent of the grey values.
        hflip, vflip: probabilities of mirroring left and right, top and bottom.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        *,
        rotation: float = 15.0,
        shift: float = 0.03,
        scale: float = 0.05,
        jitter: float = 0.15,
        hflip: float = 0.5,
        vflip: float = 0.5,
    ):
        if not 0 <= rotation <= 180:
            raise ValueError(f"rotation must be a number of degrees from 0 to 180, got {rotation!r}")
        for name, value in (("shift", shift), ("scale", scale), ("jitter", jitter)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be a number from 0, below 1, got {value!r}")
        for name, value in (("hflip", hflip), ("vflip", vflip)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")
        self.rotation, self.shift, self.scale, self.jitter = rotation, shift, scale, jitter
        self.hflip, self.vflip = hflip, vflip

    def __call__(self, image: Tensor, polarity: int = -1) -> tuple[Tensor, int]:
        """Another image, and the polarity that it shows.

        Draws from torch's generator of the CPU, as many numbers each time.

        Args:
            image: (C, H, W) with a background of 0, as `ChromosomeToTensor` gives it.
            polarity: 0 or 1; -1 where it is not known, and then it stays unknown.
        """
        drawn = torch.rand(8).tolist()
        angle, zoom, right, down, bright, gamma = (2 * value - 1 for value in drawn[:6])
        mirrored, upset = drawn[6] < self.hflip, drawn[7] < self.vflip
        degrees = angle * self.rotation
        image = image.flip(2) if mirrored else image
        image = image.flip(1) if upset else image
        image = moved(image, degrees, 1 + zoom * self.scale, (right * self.shift, down * self.shift))
        image = (image.clamp(0, 1) ** (1 + gamma * self.jitter) * (1 + bright * self.jitter)).clamp(0, 1)
        if polarity < 0:
            return image, polarity
        return image, polarity ^ int(upset) ^ int(abs(degrees) > 90)

    def __repr__(self) -> str:
        return (
            f"ChromosomeAugment(rotation={self.rotation:g}, shift={self.shift:g}, scale={self.scale:g}, "
            f"jitter={self.jitter:g}, hflip={self.hflip:g}, vflip={self.vflip:g})"
        )


def moved(image: Tensor, degrees: float, scale: float, shift: Sequence[float]) -> Tensor:
    """An image turned (against the clock), scaled about its middle and shifted, in one step; 0 comes in at the edges.

    Args:
        image: (C, H, W).
        degrees: of the turn.
        scale: above 1, what is shown grows.
        shift: right and down, in parts of the image.
    """
    height, width = image.shape[1:]
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    ratio = height / width
    right, down = 2 * shift[0], 2 * shift[1]
    # From where in the old image each place of the new one is taken.
    rows = [[cosine, -sine * ratio], [sine / ratio, cosine]]
    theta = torch.tensor([[*row, -(row[0] * right + row[1] * down)] for row in rows], dtype=image.dtype)
    grid = F.affine_grid(theta[None], [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, align_corners=False)[0]


def _is_white(pixels: Tensor, corners: float) -> bool:
    """Whether a background is bright, or grey with a darker object on it."""
    if not _GREY[0] <= corners <= _GREY[1]:
        return corners > _GREY[1]
    edges = torch.cat([pixels[:, (0, -1)].flatten(), pixels[:, :, (0, -1)].flatten()])
    # Cubes, so that the noise of a large background says little beside a small object.
    return float((pixels - edges.median()).pow(3).sum()) < 0


def _in_unit(image: Any) -> Tensor:
    """(C, H, W) float32 in [0, 1]."""
    if not isinstance(image, Tensor):
        array = np.array(image)  # a copy: of PIL images the pixels are read-only
        image = torch.from_numpy(np.ascontiguousarray(array if array.ndim == 2 else np.moveaxis(array, -1, 0)))
    image = image[None] if image.ndim == 2 else image
    if image.is_floating_point():
        return image.to(torch.float32)
    if image.dtype == torch.bool:
        return image.to(torch.float32)
    return image.to(torch.float32) / torch.iinfo(image.dtype).max
