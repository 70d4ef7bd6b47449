"""Bags of small images, the usual first task of multiple instance learning: does a bag contain a nine?

A bag has max(1, round(n)) images, n from the normal distribution of mean 10 and standard deviation 2, each drawn with
equal chances and put back. Each split is drawn from images of its own by a seed of its own (0, 1 and 2 for train, val
and test), so that everybody gets the same bags.

Source: Ilse et al., "Attention-based Deep Multiple Instance Learning" (2018, arXiv 1802.04712).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo.training.data.bags import BagSet
from zoo.training.data.digits import open_digits
from zoo.training.data.fashion_mnist import FACTS, INSTALLED, fashion_images
from zoo.training.data.image_set import ImageSet, Splits

#: Before a folder that has the files.
FASHION = "fashion_mnist_bags:"
_WANTED = 9
_MEAN, _DEVIATION = 10, 2


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


def open_fashion_mnist_bags(folder: str | Path = INSTALLED) -> Splits:
    """Bags of Fashion-MNIST: 200 train, 100 val, 500 test, positive with an ankle boot (class 9).

    The images of each split are those of the same split of `fashion_mnist`.

    Args:
        folder: has the four files of the data set, with or without `.gz`.

    Raises:
        DataError: a file is missing, or is not what its name says; how to get it.

    Source: Xiao et al., "Fashion-MNIST" (2017, arXiv 1708.07747).
    """
    images = fashion_images(folder)
    counts = {"train": 200, "val": 100, "test": 500}
    classes = ("no ankle boot", "ankle boot")
    drawn: dict[str, Any] = {
        split: draw_bags(images[split], count, seed, classes, f"{split} of fashion_mnist_bags")
        for seed, (split, count) in enumerate(counts.items())
    }
    return Splits(name="fashion_mnist_bags", facts=dict(FACTS), **drawn)


def draw_bags(images: ImageSet, count: int, seed: int, classes: tuple[str, str], name: str) -> BagSet:
    """`count` bags of the images, of the second class if one of theirs is of class 9."""
    draw = np.random.RandomState(seed)  # the new generators may draw otherwise in another numpy
    places = []
    for _ in range(count):
        size = max(1, round(draw.normal(_MEAN, _DEVIATION)))
        places.append(draw.randint(len(images), size=size))
    labels = np.array([int((images.labels[place] == _WANTED).any()) for place in places])
    return BagSet(images, places, labels, classes, name=name)
