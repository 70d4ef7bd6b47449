"""From what a user passes as `data` to the splits that the loop works on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.naming import did_you_mean
from zoo.training.data.digits import open_digits
from zoo.training.data.folder import SYNONYMS, open_folder
from zoo.training.data.image_set import ArrayImages, ImageSet, Splits
from zoo.training.data.medmnist import open_npz
from zoo.training.data.split import check_classes, hold_out, note_leaks
from zoo.training.data.torch_dataset import DatasetImages

BUILT_IN = {"digits": open_digits}
DEFAULT_VAL = 0.2
_ON_BAD = ("raise", "skip")


def check_on_bad(on_bad: Any) -> None:
    """Refuse a word that is not known.

    Raises:
        ValueError: naming those that are.
    """
    if on_bad not in _ON_BAD:
        raise ValueError(f"on_bad must be one of {_ON_BAD}, got {on_bad!r}")


def open_splits(data: Any, *, val: Any = None, seed: int = 0, on_bad: str = "raise") -> Splits:
    """Open a data set for training.

    Args:
        data: "digits"; a folder `class/image.png` or `train/class/image.png` (also val and test, under any of timm's
            names); a MedMNIST `.npz`; a pair of arrays (images, labels); a torch Dataset or a Hugging Face one; a
            dictionary with the keys train, val and test of any of these.
        val: what to validate on. None takes the source's own split, else holds out 20 % of train, class by class; a
            number between 0 and 1 holds out that share; a source is opened; False or "no" does without.
        seed: of the split that is made here.
        on_bad: "raise" or "skip" for image files that cannot be read.

    Raises:
        DataError: naming what is wrong and what was found.
    """
    check_on_bad(on_bad)
    splits = _open(data, on_bad)
    if splits.train is None:
        present = ", ".join(splits.present()) or "none"
        raise DataError(f"{splits.name} has no training split; splits there: {present}")
    if val is False or (isinstance(val, str) and val in ("no", "none")):
        splits.val = None
    elif isinstance(val, (int, float)) and not isinstance(val, bool):
        splits.train, splits.val = _held_out(splits.train, splits.name, val, seed)
    elif val is not None:
        other = _open(val, on_bad)
        splits.val = other.val or other.train or other.test
    elif splits.val is None:
        splits.train, splits.val = _held_out(splits.train, splits.name, DEFAULT_VAL, seed)
        splits.notes.append(
            f"no validation split: {len(splits.val)} of {len(splits.train) + len(splits.val)} training images are held "
            f"out, class by class, by seed {seed}"
        )
    check_classes(splits)
    note_leaks(splits)
    return splits


def open_split(data: Any, split: str = "test", *, on_bad: str = "raise") -> tuple[str, str, ImageSet, list[str]]:
    """Open one split of a source, to evaluate on; a source without splits is taken whole, as "all".

    Returns:
        The name of the data set, the name of the split ("all" where there are none), its images, and notes.

    Raises:
        DataError: the source has splits, but not this one.
    """
    check_on_bad(on_bad)
    splits = _open(data, on_bad)
    present = splits.present()
    if list(present) == ["train"] and not _has_named_splits(data, split):
        if split not in ("train", "val", "test", "all"):
            raise DataError(f"no split {split!r}; {splits.name} has no splits, and all of it is taken as 'all'")
        note = f"{splits.name} has no splits: all {len(present['train'])} images are taken, learned from or not"
        return splits.name, "all", present["train"], [*splits.notes, note]
    if split in present:
        return splits.name, split, present[split], splits.notes
    raise DataError(
        f"{splits.name} has no {split!r} split; splits there: {', '.join(present)} (a source without splits is taken "
        f"whole, as 'all'){did_you_mean(split, present)}"
    )


def _held_out(train: ImageSet, name: str, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    return hold_out(train, fraction, seed, (f"train of {name}", f"val of {name}"))


def _has_named_splits(data: Any, split: str) -> bool:
    if isinstance(data, (str, os.PathLike)):
        return str(data) in BUILT_IN or Path(data).suffix == ".npz" or (Path(data) / "train").is_dir()
    return isinstance(data, dict) or (isinstance(data, Splits) and split == "train")


def _open(data: Any, on_bad: str) -> Splits:
    if isinstance(data, ImageSet):
        return Splits(name=data.name, train=data)
    if isinstance(data, Splits):
        return Splits(data.name, data.train, data.val, data.test, list(data.notes))
    if isinstance(data, (str, os.PathLike)):
        return _open_path(os.fspath(data), on_bad)
    if isinstance(data, dict):
        return _open_dictionary(data, on_bad)
    if isinstance(data, tuple) and len(data) == 2 and all(hasattr(part, "shape") for part in data):
        images, labels = (np.asarray(part) for part in data)
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if len(labels) == 0:
            raise DataError("the arrays hold no images")
        count = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
        if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
            images = images.transpose(0, 2, 3, 1)
        return Splits(name="arrays", train=ArrayImages(images, labels, [str(k) for k in range(count)], name="arrays"))
    if hasattr(data, "__getitem__"):
        name = type(data).__name__
        return Splits(name=name.lower(), train=DatasetImages(data, name=name))
    raise DataError(
        f"cannot read data from a {type(data).__name__}; give a folder, an .npz file, 'digits', a pair of arrays, "
        "a torch Dataset, or a dictionary {'train': …, 'val': …, 'test': …} of these"
    )


def _open_path(data: str, on_bad: str) -> Splits:
    if data in BUILT_IN:
        return BUILT_IN[data]()
    path = Path(data).expanduser()
    if path.is_dir():
        return open_folder(path, on_bad=on_bad)
    if path.suffix == ".npz":
        return open_npz(path)
    if path.is_file():
        raise DataError(f"{path} is not a data set that can be read here; expected a folder or an .npz file")
    near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, [*near, *BUILT_IN]) or "."
    raise DataError(
        f"no data at {data!r}{hint} Give a folder, an .npz file, or a built-in data set ({', '.join(BUILT_IN)})"
    )


def _open_dictionary(data: dict[str, Any], on_bad: str) -> Splits:
    keys = {name: split for split, names in SYNONYMS.items() for name in names}
    unknown = [key for key in data if key not in keys]
    if unknown:
        raise DataError(f"a dictionary of splits has the keys train, val and test; got {sorted(map(str, unknown))}")
    splits = Splits(name="data")
    for given, value in data.items():
        key = keys[given]
        opened = _open(value, on_bad)
        setattr(splits, key, getattr(opened, key) or opened.train or opened.test)
        splits.notes += opened.notes
    _share_classes(splits)
    return splits


def _share_classes(splits: Splits) -> None:
    """Numbered classes of a smaller split are those of training, though its highest number may be lower."""
    train = splits.train
    if train is None:
        return
    for other in (splits.val, splits.test):
        if other is not None and len(other.classes) < len(train.classes):
            numbered = other.classes == [str(k) for k in range(len(other.classes))]
            if numbered and train.classes[: len(other.classes)] == other.classes:
                other.classes = list(train.classes)
