"""Stored images as small data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from PIL import Image

SIDE = 128
#: Up to this size PNG keeps every pixel.
_EXACT = 64


def data_uri(image: Any) -> tuple[str, int, int]:
    """An image of any kind that `zoo.finetune` reads, at most 128 pixels wide and high.

    Values of more than 8 bits and floats are stretched to the image's own range; of more than three channels the first
    three are shown, of two the first; transparency lies on white.

    Returns:
        The data URI, the width and the height.
    """
    drawn = picture(image)
    drawn.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    if max(drawn.size) <= _EXACT:
        kind = "png"
        drawn.save(stream, "PNG", optimize=True)
    else:
        kind = "jpeg"
        drawn.save(stream, "JPEG", quality=82, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}", *drawn.size


def picture(image: Any) -> Image.Image:
    """An image of any kind as an 8-bit grey or RGB image of its own, as `data_uri` says."""
    if isinstance(image, Image.Image):
        if "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBA", "RGBa"):
            over = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
        if image.mode == "L":
            return image.copy()
        if not image.mode.startswith(("I", "F")):
            return image.convert("RGB")
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu().float().numpy()
        image = image.transpose(1, 2, 0) if image.ndim == 3 else image
    values = np.asarray(image)
    if values.ndim == 3:
        values = values[:, :, :3] if values.shape[2] >= 3 else values[:, :, 0]
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if values.dtype != np.uint8:
        values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
        low, high = values.min(), values.max()
        values = np.round((values - low) * (255 / (high - low or 1))).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(values))
