"""Pictures as files: read in every format that Pillow knows, and written with what belongs to them besides pixels."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile, PngInfo, iTXt

from zoo.errors import DataError, MissingExtraError
from zoo.files import atomic_path
from zoo.models.super_resolution.images import check_real
from zoo.models.super_resolution.pictures import DEEP_MODES, LEVELS, deep_values
from zoo.training.data.decode import deep_pixels
from zoo.training.data.png import deep_png

#: What weighs red, green and blue in grey (ITU-R BT.601, as Pillow has it).
_LUMA = (0.299, 0.587, 0.114)
#: Formats whose files hold 16 bits, and real numbers; how many pixels a side may have in others.
_HOLDS_DEEP, _HOLDS_REAL = ("PNG", "TIFF"), ("TIFF",)
_LONGEST = {"WEBP": 16383, "JPEG": 65500, "MPO": 65500}
#: The size of a picture that is written to see what a format makes of it; no icon has it.
_TRIAL = (40, 24)
#: Formats of data, documents and films, of which Pillow reads no pixels, or not by itself.
_NO_PICTURES = ("BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF")
#: Texts in PNGs that say again, for the small picture, what is kept otherwise or is not so any more.
_OF_FILES = ("Raw profile type ", "XML:com.adobe.xmp")
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
        kept: colour profile, notes of the camera, resolution and texts of a PNG, as Pillow writes them.
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


def readable_endings() -> frozenset[str]:
    """Endings, in small letters, of the formats of pictures that Pillow reads."""
    Image.init()
    known = Image.registered_extensions().items()
    return frozenset(ending for ending, form in known if form in Image.OPEN and form not in _NO_PICTURES)


def read_picture(source: str | os.PathLike[str] | Image.Image | np.ndarray) -> Picture:
    """Take a picture apart: turned upright, palettes as colours, grey repeated, CMYK and others as RGB.

    16 bits stay 16 bits, and real numbers from 0 to 1 what they are.

    Args:
        source: a file; a Pillow image; an array (H, W), or (H, W, channels) of grey, grey and transparency, colour, or
            colour and transparency, of uint8, uint16, or real numbers from 0 to 1.

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
            f"a picture is a file, a Pillow image or an array (height, width[, 1 to 4]), got {type(source).__name__}; "
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
    if image.mode in DEEP_MODES:
        try:
            values, note = deep_values(image, where)
        except ValueError as error:
            raise DataError(str(error)) from None
        return Picture(_repeated(values), None, True, kept, notes if note is None else [*notes, note])
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
    """Colour profile, resolution, notes of the camera and texts of a PNG."""
    kept = {key: image.info[key] for key in ("icc_profile", "dpi") if image.info.get(key)}
    found = {"exif": _notes(image), "pnginfo": _texts(image)}
    return kept | {key: value for key, value in found.items() if value is not None}


def _texts(image: Image.Image) -> PngInfo | None:
    """Title, author, parameters and what else a PNG has as text, without what belongs to the file."""
    made = PngInfo()
    for key, value in (image.text if isinstance(image, PngImageFile) else {}).items():
        if key.startswith(_OF_FILES):
            continue
        if isinstance(value, iTXt):
            made.add_itxt(key, value, value.lang or "", value.tkey or "")
        else:
            made.add_text(key, value)
    return made if made.chunks else None


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
            "an image is an array (height, width), or (height, width, channels) of 1 (grey), 2 (grey and "
            "transparency), 3 (red, green, blue) or 4 (with transparency), of uint8, uint16, or real numbers from 0 "
            f"to 1; {where} is {values.shape} of {values.dtype}"
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
    single = np.require(values, np.float32, ["C", "W"])
    try:
        check_real(torch.from_numpy(single), where)
    except ValueError as error:
        raise DataError(str(error)) from None
    return single


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


def check_writable(picture: Picture, path: Path, size: tuple[int, int] | None = None) -> None:
    """Refuse a format that cannot hold the picture, before any work is done.

    Args:
        picture: that is to be written, or is to be enlarged.
        path: the file.
        size: (height, width) that the picture will have, if not as it is.

    Raises:
        ValueError: naming what would be lost.
        MissingExtraError: a TIFF of deep colour, without tifffile.
    """
    form, longest = format_of(path), max(size or picture.pixels.shape[:2])
    if picture.white > 255 and form not in _HOLDS_DEEP:
        raise ValueError(f"{path}: {form} holds 8 bits, the image has 16; write .png or .tif")
    if picture.white == 1 and form not in _HOLDS_REAL:
        raise ValueError(f"{path}: {form} holds whole numbers, the image has real ones; write .tif")
    if longest > _LONGEST.get(form, longest):
        raise ValueError(f"{path}: {form} holds {_LONGEST[form]} pixels a side, not {longest}; write .png or .tif")
    if _beyond_pillow(picture):
        if form == "TIFF":
            _tifffile(path)
        return
    opaque = ("L" if picture.grey else "RGB") if picture.white == 255 else "F" if picture.white == 1 else "I;16"
    lost = shortfall(form, opaque)
    if lost is not None:
        raise ValueError(f"{path}: {form} {lost}; write .png, .tif, .webp, .jpg or .bmp")
    if picture.alpha is not None and shortfall(form, f"{opaque}A") is not None:
        raise ValueError(f"{path}: {form} holds no transparency, which the image has; write .png, .webp or .tif")


@functools.cache
def shortfall(form: str, mode: str) -> str | None:
    """What becomes of a picture of a mode in files of a format that does not hold it, as a trial shows; else None."""
    file = BytesIO()
    try:
        Image.new(mode, _TRIAL).save(file, format=form)
        with Image.open(file) as again:
            size, bands, found = again.size, again.getbands(), again.mode
    except UnidentifiedImageError:  # PDF, which Pillow does not read
        return None
    except Exception as error:  # writers raise all sorts at what they do not write
        return f"cannot be written ({error})"
    if size != _TRIAL:
        return f"has sizes of its own, {size[0]}x{size[1]} for {_TRIAL[0]}x{_TRIAL[1]} say"
    if mode.startswith("RGB") and len(bands) < 3:
        return "holds 256 colours" if found == "P" else "holds no colour"
    return "holds no transparency" if mode.endswith("A") and "A" not in bands else None


def not_kept(picture: Picture, path: Path) -> list[str]:
    """What of a picture a file of this name will not hold, though it could be written."""
    form, exif, texts = format_of(path), picture.kept.get("exif"), picture.kept.get("pnginfo")
    notes = []
    inner = exif is not None and any(exif.get_ifd(part) for part in _PARTS)
    if inner and form == "TIFF" and _beyond_pillow(picture):
        notes.append(f"the notes of the camera are left out of {path}, a TIFF of deep colour")
    if texts is not None and form != "PNG":
        names = ", ".join(data.partition(b"\0")[0].decode("latin-1") for _, data, *_ in texts.chunks)
        notes.append(f"texts of the image are left out of {path}, as only PNG has them: {names}")
    return notes


def write_picture(picture: Picture, path: str | os.PathLike[str]) -> None:
    """Write a file, whole or not at all, with what was kept of the picture.

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
