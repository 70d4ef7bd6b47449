"""What an update learns from: random squares of small images and the same places of the photographs."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from zoo.errors import DataError
from zoo.training.data.image_set import ImageSet
from zoo.training.data.patch import Patch
from zoo.training.super_resolution.photos import Photos


class Patches(ImageSet):
    """`count` places to draw a patch from, photographs by their area; where exactly is drawn anew every time.

    Args:
        photos: the photographs.
        side: of a patch, in pixels of the small image.
        count: patches an epoch; None for as many as cover the photographs once.

    Raises:
        DataError: a photograph that is smaller than a patch.
    """

    def __init__(self, photos: Photos, side: int, count: int | None = None):
        self.photos, self.side = photos, side
        areas = np.array([photos.area(i) for i in range(len(photos))], dtype=np.float64)
        if (areas < side * side).any():
            raise DataError(self._too_small(int((areas < side * side).argmax())))
        count = count or max(1, round(float(areas.sum()) / side**2))
        self.of = np.searchsorted(areas.cumsum() / areas.sum(), (np.arange(count) + 0.5) / count)
        super().__init__(photos.labels[self.of], [], name=photos.name)

    def _check_labels(self) -> None:
        """There are none to be checked."""

    def image(self, index: int) -> Patch:
        """A random patch, perhaps mirrored and turned, of a photograph; draws from Python's generator."""
        place = int(self.of[index])
        small, large = self.photos.image(place)
        side, scale = self.side, self.photos.scale
        height, width = small.shape[1:]
        if min(height, width) < side:
            raise DataError(self._too_small(place))
        y, x = random.randrange(height - side + 1), random.randrange(width - side + 1)
        along, down, turned = (random.random() < 0.5 for _ in range(3))

        def cut(image: Tensor, factor: int) -> Tensor:
            top, left, length = y * factor, x * factor, side * factor
            part = image[:, top : top + length, left : left + length]
            part = part.flip(2) if along else part
            part = part.flip(1) if down else part
            return (part.mT if turned else part).to(torch.float32) / 255

        return Patch(cut(small, 1), cut(large, scale))

    def where(self, index: int) -> str:
        return self.photos.where(int(self.of[index]))

    def _too_small(self, place: int) -> str:
        side, scale = self.side, self.photos.scale
        return (
            f"{self.photos.where(place)} is smaller than a patch: patch_size={side} (--patch-size) at scale={scale} "
            f"needs {side * scale} x {side * scale} pixels"
        )
