"""MedMNIST's `.npz` files, read without the medmnist package.

A file holds `{train,val,test}_images` (uint8, (N, H, W) or (N, H, W, 3)) and `{train,val,test}_labels` ((N, 1), or
(N, 14) zeros and ones for ChestMNIST), the larger ones under names such as `pathmnist_128.npz`. What is published of a
set (class names, licence, sizes) is found by the file's name. Yang et al., "MedMNIST v2", 2023, arXiv:2110.14795.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from zoo.errors import DataError
from zoo.training.data.image_set import ArrayImages, Splits
from zoo.training.data.labels import number_labels
from zoo.training.data.medmnist_sets import CLASS_NAMES, SETS, URL, Published
from zoo.training.data.options_text import split_options

OPTIONS = ("slices",)
_SLICES = ("middle", "channels")


def open_npz(text: str) -> Splits:
    """Read a MedMNIST-layout `.npz` file; splits that it lacks are left out.

    Volumes (N, D, H, W) are read when it is said how: `set.npz?slices=middle` takes the middle slice of each,
    `slices=channels` all D slices as channels of one image.

    Raises:
        DataError: not an npz file, missing arrays, volumes without `slices`, labels that do not fit, pickled arrays.
    """
    source, options = split_options(text, OPTIONS)
    path, slices = Path(source).expanduser(), options.get("slices")
    if slices is not None and slices not in _SLICES:
        raise DataError(f"slices must be one of {', '.join(_SLICES)}, got {slices!r}")
    arrays = _load(path)
    flag = path.stem.split("_")[0].lower()
    found = [s for s in ("train", "val", "test") if f"{s}_images" in arrays]
    if not found:
        raise DataError(
            f"{path} lacks arrays named train_images, val_images or test_images; it holds: "
            f"{', '.join(sorted(arrays)) or 'nothing'}"
        )
    missing = [f"{s}_labels" for s in found if f"{s}_labels" not in arrays]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it holds: {', '.join(sorted(arrays))}")
    labels = {s: _labels(arrays[f"{s}_labels"], f"{s}_labels of {path.name}") for s in found}
    classes = CLASS_NAMES.get(flag) or _numbered(labels, path.name)
    splits = Splits(name=path.stem)
    known = SETS.get(flag)
    for split in found:
        images = _images(arrays[f"{split}_images"], f"{split}_images of {path.name}", slices)
        # Mirroring would turn a left kidney into a right one.
        made = ArrayImages(
            images,
            labels[split],
            classes,
            name=f"{split} of {path.name}",
            flip=not flag.startswith("organ"),
            ordinal=known is not None and known.task == "ordinal",
        )
        made.counted = flag not in CLASS_NAMES and not made.multi_label
        setattr(splits, split, made)
    if known is not None:
        _compare(splits, known, flag)
    return splits


def _compare(splits: Splits, known: Published, flag: str) -> None:
    """Note the licence, and where a file that has a set's name is not that set."""
    expected: dict[str, int] = dict(zip(("train", "val", "test"), known.sizes, strict=True))
    differing = {name: len(data) for name, data in splits.present().items() if len(data) != expected[name]}
    if not differing and len(splits.present()) == 3:
        splits.facts = {"name": splits.name, "licence": known.licence, "url": URL, "task": known.task}
    elif differing:
        there = ", ".join(f"{size} {name} (published: {expected[name]})" for name, size in differing.items())
        splits.notes.append(f"{splits.name} has the name but not the sizes of {flag}: {there} images")


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        # numpy leaves a damaged file open when it is given the path.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path} as an .npz file ({error}); pickled arrays are refused") from error


def _images(images: np.ndarray, name: str, slices: str | None) -> np.ndarray:
    shape = images.shape
    if images.ndim == 4 and shape[3] not in (1, 3) and slices is not None:
        images = images[:, shape[1] // 2] if slices == "middle" else images.transpose(0, 2, 3, 1)
    elif images.ndim == 5 or (images.ndim == 4 and shape[3] not in (1, 3)):
        raise DataError(
            f"{name} has shape {shape}: volumes are not supported as such, only (N, H, W) and (N, H, W, 3). Say how to "
            "make images of them: 'FILE.npz?slices=middle' takes the middle slice, '?slices=channels' makes every "
            "slice a channel (for a model with as many in_chans)"
        )
    if images.ndim not in (3, 4):
        raise DataError(f"{name} has shape {shape}; expected (N, H, W) or (N, H, W, 3)")
    if images.dtype != np.uint8:
        raise DataError(f"{name} has type {images.dtype}; expected uint8")
    return images


def _labels(labels: np.ndarray, name: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2) or not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        raise DataError(
            f"{name} has type {labels.dtype} and shape {labels.shape}; expected whole numbers, (N, 1) or (N, K)"
        )
    return labels.astype(np.int64)


def _numbered(labels: dict[str, np.ndarray], name: str) -> list[str]:
    # Other splits must not have classes that training lacks: the range check of the set finds them.
    split = "train" if "train" in labels else next(iter(labels))
    return number_labels(labels[split], f"{split} of {name}").classes
