"""A model and data small enough to train in a test."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.models.stitching.network import StitchNet
from zoo.training.data import ArrayImages, Splits
from zoo.training.data.digits import open_digits


class TinyNet(nn.Module):
    """Two convolutions with batch norm, dropout and a head: all that freezing and resuming must mind."""

    def __init__(self, num_classes: int = 10, in_chans: int = 1, size: int = 8):
        super().__init__()
        self.num_classes, self.in_chans = num_classes, in_chans
        self.pretrained_cfg: dict[str, Any] = {
            "input_size": (in_chans, size, size),
            "mean": (0.5,) * in_chans,
            "std": (0.5,) * in_chans,
            "crop_pct": 1.0,
            "interpolation": "bilinear",
            "classifier": "fc",
        }
        self.stem = nn.Sequential(nn.Conv2d(in_chans, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.drop: nn.Module = nn.Dropout(0.1)
        self.fc = nn.Linear(32 * ((size + 1) // 2) ** 2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.body(self.stem(x)).flatten(1)))

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.fc = nn.Linear(self.fc.in_features, num_classes)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        return {"stem": r"^stem", "blocks": r"^body"}


def tiny_net(seed: int = 0, **options: Any) -> TinyNet:
    """A TinyNet whose weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TinyNet(**options)


def small_anchors(*widths: int) -> list[dict[str, Any]]:
    """Anchors of four blocks for the digits."""
    shape: dict[str, Any] = {"img_size": 8, "patch_size": 2, "in_chans": 1, "depth": 4, "num_heads": 2}
    return [
        {"name": "vit_tiny_patch16_224", **shape, "embed_dim": width, "num_classes": 10} for width in widths or (8, 16)
    ]


def stitched_net(*widths: int, seed: int = 0, **options: Any) -> StitchNet:
    """A stitched network of two anchors or more whose weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return StitchNet(small_anchors(*widths), **options)


def few_digits(train: int = 96, val: int = 40, test: int = 40) -> Splits:
    """The first images of each split of the digits."""
    whole = open_digits()
    assert whole.train
    assert whole.val
    assert whole.test
    return Splits(
        name="few",
        train=whole.train.subset(range(train), "train"),
        val=whole.val.subset(range(val), "val"),
        test=whole.test.subset(range(test), "test"),
    )


def two_shades(count: int = 200, size: int = 16, seed: int = 0) -> ArrayImages:
    """An easy two-class set: dark noise and light noise, RGB."""
    random = np.random.RandomState(seed)
    labels = np.arange(count) % 2
    base = np.where(labels[:, None, None, None] == 1, 150, 90)
    images = np.clip(base + random.normal(0, 25, (count, size, size, 3)), 0, 255).astype(np.uint8)
    return ArrayImages(images, labels, ["dark", "light"], name="shades")


#: Options that make a run short, silent and plain.
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 16, "lr": 5e-3, "progress": False, "amp": "no"}
