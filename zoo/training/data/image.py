"""From whatever an image is stored as to the number of channels that a model takes, without losing depth."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.errors import DataError
from zoo.training.data.decode import upright

# ITU-R BT.601 luma, PIL's own weights for RGB -> L.
LUMA = (0.299, 0.587, 0.114)
_WHITES = (255.0, 4095.0, 65535.0)


def to_channels(image: Any, channels: int, *, scale: float | None = None, where: str = "image") -> Image.Image | Tensor:
    """Bring an image to `channels` channels.

    8-bit grey and RGB become PIL images, which timm's transforms are made for. Everything else (16-bit, floats, other
    channel counts) becomes a float32 tensor (C, H, W) in [0, 1], so that no depth is lost. Grey is repeated to three
    channels, RGB becomes grey by its luma, transparency is left out unless the model takes four channels. PIL images
    are turned upright as their EXIF orientation says.

    Args:
        image: PIL image; array (H, W) or (H, W, C); tensor (H, W) or (C, H, W).
        channels: what the model takes.
        scale: the value that stands for white; needed for floats above 1.
        where: how to name the image in messages.

    Raises:
        DataError: a channel count that cannot be converted, floats outside [0, 1] without `scale`.
    """
    if isinstance(image, Image.Image):
        image = upright(image)
        if image.mode.startswith("I"):
            scale = scale or 65535.0
        elif image.mode != "F":
            if "transparency" in image.info:
                image = image.convert("RGBA")  # straight to RGB, PIL warns
            if channels in (1, 3) and scale is None:
                return image.convert("L" if channels == 1 else "RGB")
            whole = ("L", "RGB", "RGBA") if channels == 4 else ("L", "RGB")
            image = image if image.mode in whole else image.convert("L" if image.mode in ("1", "LA") else "RGB")
        image = np.asarray(image)
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
        image = image.transpose(1, 2, 0) if image.ndim == 3 else image
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or 0 in image.shape:
        raise DataError(f"{where} has shape {image.shape}; expected (height, width) with or without channels")
    if image.dtype.kind not in "buif":
        raise DataError(f"{where} has values of type {image.dtype}; expected whole or real numbers")
    if image.dtype == np.uint8 and scale is None and image.shape[2] in (1, 3) and channels in (1, 3):
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image))
        return picture.convert("L" if channels == 1 else "RGB")
    return _adapt(_unit(image, scale, where), channels, where)


def _unit(image: np.ndarray, scale: float | None, where: str) -> Tensor:
    """(H, W, C) of any type to float32 (C, H, W) in [0, 1]."""
    kinds = {"uint8": 255.0, "uint16": 65535.0, "bool": 1.0}
    divisor = scale or kinds.get(image.dtype.name, 1.0)
    values = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)) / divisor
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 1.0):
        most = low >= 0 and next((w for w in _WHITES if high * divisor <= w), None)
        guess = f"; perhaps scale={most:g}" if most else ""
        raise DataError(
            f"{where} has values from {low * divisor:g} to {high * divisor:g} ({image.dtype}); expected 0 to 1. Pass "
            f"scale= (the value of white{guess}) in Python, or transform=None if the images are already normalised"
        )
    return values


def _adapt(image: Tensor, channels: int, where: str) -> Tensor:
    given = image.shape[0]
    if given == channels:
        return image
    if given == 1:
        return image.expand(channels, -1, -1)
    if given == 3 and channels == 1:
        return (image * torch.tensor(LUMA).view(3, 1, 1)).sum(0, keepdim=True)
    raise DataError(
        f"{where} has {given} channels but the model takes {channels}; create the model with in_chans={given} "
        f"(model_args={{'in_chans': {given}}} for a model given by name)"
    )
