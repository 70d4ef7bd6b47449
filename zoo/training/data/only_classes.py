"""Some of the classes of a data set: `digits?classes=3,6`."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.naming import did_you_mean
from zoo.training.data.image_set import ImageSet, Splits


def only_classes(splits: Splits, text: str) -> Splits:
    """The images of some classes, which are numbered from 0 in the order given and keep their names.

    Args:
        splits: of one label an image.
        text: names of classes, joined by commas; a number where no class is called so.

    Raises:
        DataError: fewer than two classes, one that there is not, or one twice.
    """
    known = next(iter(splits.present().values())).classes
    chosen = [_number(word.strip(), known, splits.name) for word in text.split(",")]
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise DataError(f"classes={text} of {splits.name} must be two or more different ones, joined by commas")
    made: dict[str, Any] = {name: _only(images, chosen) for name, images in splits.present().items()}
    names = "_".join(re.sub(r"[^\w-]+", "-", known[k]) for k in chosen)
    return replace(splits, name=f"{splits.name}_{names}", **made)


def _number(word: str, known: list[str], source: str) -> int:
    if word in known:
        return known.index(word)
    if word.isdecimal() and int(word) < len(known):
        return int(word)
    raise DataError(f"{source} has no class {word!r}{did_you_mean(word, known) or '.'} There: {', '.join(known)}")


def _only(images: ImageSet, chosen: list[int]) -> ImageSet:
    made: Any = copy.copy(images.subset(np.flatnonzero(np.isin(images.labels, chosen)), images.name))
    places = np.full(len(images.classes), -1)
    places[chosen] = np.arange(len(chosen))
    made.labels, made.classes = places[made.labels], [images.classes[k] for k in chosen]
    return made
