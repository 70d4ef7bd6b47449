"""Photographs, each with the small one that a model is to enlarge."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.errors import DataError
from zoo.layers.bicubic import bicubic_downscale
from zoo.training.data.decode import read_image
from zoo.training.data.image import to_channels
from zoo.training.data.image_set import ImageSet

#: Bytes of decoded photographs that are kept for the next epoch.
_MOST_KEPT = 2 << 30


class Pair(NamedTuple):
    """A photograph (3, scale h, scale w) and the small one (3, h, w), both uint8."""

    small: Tensor
    large: Tensor


class Photos(ImageSet):
    """Photographs of one split.

    Without small images of their own these are made by `bicubic_downscale`, rounded to 8 bits, as an image file would
    be; what is left over at the right and below by a size that is no multiple of `scale` is cut off first.

    Args:
        files: of the photographs.
        small: of the small ones, in the same order; None to make them.
        name: what the split is called in messages.
        scale: how much larger the photographs are.
    """

    decodes = True

    def __init__(self, files: Sequence[Path], small: Sequence[Path] | None, *, name: str, scale: int):
        self.files, self.small, self.scale = list(files), None if small is None else list(small), scale
        self._kept: dict[int, Pair] = {}
        self._bytes = 0
        # They have no classes; what a resumed run compares is this.
        super().__init__(np.array([_mark(file) for file in self.files], dtype=np.int64), [], name=name)

    def _check_labels(self) -> None:
        if not self.files:
            raise DataError(f"{self.name} holds no images")

    def image(self, index: int) -> Pair:
        """Decoded at first, and kept as long as there is room."""
        if index not in self._kept:
            pair = self._read(index)
            size = pair.small.nbytes + pair.large.nbytes
            if self._bytes + size > _MOST_KEPT:
                return pair
            self._kept[index], self._bytes = pair, self._bytes + size
        return self._kept[index]

    def where(self, index: int) -> str:
        return str(self.files[index])

    def subset(self, indices: Sequence[int] | np.ndarray, name: str) -> Photos:
        small = None if self.small is None else [self.small[i] for i in indices]
        return Photos([self.files[i] for i in indices], small, name=name, scale=self.scale)

    def area(self, index: int) -> int:
        """Pixels of a small image, from what the file says of its size."""
        if index in self._kept:
            return self.image(index).small[0].numel()
        stated = _stated(self.files[index])
        if stated is None:
            return self.image(index).small[0].numel()
        return (stated[0] // self.scale) * (stated[1] // self.scale)

    def without_small(self) -> Photos:
        """The same photographs, with small ones that are made."""
        made = copy.copy(self)
        made.small, made._kept, made._bytes = None, {}, 0
        return made

    def check_pairs(self) -> None:
        """Look, before anything is learnt, whether the sizes of all pairs differ by the scale, by what files say.

        Raises:
            DataError: naming a pair whose sizes do not.
        """
        for index, (file, small) in enumerate(zip(self.files, self.small or (), strict=False)):
            sizes = _stated(file), _stated(small)
            if None not in sizes and sizes[0] != tuple(side * self.scale for side in sizes[1] or ()):
                self._read(index)  # it refuses them, unless one of the two is to be turned

    def _read(self, index: int) -> Pair:
        large, where = rgb(self.files[index]), self.where(index)
        if self.small is None:
            height, width = (side // self.scale for side in large.shape[1:])
            if min(height, width) < 1:
                raise DataError(f"{where} is {_size(large)} pixels, too small for scale={self.scale}")
            large = large[:, : height * self.scale, : width * self.scale].contiguous()
            return Pair(made_small(large, self.scale), large)
        small = rgb(self.small[index])
        wanted = tuple(side * self.scale for side in small.shape[1:])
        if tuple(large.shape[1:]) != wanted:
            raise DataError(
                f"{where} is {_size(large)} pixels, and the small image {self.small[index]} {_size(small)}: with "
                f"scale={self.scale} it should be {wanted[1]} x {wanted[0]}"
            )
        return Pair(small, large)


def _stated(file: Path) -> tuple[int, int] | None:
    """Width and height as an image file states them at its beginning; None where Pillow finds none."""
    try:
        with Image.open(file) as opened:
            return opened.size
    except (OSError, ValueError):
        return None


def rgb(file: Path) -> Tensor:
    """The pixels of an image file as (3, H, W) uint8.

    Raises:
        DataError: naming the file.
    """
    image: Any = to_channels(read_image(file), 3, where=str(file))
    if isinstance(image, Tensor):  # of deep colour
        return (image * 255).round().to(torch.uint8).contiguous()
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def made_small(large: Tensor, scale: int) -> Tensor:
    """The small image (3, h, w) of a photograph (3, scale h, scale w), both uint8."""
    size = (large.shape[1] // scale, large.shape[2] // scale)
    return in_steps(bicubic_downscale(large.float() / 255, size))


def in_steps(image: Tensor) -> Tensor:
    """An image in [0, 1] as uint8; what is outside is cut off."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _mark(file: Path) -> int:
    """A number that changes with a file's name and length."""
    return zlib.crc32(f"{file.name}/{file.stat().st_size}".encode())


def _size(image: Tensor) -> str:
    return f"{image.shape[2]} x {image.shape[1]}"
