"""Image folders: one folder a class, with or without train/val/test above."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.errors import DataError
from zoo.naming import natural_key
from zoo.training.data.decode import EXTENSIONS
from zoo.training.data.image_set import FileImages, Splits

SYNONYMS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "eval", "evaluation"),
    "test": ("test", "testing"),
}


def image_files(folder: Path) -> list[Path]:
    """All image files below `folder`, in natural order."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
    return sorted(found, key=lambda p: natural_key(str(p)))


def open_folder(root: Path) -> Splits:
    """Read `root/class/*.png`, or `root/train/class/*.png` with val and test beside it.

    Classes are the folder names of the training split in natural order. Other splits must have the same ones.

    Args:
        root: the folder.

    Raises:
        DataError: no images, an empty class folder.
    """
    split_folders = {
        split: folder for split, names in SYNONYMS.items() for n in reversed(names) if (folder := root / n).is_dir()
    }
    splits = Splits(name=root.resolve().name, whole=not split_folders)
    for split, folder in (split_folders or {"train": root}).items():
        setattr(splits, split, _read_split(folder, str(folder)))
    return splits


def _read_split(folder: Path, name: str) -> FileImages:
    classes = sorted((d.name for d in folder.iterdir() if d.is_dir() and not d.name.startswith(".")), key=natural_key)
    if not classes:
        raise DataError(
            f"{folder} has no class folders; expected {folder.name}/CLASS/image.png. There: {what_is_there(folder)}"
            f"{_other_form(folder)}"
        )
    files: list[Path] = []
    labels: list[int] = []
    for number, class_name in enumerate(classes):
        found = image_files(folder / class_name)
        if not found:
            raise DataError(
                f"the class folder {folder / class_name} holds no images ({', '.join(EXTENSIONS)}); "
                f"there: {what_is_there(folder / class_name)}. Fill it or remove it"
            )
        files += found
        labels += [number] * len(found)
    return FileImages(files, np.asarray(labels, dtype=np.int64), classes, name=name)


def _other_form(folder: Path) -> str:
    """How to name what lies in a folder that is no image folder."""
    for pattern, source in (("*.parquet", "hf:{}"), ("*.tar", "wds:{}"), ("state.json", "hf:{}"), ("*.csv", "{}/{}")):
        found = next(iter(sorted(folder.glob(pattern))), None)
        if found is not None:
            return f". Perhaps {source.format(folder, found.name)!r} is meant"
    return ""


def what_is_there(folder: Path, limit: int = 5) -> str:
    """The first names in a folder, for messages."""
    names = sorted((p.name + ("/" if p.is_dir() else "") for p in folder.iterdir()), key=natural_key)
    if not names:
        return "nothing"
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
