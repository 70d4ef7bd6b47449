"""Pictures as tensors and back: of Pillow, NumPy, torch, or in a file."""

import os
from typing import Any

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

#: Types of the values of a picture, and which of them is white.
LEVELS = {"uint8": 255, "uint16": 65535, "float32": 1}
#: A path, an image of Pillow, an array (height, width) or (height, width, channels), or a tensor (channels, height,
#: width).
Picture = Any


def read_picture(image: Picture, in_chans: int = 3) -> Num[Tensor, "in_chans height width"]:
    """The values of a picture as they are, uint8, uint16 or floating point.

    A file is turned as its camera says. Pictures of Pillow become RGB, so that transparency is lost; where three
    channels are wanted, a grey array has them all equal.

    Args:
        image: the picture.
        in_chans: channels wanted.

    Raises:
        ValueError: another number of channels, or no pixels.
        TypeError: something else, or values of another type.
    """
    if isinstance(image, str | os.PathLike):
        from PIL import Image, ImageOps

        with Image.open(image) as opened:
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


def _of_pillow(image: Any, in_chans: int) -> np.ndarray:
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        return np.clip(np.asarray(image), 0, LEVELS["uint16"]).astype(np.uint16)
    if image.mode == "F":
        return np.asarray(image, dtype=np.float32)
    return np.asarray(image.convert("L" if in_chans == 1 else "RGB"))


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
