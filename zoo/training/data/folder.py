"""Image folders: one folder a class, with or without train/val/test above."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.errors import DataError
from zoo.naming import natural_key
from zoo.training.data.image_set import ImageSet, Splits

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SYNONYMS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "eval", "evaluation"),
    "test": ("test", "testing"),
}


class FolderImages(ImageSet):
    """Image files with a class each."""

    def __init__(self, files: Sequence[Path], labels: Sequence[int], classes: Sequence[str], *, name: str):
        self.files = list(files)
        super().__init__(np.asarray(labels, dtype=np.int64), classes, name=name)

    def image(self, index: int) -> Image.Image:
        return read_image(self.files[index])

    def where(self, index: int) -> str:
        return str(self.files[index])

    def content(self, index: int) -> bytes | None:
        return self.files[index].read_bytes()


def read_image(path: Path) -> Image.Image:
    """Decode an image file.

    Raises:
        DataError: naming the file, when it cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError as error:
        raise DataError(f"no such image: {path}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"cannot read the image {path} ({error}); remove it, or pass on_bad='skip' (--on-bad skip)"
        ) from error


def image_files(folder: Path) -> list[Path]:
    """All image files below `folder`, in natural order."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
    return sorted(found, key=lambda p: natural_key(str(p)))


def open_folder(root: Path, *, on_bad: str = "raise") -> Splits:
    """Read `root/class/*.png`, or `root/train/class/*.png` with val and test beside it.

    Classes are the folder names of the training split in natural order. Other splits must have the same ones.

    Args:
        root: the folder.
        on_bad: "skip" decodes every file first and leaves out those that cannot be read, with a note.

    Raises:
        DataError: no images, an empty class folder, other classes in another split.
    """
    split_folders = {
        split: folder for split, names in SYNONYMS.items() for n in reversed(names) if (folder := root / n).is_dir()
    }
    splits = Splits(name=root.resolve().name)
    keep = _readable(splits.notes) if on_bad == "skip" else None
    if not ({"train", "val", "test"} & split_folders.keys()):
        splits.train = _read_split(root, str(root), keep)
        return splits
    for split, folder in split_folders.items():
        setattr(splits, split, _read_split(folder, str(folder), keep))
    return splits


def _read_split(folder: Path, name: str, keep: Callable[[list[Path]], list[Path]] | None) -> FolderImages:
    classes = sorted((d.name for d in folder.iterdir() if d.is_dir() and not d.name.startswith(".")), key=natural_key)
    if not classes:
        raise DataError(
            f"{folder} has no class folders; expected {folder.name}/CLASS/image.png. There: {_what_is_there(folder)}"
        )
    files: list[Path] = []
    labels: list[int] = []
    for number, class_name in enumerate(classes):
        found = image_files(folder / class_name)
        if not found:
            raise DataError(
                f"the class folder {folder / class_name} holds no images ({', '.join(EXTENSIONS)}); "
                f"there: {_what_is_there(folder / class_name)}. Fill it or remove it"
            )
        if keep is not None:
            found = keep(found)
        files += found
        labels += [number] * len(found)
    return FolderImages(files, labels, classes, name=name)


def _readable(notes: list[str]) -> Callable[[list[Path]], list[Path]]:
    def keep(files: list[Path]) -> list[Path]:
        good: list[Path] = []
        for file in files:
            try:
                read_image(file)
                good.append(file)
            except DataError:
                notes.append(f"left out an unreadable image: {file}")
        return good

    return keep


def _what_is_there(folder: Path, limit: int = 5) -> str:
    names: list[Any] = sorted((p.name + ("/" if p.is_dir() else "") for p in folder.iterdir()), key=natural_key)
    if not names:
        return "nothing"
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
