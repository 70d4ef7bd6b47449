"""One picture, enlarged."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from zoo.device import check_device
from zoo.errors import DataError
from zoo.layers.modes import evaluating
from zoo.layers.pixel_adaptive.coordinates import output_size
from zoo.models.super_resolution.overlay import visualize
from zoo.models.super_resolution.pictures import LEVELS
from zoo.models.super_resolution.upscale import check_tile
from zoo.naming import known_keywords
from zoo.pictures import Picture, as_image, check_writable, luma, not_kept, read_picture, write_picture
from zoo.sizes import byte_count
from zoo.training.model_source import model_name
from zoo.training.super_resolution.policy import policy_options, refuse_options
from zoo.training.super_resolution.task import scale_of, super_resolver, takes_any_scale


@dataclass
class Upscaled:
    """An enlarged picture, and what it cost.

    Attributes:
        image: the picture, of the mode that it had; of more than 8 bits of colour, for which Pillow has no mode, 8.
        pixels: (H, W, channels) of the type that the picture had, uint8, uint16 or float32: grey or red, green and
            blue, and transparency where there is some.
        class_map: (H, W) uint8, the class of every pixel; None for a model without classes.
        facts: `size` (width, height); where pixels have classes `hard`, the part of them that is not of the lightest
            class, and `fraction_0`, `fraction_1`, … of each class; `flops` as the paper counts and `true_flops`, and
            the same as parts of all pixels heavy (`flops_share`, `true_flops_share`).
        notes: what was left out.
    """

    image: Image.Image
    pixels: np.ndarray
    class_map: np.ndarray | None
    facts: dict[str, Any]
    notes: list[str]

    def overlay(self) -> Image.Image:
        """The picture with its classes over it, from green, the lightest, to red.

        Raises:
            ValueError: a model without classes.
        """
        if self.class_map is None:
            raise ValueError("this model has no classes of pixels")
        grey = luma(self.pixels[..., :3]) if self.pixels.shape[2] > 2 else self.pixels[..., 0]
        return Image.fromarray(visualize(grey, torch.from_numpy(self.class_map)))


@dataclass(frozen=True)
class How:
    """How a model is to enlarge pictures; the arguments of `upscale`, of which `options` go to the model's forward.

    Raises:
        ValueError, TypeError: a scale, a side of tiles or a memory that is none.
    """

    scale: float | None
    options: dict[str, Any]
    tile: int | str
    max_memory: str | int

    def __post_init__(self) -> None:
        if self.scale is not None:
            output_size((1, 1), self.scale)
        check_tile(self.tile)
        byte_count(self.max_memory, "max_memory")


@known_keywords
def upscale(
    model: str | os.PathLike[str] | nn.Module,
    image: str | os.PathLike[str] | Image.Image | np.ndarray,
    scale: float | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    budget: float | None = None,
    policy: str | None = None,
    k: float = 0.0,
    refine: bool = True,
    tile: int | str = "auto",
    max_memory: str | int = "2GB",
    class_map: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    device: str | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Upscaled:
    """Enlarge a picture; `upscale_files` enlarges all of a folder.

    Transparency is enlarged by bicubic interpolation. Colour profile, notes of the camera, resolution and texts of a
    PNG are kept; grey stays grey, 16 bits 16 bits, and real numbers real numbers. What is left out is warned of.

    A model of grey images (`in_chans=1`) enlarges the brightness of coloured ones; their colour is enlarged by bicubic
    interpolation, with a warning.

    Args:
        model: a model of super-resolution, or its name, a run folder, `local-dir:…` or `hf-hub:…`.
        image: a file in any format that Pillow reads, a Pillow image, or an array (H, W), or (H, W, channels) of grey,
            grey and transparency, colour, or colour and transparency, of uint8, uint16 or real numbers from 0 to 1. Of
            a file of several pictures the first is taken. Pillow's mode I is taken as 16 bits.
        scale: how much larger; default what the model was made for.
        out: a file to write, whole or not at all; its ending says the format, which must hold the picture as it is.
            Deep colour goes into .png and .tif, real numbers into .tif.
        budget: FLOPs as a part of what they are with all pixels heavy: `policy="target"`.
        policy: how classes are decided: "argmax", "adm", "light" or "heavy".
        k: of "argmax": larger is cheaper.
        refine: smooth the seams between classes.
        tile: side in pixels of the pieces of the image that are computed at a time, or "auto" by `max_memory`. A model
            of one scale alone computes the image as a whole.
        max_memory: what may be used, "2GB" or a number of bytes.
        class_map: a file for the picture with its classes over it.
        overwrite: replace files that are there.
        device: None for where the model is, or "cpu", "cuda", "mps".
        tick: called with the number of tiles that are done and of all.

    Raises:
        ValueError: a policy, a number or a format that cannot be, a model that enlarges no images.
        TypeError: no picture, or a scale or budget that is no number.
        DataError: a picture that cannot be read.
        FileExistsError: `out` or `class_map` is there already.
    """
    how = How(scale, asked_for(policy, budget, k, refine), tile, max_memory)
    check_device(device)
    targets = [None if target is None else Path(target).expanduser() for target in (out, class_map)]
    refuse_what_is_there([target for target in targets if target is not None], overwrite=overwrite)
    net = super_resolver(model)
    check_fits(net, how)
    picture = read_picture(image)
    made = enlarged_picture(net if device is None else net.to(device), picture, how, targets[0], targets[1], tick=tick)
    for note in made.notes:
        warnings.warn(note, stacklevel=3)
    return made


def asked_for(policy: str | None, budget: float | None, k: float, refine: bool) -> dict[str, Any]:
    """Options of the model's forward; empty for what every model does."""
    return policy_options(policy, budget, k) | ({} if refine else {"refine": False})


def refuse_what_is_there(targets: list[Path], *, overwrite: bool) -> None:
    """Refuse files that would be replaced.

    Raises:
        FileExistsError: naming the first.
        IsADirectoryError: a folder.
        ValueError: two pictures for one file.
    """
    folder = next((target for target in targets if target.is_dir()), None)
    if folder is not None:
        raise IsADirectoryError(f"{folder} is a folder: name a file, {folder / 'enlarged.png'} say")
    twice = next((target for target, count in Counter(targets).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"two pictures would be written to one file, {twice}")
    there = [target for target in targets if target.exists()]
    if there and not overwrite:
        which = f"{there[0]} is" if len(there) == 1 else f"{len(there)} files, {there[0]} first, are"
        raise FileExistsError(f"{which} there already; pass overwrite=True (--overwrite) to replace what is there")


def check_fits(net: nn.Module, how: How) -> None:
    """Refuse a model that does not enlarge pictures so, before one is read.

    Raises:
        ValueError: no scale, another one than the only one, ways of deciding where nothing is decided, a model of
            other images than pictures, or of features.
    """
    name, own = model_name(net), getattr(net, "scale", None)
    if getattr(net, "no_upsampling", False):
        raise ValueError(f"{name} was made with no_upsampling=True, and gives features instead of an image")
    if _channels(net) not in (1, 3):
        raise ValueError(f"pictures are grey or of colour, and {name} takes images of {_channels(net)} channels")
    if takes_any_scale(net):
        if how.scale is None and own is None:
            raise ValueError(f"give scale= (--scale): {name} was made for no scale of its own")
        return
    if how.scale not in (None, scale_of(net)):
        raise ValueError(f"{name} enlarges by {scale_of(net)} alone, got scale={how.scale}")
    refuse_options(how.options, name)


def enlarged_size(net: nn.Module, picture: Picture, how: How) -> tuple[int, int]:
    """Height and width of the enlarged picture."""
    small = (picture.pixels.shape[0], picture.pixels.shape[1])
    return output_size(small, scale_of(net) if how.scale is None else how.scale)


def enlarged_picture(
    net: nn.Module,
    picture: Picture,
    how: How,
    out: Path | None,
    class_map: Path | None,
    *,
    tick: Callable[[int, int], None] | None,
) -> Upscaled:
    """The enlarged picture, written where it is to be; formats that cannot hold it are refused first."""
    size = enlarged_size(net, picture, how)
    if out is not None:
        check_writable(picture, out, size)
    if class_map is not None:
        check_writable(Picture(np.zeros((1, 1, 3), np.uint8)), class_map, size)
    with _warnings_noted() as said:
        made, classes, facts = _enlarged(net, picture, how, tick)
    notes = [*picture.notes, *said, *(() if out is None else not_kept(picture, out))]
    if _channels(net) == 1 and not picture.grey:
        notes.append("the model is of grey images: it enlarged the brightness; colour is by bicubic interpolation")
    upscaled = Upscaled(as_image(made), made.values(), classes, facts, notes)
    if out is not None:
        write_picture(made, out)
    if class_map is not None:
        write_picture(read_picture(upscaled.overlay()), class_map)
    return upscaled


@contextmanager
def _warnings_noted() -> Iterator[list[str]]:
    """What the model warns users of, as notes."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield said
    for one in caught:
        if issubclass(one.category, UserWarning):
            said.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _enlarged(
    net: nn.Module, picture: Picture, how: How, tick: Callable[[int, int], None] | None
) -> tuple[Picture, np.ndarray | None, dict[str, Any]]:
    with evaluating(net), torch.inference_mode():
        values, info = _run(net, picture, how, tick)
    height, width = values.shape[:2]
    alpha = None if picture.alpha is None else _bicubic(picture.alpha, (width, height), picture.white)
    made = Picture(values, alpha, picture.grey, picture.kept)
    facts: dict[str, Any] = {"size": [width, height]}
    if info is None:
        return made, None, facts
    size = (picture.pixels.shape[0], picture.pixels.shape[1])
    facts |= {"classes": info.fractions.shape[1], **info.shares()}
    for name, convention in (("flops", "paper"), ("true_flops", "true")):
        whole = net.parts(size, (height, width), convention).whole()  # pyright: ignore - of PCSR
        facts |= {name: info.flops[convention][0], f"{name}_share": info.flops[convention][0] / whole}
    return made, info.class_map[0].cpu().numpy(), facts


def _channels(net: nn.Module) -> int:
    return getattr(net, "in_chans", 3)


def _run(net: nn.Module, picture: Picture, how: How, tick: Callable[[int, int], None] | None) -> tuple[np.ndarray, Any]:
    """Pixels (H, W, 3) of the type of the picture's, and what is told of them."""
    name = picture.pixels.dtype.name
    if _channels(net) == 3:
        return _values(net, picture.pixels, name, how, tick)
    if picture.grey:
        grey, info = _values(net, picture.pixels[..., :1], name, how, tick)
        return np.repeat(grey, 3, 2), info
    real = picture.pixels.astype(np.float32) / picture.white
    dark = luma(real).clip(0, 1)
    bright, info = _values(net, dark[..., None], "float32", how, tick)
    made = np.empty((*bright.shape[:2], 3), picture.pixels.dtype)
    for place in range(3):
        colour = _resized(real[..., place] - dark, (bright.shape[1], bright.shape[0]))
        made[..., place] = _as_before(bright[..., 0] + colour, made.dtype, picture.white)
    return made, info


def _values(
    net: nn.Module, pixels: np.ndarray, out: str, how: How, tick: Callable[[int, int], None] | None
) -> tuple[np.ndarray, Any]:
    """What the network makes of pixels (H, W, channels), as the type `out`."""
    white = LEVELS[out]
    if takes_any_scale(net):
        upscale_by: Any = net.upscale  # of PCSR
        values, info = upscale_by(
            pixels, how.scale, tile=how.tile, max_memory=how.max_memory, out=out, return_info=True,
            **({} if tick is None else {"on_tile": tick}), **how.options,
        )  # fmt: skip
        return np.clip(values, 0, white, out=values), info
    place = next(net.parameters())
    real = pixels.astype(np.float32) / LEVELS[pixels.dtype.name]
    made = net(torch.from_numpy(real).permute(2, 0, 1)[None].to(place))[0].permute(1, 2, 0)
    if tick is not None:
        tick(1, 1)
    if not bool(torch.isfinite(made).all()):
        raise DataError("the model's answer is not finite")
    return _as_before(made.float().cpu().numpy(), np.dtype(out), white), None


def _as_before(values: np.ndarray, dtype: np.dtype, white: int) -> np.ndarray:
    """Values in [0, 1] as the type of a picture's."""
    scaled = values.clip(0, 1) * white
    return (scaled if dtype.kind == "f" else scaled.round()).astype(dtype)


def _bicubic(alpha: np.ndarray, size: tuple[int, int], white: int) -> np.ndarray:
    """Transparency (H, W), enlarged to (width, height)."""
    if alpha.dtype == np.uint8:
        return np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.BICUBIC))
    return _as_before(_resized(alpha.astype(np.float32) / white, size), alpha.dtype, white)


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC))
