"""From the bytes of an image file to an image of the depth and the channels that were stored."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from zoo.errors import DataError, MissingExtraError
from zoo.training.data.png import sound_png

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".npy")

_PNG, _NPY = b"\x89PNG\r\n\x1a\n", b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DEEP_PPM = re.compile(rb"P[36]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s+(?!0*\d{1,2}\s|0*[12]\d\d\s)\d+\s")
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
        if (deep := deep_pixels(content, where)) is not None:
            return deep.pixels[:, :, :-1] if deep.transparent else deep.pixels
        if content.startswith(_TIFF):
            return _tiff(content, where)
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


class Deep(NamedTuple):
    """What Pillow would cut.

    Attributes:
        pixels: (H, W, C), upright.
        transparent: whether the last channel is transparency.
    """

    pixels: np.ndarray
    transparent: bool


def deep_pixels(content: bytes, where: str) -> Deep | None:
    """All bits and channels of 16-bit colour, or of a TIFF of many channels; None of what Pillow reads whole.

    Args:
        content: of the file.
        where: its path, or how else to name it in messages.

    Raises:
        DataError: a stack of several.
        MissingExtraError: a TIFF that only tifffile reads, without it.
        ValueError: 16-bit colour that neither of them reads.
        Exception: all sorts, at what is damaged.
    """
    if content.startswith(_PNG) and content[24:25] == b"\x10" and content[25:26] != b"\0":
        found = _deep_png(content)
    elif content.startswith(_TIFF) and not _pillow_reads_whole(content):
        found = _by_tifffile(content, where)
    elif _DEEP_PPM.match(content):
        raise ValueError("16-bit colour in this format would be cut to 8 bits; write it as PNG, TIFF or .npy")
    else:
        return None
    turn = _TURNS.get(_orientation(content), _TURNS[1])
    return found._replace(pixels=np.ascontiguousarray(turn(found.pixels)))


#: What makes pixels (H, W, C) upright, by EXIF's number of how they lie.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


def _orientation(content: bytes) -> int:
    try:
        with Image.open(BytesIO(content)) as image:
            return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged notes beside good pixels, or a TIFF that Pillow does not know
        return 1


def _deep_png(content: bytes) -> Deep:
    """16-bit colour, or grey with transparency."""
    from torchvision.io import ImageReadMode, decode_png

    stored = torch.frombuffer(bytearray(sound_png(content)), dtype=torch.uint8)
    pixels = decode_png(stored, ImageReadMode.UNCHANGED).numpy().transpose(1, 2, 0)
    return Deep(pixels, pixels.shape[2] in (2, 4))


def _pillow_reads_whole(content: bytes) -> bool:
    try:
        with Image.open(BytesIO(content)) as image:
            return _keeps_all(image)
    except (UnidentifiedImageError, ValueError):
        return False


def _tiff(content: bytes, where: str) -> Image.Image:
    with Image.open(BytesIO(content)) as image:
        size, pages = image.size, getattr(image, "n_frames", 1)
        if pages > 1:
            image.seek(1)
            if image.size == size:
                raise DataError(f"{where} {_STACK.format(pages)}")
            image.seek(0)  # the others are thumbnails, or the same at other sizes
        return _loaded(image)


def _keeps_all(image: Image.Image) -> bool:
    """Whether Pillow reads every bit and channel of this TIFF."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    samples, bits, extra, kind = (tags.get(key) for key in (277, 258, 338, 262))
    if (samples or 1) == 1:
        return True
    alpha = len(extra or ()) == 1 and extra[0] in (1, 2)
    known = samples == 3 or (samples == 4 and (kind == 5 or alpha)) or (samples == 2 and alpha)
    return max(bits or (1,)) <= 8 and known


def _by_tifffile(content: bytes, where: str) -> Deep:
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
        pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
        return Deep(pixels, len(first.extrasamples) == 1 and first.extrasamples[0] in (1, 2) and pixels.shape[2] > 1)
