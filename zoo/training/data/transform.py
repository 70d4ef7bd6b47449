"""timm's transforms with the model's own data configuration, and three strengths of augmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image
from timm.data import create_transform

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
    """The fixed transform of evaluation and prediction."""
    fields = ("interpolation", "mean", "std", "crop_pct", "crop_mode")
    options = {"input_size": tuple(config["input_size"]), "is_training": False, **{k: config[k] for k in fields}}
    if options["interpolation"] == "random":
        options["interpolation"] = "bicubic"
    return _build(options)


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
