"""From the bytes of an image file to an image of the depth and the channels that were stored."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from zoo.errors import DataError, MissingExtraError
from zoo.training.data.png import sound_png

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".npy")

_PNG, _NPY = b"\x89PNG\r\n\x1a\n", b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION = 0x0112
_STACK = (
    "is a stack of {} pages of one size, of which one cannot be chosen; store the pages as files of their own, or the "
    "stack as channels: an .npy of (height, width, channels)"
)


def read_image(path: Path) -> Image.Image | np.ndarray:
    """Decode an image file; see `decode_image`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"no such image: {path}") from error
    except OSError as error:
        raise DataError(f"cannot read the image {path} ({error.strerror}){_WAY_OUT}") from error
    return decode_image(content, str(path))


def decode_image(content: bytes, where: str) -> Image.Image | np.ndarray:
    """Decode the bytes of an image; the format is told by them, not by a name.

    Pillow reads most. It would cut 16-bit colour to 8 bits and drop channels after the third, so these are read by
    torchvision (PNG) and tifffile (TIFF), and come as arrays (H, W, C), as does the content of an `.npy`. Images are
    turned upright as their EXIF orientation says.

    Args:
        content: of the file.
        where: its path, or how else to name it in messages.

    Raises:
        DataError: naming the image, when it cannot be decoded, or is a stack of several.
        MissingExtraError: a TIFF that only tifffile reads, without it.
    """
    try:
        if not content:
            raise ValueError("it is empty, 0 bytes")
        if content.startswith(_NPY):
            return np.load(BytesIO(content), allow_pickle=False)
        if content.startswith(_PNG) and content[24:25] == b"\x10" and content[25:26] != b"\0":
            return _deep_png(content)
        if content.startswith(_TIFF):
            return _tiff(content, where)
        if re.match(rb"P[36]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s+(?!0*\d{1,2}\s|0*[12]\d\d\s)\d+\s", content):
            raise ValueError("16-bit colour in this format would be cut to 8 bits; write it as PNG, TIFF or .npy")
        with Image.open(BytesIO(content)) as image:
            return _loaded(image)
    except (DataError, MissingExtraError):
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"cannot read the image {where} (no image format: begins with {content[:12]!r}){_WAY_OUT}"
        ) from (error)
    except Exception as error:  # decoders raise all sorts at what is damaged: struct.error, IndexError, SyntaxError
        raise DataError(f"cannot read the image {where} ({error}){_WAY_OUT}") from error


_WAY_OUT = "; remove it, or pass on_bad='skip' (--on-bad skip)"


def upright(image: Image.Image) -> Image.Image:
    """The image, turned and mirrored as its EXIF orientation says."""
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # damaged notes beside good pixels
        return image
    return ImageOps.exif_transpose(image) if turned else image


def _loaded(image: Image.Image) -> Image.Image:
    image.load()
    return upright(image)


def _deep_png(content: bytes) -> np.ndarray:
    """16-bit colour, or grey with transparency, as (H, W, C) without the transparency."""
    from torchvision.io import ImageReadMode, decode_png

    stored = torch.frombuffer(bytearray(sound_png(content)), dtype=torch.uint8)
    pixels = decode_png(stored, ImageReadMode.UNCHANGED).numpy().transpose(1, 2, 0)
    return pixels[:, :, : pixels.shape[2] - 1] if pixels.shape[2] in (2, 4) else pixels


def _tiff(content: bytes, where: str) -> Image.Image | np.ndarray:
    try:
        with Image.open(BytesIO(content)) as image:
            if _keeps_all(image):
                size, pages = image.size, getattr(image, "n_frames", 1)
                if pages > 1:
                    image.seek(1)
                    if image.size == size:
                        raise DataError(f"{where} {_STACK.format(pages)}")
                    image.seek(0)  # the others are thumbnails, or the same at other sizes
                return _loaded(image)
    except (UnidentifiedImageError, ValueError) as error:
        if isinstance(error, DataError):
            raise
    return _by_tifffile(content, where)


def _keeps_all(image: Image.Image) -> bool:
    """Whether Pillow reads every bit and channel of this TIFF."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    samples, bits, extra, kind = (tags.get(key) for key in (277, 258, 338, 262))
    if (samples or 1) == 1:
        return True
    alpha = len(extra or ()) == 1 and extra[0] in (1, 2)
    known = samples == 3 or (samples == 4 and (kind == 5 or alpha)) or (samples == 2 and alpha)
    return max(bits or (1,)) <= 8 and known


def _by_tifffile(content: bytes, where: str) -> np.ndarray:
    try:
        import tifffile
    except ImportError as error:
        raise MissingExtraError(f"reading {where}, a TIFF of many channels or deep colour,", "tifffile", "data") from (
            error
        )
    with tifffile.TiffFile(BytesIO(content)) as file:
        first: Any = file.pages[0]
        if len(file.pages) > 1 and file.pages[1].shape == first.shape:
            raise DataError(f"{where} {_STACK.format(len(file.pages))}")
        limit = 2 * (Image.MAX_IMAGE_PIXELS or first.size)
        if first.imagelength * first.imagewidth > limit:
            raise ValueError(f"{first.imagewidth} x {first.imagelength} pixels; more than {limit} are not read")
        pixels = first.asarray()
        pixels = pixels.transpose(1, 2, 0) if first.axes == "SYX" else pixels
        transparent = len(first.extrasamples) == 1 and first.extrasamples[0] in (1, 2)
        return pixels[:, :, :-1] if transparent and pixels.ndim == 3 else pixels
