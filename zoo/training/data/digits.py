"""The handwritten digits that scikit-learn carries: real data with no download."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.errors import MissingExtraError
from zoo.training.data.image_set import ArrayImages, Splits
from zoo.training.data.split import stratified_split

TEST, VAL = 360, 180


def open_digits() -> Splits:
    """1,797 grey 8 x 8 images in ten classes: 1,257 train, 180 val, 360 test, stratified, split by seed 0.

    Source: UCI "Optical Recognition of Handwritten Digits" (its test part), as shipped by scikit-learn. Values 0..16
    are stretched to 0..255. A mirrored digit is another sign, so augmentation never flips them.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("the data set 'digits'", "scikit-learn", "train") from error
    raw: Any = load_digits()
    images = np.round(raw.images * (255 / 16)).astype(np.uint8)
    labels = raw.target.astype(np.int64)
    classes = [str(k) for k in range(10)]
    rest, test = stratified_split(labels, TEST, seed=0)
    train, val = stratified_split(labels[rest], VAL, seed=0)
    whole = ArrayImages(images, labels, classes, name="digits", flip=False)
    return Splits(
        name="digits",
        train=whole.subset(rest[train], "train of digits"),
        val=whole.subset(rest[val], "val of digits"),
        test=whole.subset(test, "test of digits"),
    )
