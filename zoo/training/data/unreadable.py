"""Leaving out images that cannot be decoded."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from zoo.errors import DataError
from zoo.training.data.bags import BagSet
from zoo.training.data.image_set import ImageSet, Splits
from zoo.training.data.labels import some


def drop_unreadable(splits: Splits) -> None:
    """Decode every image once and leave out those that cannot be, with a note that counts them.

    A bag loses the instances that cannot be read; one that has no others is left out.

    Raises:
        DataError: nothing is left, or nothing of a class of train.
    """
    for name, data in splits.present().items():
        if not data.decodes:
            continue
        images: ImageSet = data.instances if isinstance(data, BagSet) else data  # pyright: ignore - bags that decode
        numbers = np.concatenate(data.places) if isinstance(data, BagSet) else np.arange(len(data))
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            good = np.fromiter(pool.map(lambda i, images=images: _readable(images, int(i)), numbers), dtype=bool)
        if good.all():
            continue
        bad = [images.where(int(i)) for i in numbers[~good]]
        if not good.any():
            raise DataError(f"none of the {len(numbers)} images of {name} can be read: {some(bad, 3)}")
        left = data.without(numbers[~good]) if isinstance(data, BagSet) else data.subset(numbers[good], data.name)
        if name == "train" and data.classes and not data.multi_label:
            lost = sorted(set(data.labels.tolist()) - set(left.labels.tolist()))
            if lost:
                raise DataError(
                    f"no image of the class {data.classes[lost[0]]!r} can be read ({some(bad, 3)}); repair some, or "
                    "remove the class"
                )
        setattr(splits, name, left)
        bags = f", and {len(data) - len(left)} bag(s) of no others" if isinstance(data, BagSet) else ""
        splits.notes.append(f"left out {len(bad)} unreadable image(s) of {name}{bags}: {some(bad)}")


def _readable(data: ImageSet, index: int) -> bool:
    try:
        data.image(index)
    except DataError:
        return False
    return True
