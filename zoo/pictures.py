"""Pictures as files: read in every format that Pillow knows, and written with what belongs to them besides pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from zoo.errors import DataError, MissingExtraError
from zoo.files import atomic_path
from zoo.models.super_resolution.pictures import LEVELS
from zoo.training.data.decode import deep_pixels
from zoo.training.data.png import deep_png

#: What weighs red, green and blue in grey (ITU-R BT.601, as Pillow has it).
_LUMA = (0.299, 0.587, 0.114)
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")
#: Formats whose files hold no transparency, those whose files hold 16 bits, and real numbers.
_OPAQUE, _HOLDS_DEEP, _HOLDS_REAL = ("JPEG", "BMP", "PPM", "MPO"), ("PNG", "TIFF"), ("TIFF",)
#: Notes in files: description, maker, camera, software, time, artist, copyright; those of the camera and of the place;
#: and among these the size.
_NOTES, _PARTS, _SIZES = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298), (0x8769, 0x8825), (0xA002, 0xA003)
#: How descriptions begin that programs read the shape of a stack from.
_OF_LAYOUT = ('{"shape"', "ImageJ=")
_QUALITY: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}


@dataclass
class Picture:
    """A picture taken apart.

    Attributes:
        pixels: (H, W, 3); uint8, uint16, or float32 from 0 to 1.
        alpha: (H, W) of the same type, or None where nothing is transparent.
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
        return LEVELS[self.pixels.dtype.name]

    def values(self) -> np.ndarray:
        """(H, W, channels): grey or red, green and blue, and transparency where there is some."""
        colour = luma(self.pixels)[:, :, None] if self.grey else self.pixels
        return colour if self.alpha is None else np.concatenate([colour, self.alpha[:, :, None]], 2)


def read_picture(source: str | os.PathLike[str] | Image.Image | np.ndarray) -> Picture:
    """Take a picture apart: turned upright, palettes as colours, grey repeated, CMYK and others as RGB.

    16 bits stay 16 bits, and real numbers from 0 to 1 what they are.

    Args:
        source: a file; a Pillow image; an array (H, W), (H, W, 3) or (H, W, 4) of uint8, uint16, or real numbers from
            0 to 1.

    Raises:
        DataError: no image, a damaged one, one of other channels, or one whose values have no range.
        MissingExtraError: a TIFF that only tifffile reads, without it.
        TypeError: something else.
    """
    if isinstance(source, np.ndarray):
        return _of_array(source, "the array")
    if isinstance(source, Image.Image):
        return _of_image(source, "the image")
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"a picture is a file, a Pillow image or an array (height, width[, 3 or 4]), got {type(source).__name__}; "
            "model.upscale takes tensors (channels, height, width)"
        )
    path = Path(source).expanduser()
    if path.is_dir():
        raise DataError(f"{path} is a folder: zoo.upscale_files enlarges all images of one")
    try:
        return _of_file(path)
    except FileNotFoundError:
        raise DataError(f"there is no image {str(path)!r}") from None
    except UnidentifiedImageError as error:
        raise DataError(f"cannot read the image {path}: it has no format that Pillow knows") from error
    except (DataError, MissingExtraError):
        raise
    except Exception as error:  # decoders raise all sorts at what is damaged
        raise DataError(f"cannot read the image {path}: {error}") from error


def _of_file(path: Path) -> Picture:
    content, where = path.read_bytes(), str(path)
    deep = deep_pixels(content, where)
    if deep is None:
        with Image.open(BytesIO(content)) as opened:
            opened.load()
            return _of_image(opened, where)
    channels = deep.pixels.shape[2]
    if channels not in ((2, 4) if deep.transparent else (1, 3)):
        raise DataError(
            f"{where} has {channels} channels; an image that can be enlarged has 1 (grey) or 3 (red, green, blue), and "
            "perhaps one that says it is transparency"
        )
    picture = _of_array(deep.pixels, where)
    try:
        with Image.open(BytesIO(content)) as opened:
            picture.kept = _kept(opened)
    except UnidentifiedImageError:  # a TIFF that Pillow does not know
        picture.notes.append(f"colour profile and notes of {where} are left out")
    return picture


def _of_image(image: Image.Image, where: str) -> Picture:
    notes = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"{where} has {image.n_frames} pictures; the first is taken")  # pyright: ignore - of a file
    kept = _kept(image)
    image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{where} has values from {values.min()} to {values.max()}, where 0 to 65535 are expected")
        return Picture(_repeated(values.astype(np.uint16)), None, True, kept, notes)
    if image.mode == "F":
        return Picture(_repeated(_real(np.asarray(image), where)), None, True, kept, notes)
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


def _kept(image: Image.Image) -> dict[str, Any]:
    """Colour profile, resolution and notes of the camera."""
    kept = {key: image.info[key] for key in ("icc_profile", "dpi") if image.info.get(key)}
    notes_of_camera = _notes(image)
    return kept if notes_of_camera is None else {**kept, "exif": notes_of_camera}


def _notes(image: Image.Image) -> Image.Exif | None:
    """What a camera or a person has noted, without how the file was laid out and which way up it was."""
    found, made = image.getexif(), Image.Exif()
    for tag in _NOTES:
        if tag in found and not str(found[tag]).startswith(_OF_LAYOUT):
            made[tag] = found[tag]
    for part in _PARTS:
        inside = {tag: value for tag, value in found.get_ifd(part).items() if tag not in _SIZES}
        made.get_ifd(part).update(inside)
    return made if made or any(made.get_ifd(part) for part in _PARTS) else None


def _of_array(values: np.ndarray, where: str) -> Picture:
    real = values.dtype.kind == "f"
    good = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (1, 2, 3, 4))
    if not good or 0 in values.shape or not (real or values.dtype in (np.uint8, np.uint16)):
        raise DataError(
            "an image is an array (height, width), (height, width, 3) or (height, width, 4) of uint8, uint16, or real "
            f"numbers from 0 to 1; {where} is {values.shape} of {values.dtype}"
        )
    values = _real(values, where) if real else values.astype(values.dtype.newbyteorder("="), copy=False)
    values = values[:, :, None] if values.ndim == 2 else values
    channels = values.shape[2]
    grey, transparent = channels < 3, channels in (2, 4)
    alpha = values[..., -1].copy() if transparent else None
    return Picture(_repeated(values[..., 0]) if grey else np.ascontiguousarray(values[..., :3]), alpha, grey)


def _real(values: np.ndarray, where: str) -> np.ndarray:
    """Real numbers from 0 to 1 in single precision.

    Raises:
        DataError: others.
    """
    least, most = float(values.min()), float(values.max())
    if not np.isfinite((least, most)).all():
        raise DataError(f"{where} has NaN or infinity in it")
    if not (least >= 0 and most <= 1):
        raise DataError(
            f"{where} has real numbers from {least:.3g} to {most:.3g}, where 0 to 1 are expected: divide by the value "
            "of white, or write whole numbers of 8 or 16 bits"
        )
    return values.astype(np.float32)


def _repeated(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:, :, None], 3, 2)


def luma(pixels: np.ndarray) -> np.ndarray:
    """Grey (H, W) of red, green and blue, in the same type."""
    grey = pixels @ np.array(_LUMA)
    return (grey if pixels.dtype.kind == "f" else grey.round()).astype(pixels.dtype)


def _beyond_pillow(picture: Picture) -> bool:
    """Whether Pillow has no mode for the picture's values: deep colour, or deep grey with transparency."""
    return picture.pixels.dtype != np.uint8 and not (picture.grey and picture.alpha is None)


def as_image(picture: Picture) -> Image.Image:
    """The picture as a Pillow image of the mode that it had: L, LA, RGB, RGBA, I;16 or F.

    Pillow has no mode for more than 8 bits of colour, or of grey with transparency: these are rounded to 8.
    """
    values = picture.values()
    if _beyond_pillow(picture):
        values = (values.astype(np.float64) * (255 / picture.white)).round().astype(np.uint8)
    return Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)


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
        MissingExtraError: a TIFF of deep colour, without tifffile.
    """
    form = format_of(path)
    if picture.alpha is not None and form in _OPAQUE:
        raise ValueError(f"{path}: {form} holds no transparency, which the image has; write .png, .webp or .tif")
    if picture.white > 255 and form not in _HOLDS_DEEP:
        raise ValueError(f"{path}: {form} holds 8 bits, the image has 16; write .png or .tif")
    if picture.white == 1 and form not in _HOLDS_REAL:
        raise ValueError(f"{path}: {form} holds whole numbers, the image has real ones; write .tif")
    if form == "TIFF" and _beyond_pillow(picture):
        _tifffile(path)


def not_kept(picture: Picture, path: Path) -> list[str]:
    """What of a picture a file of this name will not hold, though it could be written."""
    exif = picture.kept.get("exif")
    inner = exif is not None and any(exif.get_ifd(part) for part in _PARTS)
    left_out = inner and format_of(path) == "TIFF" and _beyond_pillow(picture)
    return [f"the notes of the camera are left out of {path}, a TIFF of deep colour"] if left_out else []


def write_picture(picture: Picture, path: str | os.PathLike[str]) -> None:
    """Write a file, whole or not at all, with the colour profile, the notes of the camera and the resolution.

    Raises:
        ValueError: a format that cannot hold the picture.
        MissingExtraError: a TIFF of deep colour, without tifffile.
        OSError: the disk's.
    """
    target = Path(path)
    check_writable(picture, target)
    form = format_of(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        if not _beyond_pillow(picture):
            as_image(picture).save(temporary, format=form, **_QUALITY.get(form, {}), **picture.kept)
        elif form == "PNG":
            exif = picture.kept.get("exif")
            notes = b"" if exif is None else exif.tobytes().removeprefix(b"Exif\0\0")
            temporary.write_bytes(deep_png(picture.values(), **{**picture.kept, "exif": notes}))
        else:
            _write_tiff(picture, temporary)


def _write_tiff(picture: Picture, path: Path) -> None:
    """With the colour profile, the resolution and what is noted as text; tifffile writes no tables of further notes."""
    options: dict[str, Any] = {"photometric": "minisblack" if picture.grey else "rgb"}
    if picture.alpha is not None:
        options["extrasamples"] = ["unassalpha"]
    if "icc_profile" in picture.kept:
        options["iccprofile"] = picture.kept["icc_profile"]
    if "dpi" in picture.kept:
        options |= {"resolution": tuple(map(float, picture.kept["dpi"])), "resolutionunit": "INCH"}
    exif = picture.kept.get("exif") or {}
    texts = [(tag, 2, 0, str(exif[tag]).encode("latin-1", "replace"), True) for tag in _NOTES if tag in exif]
    _tifffile(path).imwrite(
        path, picture.values(), planarconfig="contig", metadata=None, software=False, extratags=texts, **options
    )


def _tifffile(path: Path) -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise MissingExtraError(f"writing {path.name}, a TIFF of deep colour,", "tifffile", "data") from error
    return tifffile
