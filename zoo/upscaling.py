"""`zoo.upscale`: pictures enlarged by a model, from files to files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from zoo.errors import DataError
from zoo.models.super_resolution.checks import POLICIES
from zoo.models.super_resolution.overlay import visualize
from zoo.pictures import Picture, as_image, check_writable, read_picture, write_picture
from zoo.training.device import check_device
from zoo.training.model_source import model_name, ready_model
from zoo.training.super_resolution.task import is_super_resolution, scale_of, takes_any_scale


@dataclass
class Upscaled:
    """An enlarged picture, and what it cost.

    Attributes:
        image: the picture, of the mode that it had.
        class_map: (H, W) uint8, the class of every pixel; None for a model without classes.
        facts: `size` (width, height); where pixels have classes `hard`, the part of them that is not of the lightest
            class, `flops` as the paper counts and `true_flops`, and the same as parts of all pixels heavy
            (`flops_share`, `true_flops_share`).
        notes: what was left out.
    """

    image: Image.Image
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
        grey = np.asarray(self.image.convert("L").convert("RGB"))
        return Image.fromarray(visualize(grey, torch.from_numpy(self.class_map)))


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
    """Enlarge a picture.

    Transparency is enlarged by bicubic interpolation. Colour profile, notes of the camera and resolution are kept;
    grey stays grey, and 16 bits of it 16 bits.

    Args:
        model: a model of super-resolution, or its name, a run folder, `local-dir:…` or `hf-hub:…`.
        image: a file in any format that Pillow reads, a Pillow image, or an array (H, W[, 3 or 4]).
        scale: how much larger; default what the model was made for.
        out: a file to write, whole or not at all; its ending says the format.
        budget: FLOPs as a part of what they are with all pixels heavy: `policy="target"`.
        policy: how classes are decided: "argmax", "adm", "light" or "heavy".
        k: of "argmax": larger is cheaper.
        refine: smooth the seams between classes.
        tile: side in pixels of the pieces of the image that are computed at a time, or "auto" by `max_memory`.
        max_memory: what may be used, "2GB" or a number of bytes.
        class_map: a file for the picture with its classes over it.
        overwrite: replace files that are there.
        device: None for where the model is, or "cpu", "cuda", "mps".
        tick: called with the number of tiles that are done and of all.

    Raises:
        ValueError: a policy, a number or a format that cannot be, a model that enlarges no images.
        DataError: a picture that cannot be read.
        FileExistsError: `out` or `class_map` is there already.
    """
    options = _options(budget, policy, k, refine)
    check_device(device)
    for target in (out, class_map):
        if target is not None and Path(target).exists() and not overwrite:
            raise FileExistsError(
                f"{os.fspath(target)} is there already; pass overwrite=True (--overwrite) to replace it"
            )
    net = ready_model(model)
    if not is_super_resolution(net):
        raise ValueError(f"{model_name(net)} enlarges no images; zoo list 'pcsr*' lists models that do")
    picture = read_picture(image)
    for target in (out, class_map):
        if target is not None:
            check_writable(picture if target is out else Picture(picture.pixels[:1, :1].astype(np.uint8)), Path(target))
    net = net if device is None else net.to(device)
    result = _enlarged(net, picture, scale, options, tile=tile, max_memory=max_memory, tick=tick)
    made, classes, facts = result
    upscaled = Upscaled(as_image(made), classes, facts, picture.notes)
    if out is not None:
        write_picture(made, out)
    if class_map is not None:
        write_picture(read_picture(upscaled.overlay()), class_map)
    return upscaled


def _options(budget: float | None, policy: str | None, k: float, refine: bool) -> dict[str, Any]:
    """Options of the model's forward; empty for what every model does."""
    if budget is not None:
        if policy not in (None, "target") or k:
            raise ValueError(f"budget={budget} decides classes by what they cost: leave policy and k out")
        return {"policy": "target", "target": budget, "refine": refine}
    if policy == "target":
        raise ValueError("policy='target' needs budget= (--budget), FLOPs as a part of all pixels heavy")
    if policy is not None and policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    chosen = {} if policy is None else {"policy": policy}
    return {**chosen, **({"k": k} if k else {}), **({} if refine else {"refine": False})}


def _enlarged(
    net: nn.Module,
    picture: Picture,
    scale: float | None,
    options: dict[str, Any],
    *,
    tile: int | str,
    max_memory: str | int,
    tick: Callable[[int, int], None] | None,
) -> tuple[Picture, np.ndarray | None, dict[str, Any]]:
    training = {m for m in net.modules() if m.training}
    net.eval()
    try:
        with torch.inference_mode():
            values, info = _run(net, picture, scale, options, tile=tile, max_memory=max_memory, tick=tick)
    finally:
        for module in net.modules():
            module.training = module in training
    height, width = values.shape[:2]
    alpha = None
    if picture.alpha is not None:
        alpha = np.asarray(Image.fromarray(picture.alpha).resize((width, height), Image.Resampling.BICUBIC))
    made = Picture(values, alpha, picture.grey, picture.kept)
    facts: dict[str, Any] = {"size": [width, height]}
    if info is None:
        return made, None, facts
    size = (picture.pixels.shape[0], picture.pixels.shape[1])
    fractions = info.fractions[0].tolist()
    facts |= {"classes": len(fractions), "hard": 1 - fractions[0]}
    for name, convention in (("flops", "paper"), ("true_flops", "true")):
        whole = net.parts(size, (height, width), convention).whole()  # pyright: ignore - of PCSR
        facts |= {name: info.flops[convention][0], f"{name}_share": info.flops[convention][0] / whole}
    return made, info.class_map[0].cpu().numpy(), facts


def _run(
    net: nn.Module,
    picture: Picture,
    scale: float | None,
    options: dict[str, Any],
    *,
    tile: int | str,
    max_memory: str | int,
    tick: Callable[[int, int], None] | None,
) -> tuple[np.ndarray, Any]:
    """Pixels (H, W, 3) of the type of the picture's, and what is told of them."""
    own = scale_of(net)
    if takes_any_scale(net):
        upscale_by: Any = net.upscale  # of PCSR
        dtype = str(picture.pixels.dtype)
        return upscale_by(
            picture.pixels, scale or own, tile=tile, max_memory=max_memory, out=dtype, return_info=True,
            **({} if tick is None else {"on_tile": tick}), **options,
        )  # fmt: skip
    if scale not in (None, own):
        raise ValueError(f"{model_name(net)} enlarges by {own} alone, got scale={scale}")
    if options:
        raise ValueError(f"{', '.join(options)}: {model_name(net)} has one way to enlarge images")
    place = next(net.parameters())
    x = torch.from_numpy(picture.pixels.astype(np.float32) / picture.white).permute(2, 0, 1)[None].to(place)
    made = net(x)[0].permute(1, 2, 0)
    if tick is not None:
        tick(1, 1)
    return _in_steps(made, picture), None


def _in_steps(values: torch.Tensor, picture: Picture) -> np.ndarray:
    """(H, W, 3) in [0, 1] as whole numbers of the picture's type."""
    if not bool(torch.isfinite(values).all()):
        raise DataError("the model's answer is not finite")
    return (values.float().clamp(0, 1) * picture.white).round().cpu().numpy().astype(picture.pixels.dtype)
