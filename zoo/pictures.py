"""Pictures as files: read in every format that Pillow knows, and written with what belongs to them besides pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from zoo.errors import DataError
from zoo.files import atomic_path

#: What weighs red, green and blue in grey (ITU-R BT.601, as Pillow has it).
_LUMA = (0.299, 0.587, 0.114)
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")
#: Formats whose files hold no transparency, and those whose files hold 16 bits of grey.
_OPAQUE, _HOLDS_DEEP = ("JPEG", "BMP", "PPM", "MPO"), ("PNG", "TIFF")
#: Notes in files: description, maker, camera, software, time, artist, copyright; those of the camera and of the place;
#: and among these the size.
_NOTES, _PARTS, _SIZES = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298), (0x8769, 0x8825), (0xA002, 0xA003)
_QUALITY: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}


@dataclass
class Picture:
    """A picture taken apart.

    Attributes:
        pixels: (H, W, 3), uint8; of deep grey uint16.
        alpha: (H, W) uint8, or None where nothing is transparent.
        grey: whether red, green and blue are equal because it has none of them.
        kept: colour profile, notes of the camera and resolution, as Pillow writes them.
        notes: what was left out.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    kept: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def white(self) -> int:
        """The value of white."""
        return 65535 if self.pixels.dtype == np.uint16 else 255


def read_picture(source: str | os.PathLike[str] | Image.Image | np.ndarray) -> Picture:
    """Take a picture apart: turned upright, palettes as colours, grey repeated, CMYK and others as RGB.

    Args:
        source: a file; a Pillow image; an array (H, W), (H, W, 3) or (H, W, 4) of uint8, or of uint16 if grey.

    Raises:
        DataError: no image, a damaged one, or one whose values have no range.
    """
    if isinstance(source, np.ndarray):
        return _of_array(source)
    if isinstance(source, Image.Image):
        return _of_image(source, "the image")
    path = Path(source).expanduser()
    try:
        with Image.open(path) as opened:
            opened.load()
            return _of_image(opened, str(path))
    except FileNotFoundError:
        raise DataError(f"there is no image {str(path)!r}") from None
    except UnidentifiedImageError as error:
        raise DataError(f"cannot read the image {path}: it has no format that Pillow knows") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read the image {path}: {error}") from error


def _of_image(image: Image.Image, where: str) -> Picture:
    notes = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"{where} has {image.n_frames} pictures; the first is taken")  # pyright: ignore - of a file
    kept = {key: image.info[key] for key in ("icc_profile", "dpi") if image.info.get(key)}
    notes_of_camera = _notes(image)
    if notes_of_camera is not None:
        kept["exif"] = notes_of_camera
    image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{where} has values from {values.min()} to {values.max()}, where 0 to 65535 are expected")
        return Picture(_repeated(values.astype(np.uint16)), None, True, kept, notes)
    if image.mode == "F":
        raise DataError(f"{where} has real numbers without a range: write it as whole numbers of 8 or 16 bits")
    if image.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        if kept.pop("icc_profile", None) is not None:
            notes.append(f"{where} is {image.mode}: its colour profile is not one of RGB, and is left out")
        image = image.convert("RGB")
    transparent = "transparency" in image.info or image.mode in ("LA", "PA", "RGBA", "La", "RGBa")
    grey = image.mode in ("1", "L", "LA", "La")
    image = image.convert("RGBA" if transparent else "RGB")
    values = np.array(image)
    alpha = values[..., 3].copy() if transparent else None
    return Picture(np.ascontiguousarray(values[..., :3]), alpha, grey, kept, notes)


def _notes(image: Image.Image) -> Image.Exif | None:
    """What a camera or a person has noted, without how the file was laid out and which way up it was."""
    found, made = image.getexif(), Image.Exif()
    for tag in _NOTES:
        if tag in found:
            made[tag] = found[tag]
    for part in _PARTS:
        inside = {tag: value for tag, value in found.get_ifd(part).items() if tag not in _SIZES}
        made.get_ifd(part).update(inside)
    return made if made or any(made.get_ifd(part) for part in _PARTS) else None


def _of_array(values: np.ndarray) -> Picture:
    grey = values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 1)
    good = grey or (values.ndim == 3 and values.shape[2] in (3, 4))
    if (
        not good
        or 0 in values.shape
        or values.dtype not in (np.uint8, np.uint16)
        or (values.dtype == np.uint16 and not grey)
    ):
        raise DataError(
            f"an image is an array (height, width), (height, width, 3) or (height, width, 4) of uint8, or of uint16 if "
            f"grey; got {values.shape} of {values.dtype}"
        )
    if grey:
        return Picture(_repeated(values.reshape(values.shape[:2])), grey=True)
    alpha = values[..., 3].copy() if values.shape[2] == 4 else None
    return Picture(np.ascontiguousarray(values[..., :3]), alpha)


def _repeated(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:, :, None], 3, 2)


def as_image(picture: Picture) -> Image.Image:
    """The picture as a Pillow image of the mode that it had: L, LA, RGB, RGBA, or I;16."""
    values: np.ndarray = picture.pixels
    if picture.grey:
        grey = (values @ np.array(_LUMA)).round().astype(values.dtype)
        if picture.white > 255:
            return Image.fromarray(grey)
        image = Image.fromarray(grey)
    else:
        image = Image.fromarray(values)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def format_of(path: Path) -> str:
    """The format that a file of this name is written in.

    Raises:
        ValueError: none, with those that there are.
    """
    Image.init()
    name = Image.registered_extensions().get(path.suffix.lower())
    if name is None or name not in Image.SAVE:
        raise ValueError(
            f"{path.name!r} has no ending of a format that can be written: .png, .jpg, .tif, .webp, .bmp and others can"
        )
    return name


def check_writable(picture: Picture, path: Path) -> None:
    """Refuse a format that cannot hold the picture, before any work is done.

    Raises:
        ValueError: naming what would be lost.
    """
    form = format_of(path)
    if picture.alpha is not None and form in _OPAQUE:
        raise ValueError(f"{path}: {form} holds no transparency, which the image has; write .png, .webp or .tif")
    if picture.white > 255 and form not in _HOLDS_DEEP:
        raise ValueError(f"{path}: {form} holds 8 bits, the image has 16; write .png or .tif")


def write_picture(picture: Picture, path: str | os.PathLike[str]) -> None:
    """Write a file, whole or not at all, with the colour profile, the notes of the camera and the resolution.

    Raises:
        ValueError: a format that cannot hold the picture.
        OSError: the disk's.
    """
    target = Path(path)
    check_writable(picture, target)
    form = format_of(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        as_image(picture).save(temporary, format=form, **_QUALITY.get(form, {}), **picture.kept)
