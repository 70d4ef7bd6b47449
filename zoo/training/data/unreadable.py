"""Leaving out images that cannot be decoded."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from zoo.errors import DataError
from zoo.training.data.image_set import ImageSet, Splits
from zoo.training.data.labels import some


def drop_unreadable(splits: Splits) -> None:
    """Decode every image once and leave out those that cannot be, with a note that counts them.

    Raises:
        DataError: nothing is left, or nothing of a class of train.
    """
    for name, data in splits.present().items():
        if not data.decodes:
            continue
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            good = np.fromiter(pool.map(lambda i, data=data: _readable(data, i), range(len(data))), dtype=bool)
        if good.all():
            continue
        bad = [data.where(int(i)) for i in np.flatnonzero(~good)]
        if not good.any():
            raise DataError(f"none of the {len(data)} images of {name} can be read: {some(bad, 3)}")
        left = data.subset(np.flatnonzero(good), data.name)
        if name == "train" and not data.multi_label:
            lost = sorted(set(data.labels.tolist()) - set(left.labels.tolist()))
            if lost:
                raise DataError(
                    f"no image of the class {data.classes[lost[0]]!r} can be read ({some(bad, 3)}); repair some, or "
                    "remove the class"
                )
        setattr(splits, name, left)
        splits.notes.append(f"left out {len(bad)} unreadable image(s) of {name}: {some(bad)}")


def _readable(data: ImageSet, index: int) -> bool:
    try:
        data.image(index)
    except DataError:
        return False
    return True
