"""Bags of small images, the usual first task of multiple instance learning: does a bag contain a nine?

A bag has max(1, round(n)) images, n from the normal distribution of mean 10 and standard deviation 2, each drawn with
equal chances and put back. Each split is drawn from images of its own by a seed of its own (0, 1 and 2 for train, val
and test), so that everybody gets the same bags.

Source: Ilse et al., "Attention-based Deep Multiple Instance Learning" (2018, arXiv 1802.04712).
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.training.data.bags import BagSet
from zoo.training.data.digits import open_digits
from zoo.training.data.image_set import ArrayImages, ImageSet, Splits

#: Before a folder that has the files.
FASHION = "fashion_mnist_bags:"
_INSTALLED = Path("/usr/share/datasets/fashion-mnist")
_GARMENTS = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_WANTED = 9
_MEAN, _DEVIATION = 10, 2
_VAL_IMAGES = 10_000
#: First bytes of the files: unsigned bytes, in so many dimensions.
_MAGIC = {"images": (2051, 3), "labels": (2049, 1)}


def open_digits_bags() -> Splits:
    """Bags of scikit-learn's digits: 200 train, 100 val, 200 test, positive with a nine.

    The images of each split are those of the same split of `digits`, 8 x 8 pixels, which are resized to the model's.
    """
    digits = open_digits()
    counts = {"train": 200, "val": 100, "test": 200}
    drawn: dict[str, Any] = {
        split: draw_bags(images, counts[split], seed, ("no nine", "nine"), f"{split} of digits_bags")
        for seed, (split, images) in enumerate(digits.present().items())
    }
    return Splits(name="digits_bags", **drawn)


def open_fashion_mnist_bags(folder: str | Path = _INSTALLED) -> Splits:
    """Bags of Fashion-MNIST: 200 train, 100 val, 500 test, positive with an ankle boot (class 9).

    Training bags are drawn from the first 50,000 of the 60,000 training images, those of val from the other 10,000,
    those of test from the 10,000 test images.

    Args:
        folder: has the four files of the data set, with or without `.gz`.

    Raises:
        DataError: a file is missing, or is not what its name says; how to get it.

    Source: Xiao et al., "Fashion-MNIST" (2017, arXiv 1708.07747).
    """
    folder = Path(folder).expanduser()
    train, test = (
        ArrayImages(_read(folder, part, "images"), _read(folder, part, "labels"), _GARMENTS, name=f"{part} images")
        for part in ("train", "t10k")
    )
    if len(train) <= _VAL_IMAGES:
        raise DataError(f"{folder} has {len(train)} training images, Fashion-MNIST has 60,000")
    border = len(train) - _VAL_IMAGES
    parts = {
        "train": (train.subset(range(border), "train images"), 200),
        "val": (train.subset(range(border, len(train)), "val images"), 100),
        "test": (test, 500),
    }
    classes = ("no ankle boot", "ankle boot")
    drawn: dict[str, Any] = {
        split: draw_bags(images, count, seed, classes, f"{split} of fashion_mnist_bags")
        for seed, (split, (images, count)) in enumerate(parts.items())
    }
    facts = {"licence": "mit", "url": "https://github.com/zalandoresearch/fashion-mnist"}
    return Splits(name="fashion_mnist_bags", facts=facts, **drawn)


def draw_bags(images: ImageSet, count: int, seed: int, classes: tuple[str, str], name: str) -> BagSet:
    """`count` bags of the images, of the second class if one of theirs is of class 9."""
    draw = np.random.RandomState(seed)  # the new generators may draw otherwise in another numpy
    places = []
    for _ in range(count):
        size = max(1, round(draw.normal(_MEAN, _DEVIATION)))
        places.append(draw.randint(len(images), size=size))
    labels = np.array([int((images.labels[place] == _WANTED).any()) for place in places])
    return BagSet(images, places, labels, classes, name=name)


def _read(folder: Path, part: str, what: str) -> np.ndarray:
    magic, dimensions = _MAGIC[what]
    name = f"{part}-{what}-idx{dimensions}-ubyte"
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise DataError(
            f"there is no {name}.gz in {folder}. The files of Fashion-MNIST are in the Debian package "
            "dataset-fashion-mnist (apt-get install dataset-fashion-mnist), or at "
            f"https://github.com/zalandoresearch/fashion-mnist; then give their folder: {FASHION}FOLDER"
        )
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path} ({error})") from error
    head = np.frombuffer(content[: 4 * (1 + dimensions)].ljust(4 * (1 + dimensions), b"\0"), dtype=">i4")
    shape = tuple(int(n) for n in head[1:])
    values = np.frombuffer(content, dtype=np.uint8)[4 * (1 + dimensions) :]
    if head[0] != magic or min(shape) < 1 or len(values) != int(np.prod(shape)):
        raise DataError(f"{path} is no whole file of {what}: {len(content):,} bytes, header {head.tolist()}")
    return values.reshape(shape)
