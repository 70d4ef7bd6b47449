"""timm's transforms with the model's own data configuration, and three strengths of augmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor

from zoo.errors import DataError
from zoo.models.data_config import CANVAS
from zoo.training.data.chromosome_transform import ChromosomeAugment, ChromosomeToTensor

# How tensors are resized where PIL has a method of its own.
_FOR_TENSORS = {"lanczos": "bicubic", "box": "bilinear", "hamming": "bilinear"}
AUGMENTATIONS = ("none", "light", "timm")


def train_transform(config: Mapping[str, Any], aug: str, *, hflip: float) -> Callable[[Any], Any]:
    """The random transform of training.

    Args:
        config: `zoo.data_config(model)`.
        aug: "none" resizes as evaluation does; "light" crops 70-100 % of the area and mirrors; "timm" is timm's
            ImageNet recipe (crops of 8-100 %, RandAugment, random erasing); RandAugment is for 8-bit grey and RGB, and
            left out where an image has more depth or other channels.
        hflip: probability of mirroring.

    Raises:
        ValueError: an unknown `aug`.
    """
    if aug not in AUGMENTATIONS:
        raise ValueError(f"aug must be one of {', '.join(AUGMENTATIONS)}, got {aug!r}")
    if aug == "none":
        return eval_transform(config)
    if config["crop_mode"] == CANVAS:
        return OnCanvas(config, canvas_augment(aug, hflip))
    options: dict[str, Any] = {
        "input_size": tuple(config["input_size"]),
        "is_training": True,
        "interpolation": config["interpolation"],
        "mean": config["mean"],
        "std": config["std"],
        "hflip": hflip,
        "color_jitter": None,
    }
    if aug == "light":
        options |= {"scale": (0.7, 1.0), "ratio": (0.9, 1 / 0.9)}
    else:
        options |= {"re_prob": 0.25, "re_mode": "pixel"}
        # RandAugment works on 8-bit grey and RGB images only.
        if config["input_size"][0] in (1, 3):
            # Without the usual noise on the magnitude: at its end timm posterizes to 0 bits, which Pillow 12 refuses.
            options["auto_augment"] = "rand-m9-inc1"
    return _build(options)


def eval_transform(config: Mapping[str, Any]) -> Callable[[Any], Any]:
    """The fixed transform of evaluation and prediction; timm's, but for images whose size counts."""
    if config["crop_mode"] == CANVAS:
        return OnCanvas(config)
    fields = ("interpolation", "mean", "std", "crop_pct", "crop_mode")
    options = {"input_size": tuple(config["input_size"]), "is_training": False, **{k: config[k] for k in fields}}
    if options["interpolation"] == "random":
        options["interpolation"] = "bicubic"
    return _build(options)


class OnCanvas:
    """Images whose size tells something: on a canvas, not resized; `crop_mode="canvas"` asks for it.

    Args:
        config: `zoo.data_config(model)`; `crop_pct` is the common factor on the size of all images.
        augment: of images and polarities; None for none.
    """

    def __init__(self, config: Mapping[str, Any], augment: ChromosomeAugment | None = None):
        _, height, width = config["input_size"]
        if height != width:
            raise DataError(f"images are put onto a square canvas, the model takes {width} x {height}")
        self.to_tensor = ChromosomeToTensor(height, scale=config["crop_pct"])
        self.augment = augment
        self.mean, self.std = (torch.tensor(config[key]).view(-1, 1, 1) for key in ("mean", "std"))

    def __call__(self, image: Any) -> Tensor:
        return self.with_polarity(image, -1)[0]

    def with_polarity(self, image: Any, polarity: int) -> tuple[Tensor, int]:
        """The image for the model, and the polarity that it shows after augmentation."""
        pixels = self.to_tensor(image)
        if self.augment is not None:
            pixels, polarity = self.augment(pixels, polarity)
        return (pixels - self.mean) / self.std, polarity


def canvas_augment(aug: str, hflip: float) -> ChromosomeAugment | None:
    """The augmentation of images on a canvas.

    Raises:
        ValueError: a strength that is for other images.
    """
    if aug not in ("none", "light"):
        raise ValueError(
            f"aug must be 'none' or 'light' for images whose size counts (crop_mode='canvas'), got {aug!r}"
        )
    return None if aug == "none" else ChromosomeAugment(hflip=hflip)


class ByForm:
    """One transform for PIL images, one for the tensors that hold what PIL images cannot."""

    def __init__(self, pictures: Callable[[Any], Any], tensors: Callable[[Any], Any]):
        self.pictures, self.tensors = pictures, tensors

    def __call__(self, image: Any) -> Any:
        return (self.pictures if isinstance(image, Image.Image) else self.tensors)(image)


def _build(options: dict[str, Any]) -> ByForm:
    way = options["interpolation"]
    deep = {**options, "interpolation": _FOR_TENSORS.get(way, way), "auto_augment": None}
    both: list[Any] = [create_transform(**each) for each in (options, deep)]
    return ByForm(*both)
