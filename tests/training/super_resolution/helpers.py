"""Photographs and models small enough to train in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from zoo.models.super_resolution.fsrcnn import FSRCNN
from zoo.models.super_resolution.pcsr import PCSR

QUICK: dict[str, Any] = {
    "patch_size": 8,
    "queries": 64,
    "epoch_patches": 8,
    "batch_size": 4,
    "lr": 1e-3,
    "device": "cpu",
    "amp": "no",
    "progress": False,
}


def write_photos(folder: Path, count: int = 4, side: tuple[int, int] = (72, 80)) -> Path:
    """Parts of a real photograph, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = load_sample_image("china.jpg")
    for number in range(count):
        part = whole[40 * number : 40 * number + side[0], 90 * number : 90 * number + side[1]]
        Image.fromarray(np.ascontiguousarray(part)).save(folder / f"{number}.png")
    return folder


def small_pcsr(seed: int = 0, backbone: str = "srresnet", **options: Any) -> PCSR:
    """A network of the family whose weights depend on the seed alone."""
    sizes = {"srresnet": {"nf": 8, "nb": 1}, "carn": {"nf": 8}, "fsrcnn": {"d": 8, "s": 4, "m": 1}}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PCSR({"name": backbone, **sizes[backbone]}, [[4], [8, 8]], [], **options)


def small_network(seed: int = 0) -> FSRCNN:
    """A network without pixel-wise decisions whose weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FSRCNN(d=8, s=4, m=1)
