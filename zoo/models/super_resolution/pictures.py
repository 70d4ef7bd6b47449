"""Pictures as tensors and back: of Pillow, NumPy, torch, or in a file."""

import os
import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

#: Types of the values of a picture, and which of them is white.
LEVELS = {"uint8": 255, "uint16": 65535, "float32": 1}
#: Pillow's modes of more than 8 bits of whole numbers.
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
#: The number of the field of a TIFF that counts channels.
_SAMPLES = 277
#: A path, an image of Pillow, an array (height, width) or (height, width, channels), or a tensor (channels, height,
#: width).
Picture = Any


def read_picture(image: Picture, in_chans: int = 3) -> Num[Tensor, "in_chans height width"]:
    """The values of a picture as they are, uint8, uint16 or floating point.

    A file is turned as its camera says. Pictures of Pillow become RGB, so that transparency is lost; where three
    channels are wanted, a grey array has them all equal. Pillow's 32-bit whole numbers are taken as 16 bits.

    Args:
        image: the picture.
        in_chans: channels wanted.

    Raises:
        ValueError: another number of channels, no pixels, a file of deep colour, or values without a range.
        TypeError: something else, or values of another type.
    """
    if isinstance(image, str | os.PathLike):
        from PIL import Image, ImageOps

        with Image.open(image) as opened:
            _refuse_what_pillow_cuts(opened, image)
            return read_picture(ImageOps.exif_transpose(opened), in_chans)
    if isinstance(image, Tensor):
        tensor = image.detach()
    elif isinstance(image, np.ndarray):
        array = image[..., None] if image.ndim == 2 else image
        if array.ndim != 3:
            raise ValueError(f"an array must be (height, width) or (height, width, channels), got {image.shape}")
        native = array.astype(array.dtype.newbyteorder("="))  # a copy: an array may be read-only or run backwards
        tensor = torch.from_numpy(native).permute(2, 0, 1)
    elif hasattr(image, "convert") and hasattr(image, "mode"):
        return read_picture(_of_pillow(image, in_chans), in_chans)
    else:
        raise TypeError(f"a picture is a path, an image of Pillow, an array or a tensor, got {type(image).__name__}")
    if tensor.ndim == 3 and tensor.shape[0] == 1 and in_chans > 1:
        tensor = tensor.expand(in_chans, -1, -1)
    if tensor.ndim != 3 or tensor.shape[0] != in_chans or not tensor.numel():
        raise ValueError(f"expected a picture of {in_chans} channels and at least a pixel, got {tuple(image.shape)}")
    if not tensor.is_floating_point() and tensor.dtype not in (torch.uint8, torch.uint16):
        raise TypeError(f"values must be uint8, uint16 or floating point in [0, 1], got {tensor.dtype}")
    return tensor


def _refuse_what_pillow_cuts(opened: Any, path: str | os.PathLike[str]) -> None:
    """Refuse deep colour, of which Pillow keeps 8 bits, and further channels, which it drops; warn of further pictures.

    Raises:
        ValueError: naming the file.
    """
    way = "zoo.upscale takes it whole" if opened.format in ("PNG", "TIFF") else "give its values as an array"
    if opened.mode not in DEEP_MODES and any(";16" in str(tile[3]) for tile in opened.tile):
        raise ValueError(f"{os.fspath(path)} is of 16-bit colour, of which 8 bits would be kept: {way}")
    samples = opened.tag_v2.get(_SAMPLES, 1) if opened.format == "TIFF" else 1
    if samples > 4:
        raise ValueError(f"{os.fspath(path)} has {samples} channels, of which some would be dropped: give an array")
    if getattr(opened, "n_frames", 1) > 1:
        warnings.warn(f"{os.fspath(path)} has {opened.n_frames} pictures; the first is taken", stacklevel=4)


def _of_pillow(image: Any, in_chans: int) -> np.ndarray:
    if image.mode in DEEP_MODES:
        values, note = deep_values(image, "the picture")
        if note is not None:
            warnings.warn(note, stacklevel=5)
        return values
    if image.mode == "F":
        return np.asarray(image, dtype=np.float32)
    return np.asarray(image.convert("L" if in_chans == 1 else "RGB"))


def deep_values(image: Any, where: str) -> tuple[np.ndarray, str | None]:
    """The values of an image of Pillow of one of `DEEP_MODES` as uint16, and a note if they may be of 8 bits.

    Args:
        image: of Pillow.
        where: what it is, for messages.

    Raises:
        ValueError: values that 16 bits do not hold.
    """
    values = np.asarray(image)
    least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if least < 0 or most > LEVELS["uint16"]:
        raise ValueError(f"{where} has values from {least} to {most}, where 0 to 65535 are expected")
    note = (
        f"{where} is of Pillow's mode I, whose whole numbers are taken as 16 bits, white being 65535, and has none "
        f"above {most}: if 255 is white, give image.convert('L')"
    )
    return values.astype(np.uint16), note if image.mode == "I" and 0 < most <= LEVELS["uint8"] else None


def as_written(image: Tensor, dtype: str) -> np.ndarray:
    """(height, width, channels) of a tensor (channels, height, width) in [0, 1].

    Args:
        image: values; it is changed.
        dtype: "uint8" or "uint16", rounded and clamped, or "float32".
    """
    image = image.float()
    if LEVELS[dtype] != 1:
        image = image.mul_(LEVELS[dtype]).round_().clamp_(0, LEVELS[dtype])
    image = image.permute(1, 2, 0)
    return (image.to(torch.uint8) if dtype == "uint8" else image).cpu().numpy().astype(dtype, copy=False)
