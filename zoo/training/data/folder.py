"""Image folders: one folder a class, with or without train/val/test above."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.errors import DataError
from zoo.naming import natural_key
from zoo.training.data.decode import EXTENSIONS
from zoo.training.data.image_set import FileImages, Splits
from zoo.training.data.labels import some

SYNONYMS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "eval", "evaluation"),
    "test": ("test", "testing"),
}
_SPLIT_WORDS = {name for names in SYNONYMS.values() for name in names}
# What systems leave in folders that people do not see.
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


def image_files(folder: Path) -> list[Path]:
    """All image files below `folder`, in natural order, without what is hidden."""
    return [file for file in files_below(folder) if _is_image(file)]


def files_below(folder: Path) -> list[Path]:
    """All files below a folder at any depth, in natural order, without what is hidden."""
    found = (p for p in folder.rglob("*") if not any(map(_hidden, p.relative_to(folder).parts)) and p.is_file())
    return sorted(found, key=lambda p: natural_key(str(p)))


def folders_without_images(root: Path, files: Sequence[Path]) -> list[Path]:
    """The folders below `root`, without hidden ones, below which none of `files` lies; not those inside another one."""
    used = {folder for file in files for folder in file.parents}
    found = (p for p in root.rglob("*") if p.is_dir() and not any(map(_hidden, p.relative_to(root).parts)))
    empty = (p for p in found if p not in used and (p.parent in used or p.parent == root))
    return sorted(empty, key=lambda p: natural_key(str(p)))


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of splits, by any of their names.

    Raises:
        DataError: two folders for one split.
    """
    folders = _folders(root)
    return {split: found for split, names in SYNONYMS.items() if (found := _split_folder(folders, names, root))}


def open_folder(root: Path) -> Splits:
    """Read `root/class/*.png`, or `root/train/class/*.png` with val and test beside it.

    Split folders are known by name, in upper or lower case. Classes are the folder names of the training split in
    natural order. Other splits must have the same ones. Hidden files and folders are left out; so are, with a note,
    files of other kinds in class folders, images beside class folders, and folders beside those of splits.

    Args:
        root: the folder.

    Raises:
        DataError: no images, an empty class folder, two folders for one split.
    """
    parts = split_folders(root)
    splits = Splits(name=root.resolve().name, whole=not parts)
    if parts:
        beside = [d.name + "/" for d in _folders(root) if d.name.lower() not in _SPLIT_WORDS]
        _note(splits, beside, f"folder(s) beside the splits of {root}")
        _note(splits, _images_in(root), f"image(s) beside the splits of {root}")
    for split, folder in (parts or {"train": root}).items():
        setattr(splits, split, _read_split(folder, splits))
    return splits


def _split_folder(folders: list[Path], names: Sequence[str], root: Path) -> Path | None:
    """The folder of one split; a link to it by another name is the same one."""
    found = [folder for folder in folders if folder.name.lower() in names]
    if len({folder.resolve() for folder in found}) > 1:
        raise DataError(
            f"{root} has {len(found)} folders for the split {names[0]!r}: "
            f"{', '.join(folder.name + '/' for folder in found)}; join them, or rename those that are not meant"
        )
    return found[0] if found else None


def _read_split(folder: Path, splits: Splits) -> FileImages:
    classes = [d.name for d in _folders(folder)]
    if not classes:
        raise DataError(
            f"{folder} has no class folders; expected {folder.name}/CLASS/image.png. There: {what_is_there(folder)}"
            f"{_other_form(folder)}"
        )
    files: list[Path] = []
    labels: list[int] = []
    others: list[str] = []
    for number, class_name in enumerate(classes):
        everything = files_below(folder / class_name)
        found = [file for file in everything if _is_image(file)]
        if not found:
            raise DataError(
                f"the class folder {folder / class_name} holds no images ({', '.join(EXTENSIONS)}); "
                f"there: {what_is_there(folder / class_name)}. Fill it or remove it"
            )
        files += found
        labels += [number] * len(found)
        others += [str(file.relative_to(folder)) for file in everything if not _is_image(file)]
    endings = sorted({Path(name).suffix.lower() or "none" for name in others})
    _note(splits, others, f"file(s) in class folders of {folder} by their endings ({', '.join(endings)})")
    _note(splits, _images_in(folder), f"image(s) beside the class folders of {folder}")
    return FileImages(files, np.asarray(labels, dtype=np.int64), classes, name=str(folder))


def _note(splits: Splits, names: list[str], what: str) -> None:
    if names:
        splits.notes.append(f"left out {len(names)} {what}: {some(names, 1)}")


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in EXTENSIONS


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _LITTER


def _folders(folder: Path) -> list[Path]:
    found = (d for d in folder.iterdir() if d.is_dir() and not _hidden(d.name))
    return sorted(found, key=lambda d: natural_key(d.name))


def _images_in(folder: Path) -> list[str]:
    """Names of the images that lie in the folder itself."""
    found = (p.name for p in folder.iterdir() if _is_image(p) and not _hidden(p.name) and p.is_file())
    return sorted(found, key=natural_key)


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
