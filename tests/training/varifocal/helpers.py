"""Chromosomes and a network small enough to train in a test."""

from __future__ import annotations

from typing import Any

import torch

from zoo.models.data_config import set_data_config
from zoo.models.varifocal.network import VarifocalNet
from zoo.training.data import ImageSet, Splits
from zoo.training.data.chromosomes import ChromosomeSet, rendered_set
from zoo.training.data.rendered_chromosomes import TYPES

#: Two epochs of three updates where the local scale learns, one in the other stages.
RECIPE: dict[str, Any] = {"name": "varifocal", "epochs": [1, 1, 2, 1]}
QUICK: dict[str, Any] = {
    "recipe": RECIPE,
    "batch_size": 16,
    "lr": 1e-2,
    "progress": False,
    "amp": "no",
    "device": "cpu",
}


def small_net(seed: int = 0, num_classes: Any = (24, 2), **options: Any) -> VarifocalNet:
    """A network for images of 16 pixels whose weights depend on the seed alone."""
    sizes: dict[str, Any] = {"img_size": 16, "stem": 4, "widths": (4, 4, 8), "depths": (1, 1, 1), "strides": (1, 2, 2)}
    heads: dict[str, Any] = {"head_pool": 2, "loc_pool": 2, "loc_hidden": 8, "mlp_hidden": 8}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = VarifocalNet(num_classes=num_classes, **{**sizes, **heads, **options})
    net.pretrained_cfg = {"input_size": (1, 16, 16), "classifier": net.classifier_names()}  # type: ignore[assignment]
    names = {"label_names": TYPES} if net.num_classes == 24 else {}
    set_data_config(net, mean=0.0, std=1.0, crop_pct=1.0, crop_mode="canvas", interpolation="bilinear", **names)
    return net


def plain_net() -> VarifocalNet:
    """`small_net` without batch norms and dropout, which see their own process's images only."""
    net = small_net(drop_rate=0.0)
    for part in list(net.modules()):
        for name, child in part.named_children():
            if isinstance(child, torch.nn.BatchNorm2d):
                setattr(part, name, torch.nn.Identity())
    return net


def few(train: ImageSet | None = None) -> Splits:
    """One rendered case to train, one to validate on, two to test, of 16 pixels."""
    return Splits(
        name="few",
        train=rendered_set([0], size=16) if train is None else train,
        val=rendered_set([1], size=16, name="val"),
        test=rendered_set([2, 3], size=16, name="test"),
    )


def polarity_of(images: ImageSet | None) -> Any:
    """The polarities of a set."""
    assert isinstance(images, ChromosomeSet)
    return images.polarity
