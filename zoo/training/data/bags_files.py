"""Files of bags: rows, offsets and labels in `.npz` or `.safetensors`."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from zoo.errors import DataError
from zoo.training.data.bags import ragged_bags
from zoo.training.data.image_set import Splits

SUFFIXES = (".npz", ".safetensors")
PARTS = ("rows", "offsets", "labels")
_SPLITS = ("train", "val", "test")


def is_bag_file(path: Path) -> bool:
    """Whether a file holds rows or offsets, of all or of a split."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    if path.suffix.lower() == ".safetensors":
        return True
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return any(name.rpartition("_")[2] in ("rows", "offsets") for name in arrays.files)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        return False  # whoever reads it says what is wrong


def open_bag_file(path: Path) -> Splits:
    """Read `rows` (R, …), `offsets` (bags + 1,) and `labels` (bags,); or `train_rows`, … `test_labels`.

    Labels are class numbers, or, in `.npz`, texts.

    Raises:
        DataError: naming what is wrong and what was found.
    """
    arrays = _load(path)
    splits = Splits(name=path.stem)
    there = _splits_in(arrays)
    splits.whole = not there
    for split in there or ["train"]:
        name = f"{split} of {path.name}" if there else path.name
        rows, offsets, labels = _parts(arrays, f"{split}_" if there else "", PARTS, path)
        setattr(splits, split, ragged_bags(rows, offsets, labels, name))
    return splits


def load_rows(path: Path) -> tuple[Any, Any, list[str]]:
    """Rows and offsets of a file, of its test split where it has splits, and notes; labels are of no account.

    Raises:
        DataError: naming what is missing.
    """
    arrays = _load(path)
    there = _splits_in(arrays)
    if there and "test" not in there:
        raise DataError(f"{path} has no test split; splits there: {', '.join(there)}")
    rows, offsets = _parts(arrays, "test_" if there else "", PARTS[:2], path)
    notes = [f"{path.name} has the splits {', '.join(there)}: the {len(offsets) - 1} bags of test are answered"]
    return rows, offsets, notes if there else []


def _splits_in(arrays: dict[str, np.ndarray]) -> list[str]:
    return [split for split in _SPLITS if any(f"{split}_{part}" in arrays for part in PARTS[:2])]


def _parts(arrays: dict[str, np.ndarray], prefix: str, parts: Sequence[str], path: Path) -> list[np.ndarray]:
    wanted = [prefix + part for part in parts]
    check_parts(arrays, wanted, str(path))
    return [arrays[part] for part in wanted]


def check_parts(given: Mapping[str, Any], wanted: Sequence[str], name: str = "the dictionary of bags") -> None:
    """Refuse what lacks a part of bags.

    Raises:
        DataError: naming what is missing, and what there is.
    """
    missing = [part for part in wanted if part not in given]
    if missing:
        why = " (where each bag starts in the rows and the last one ends)" if missing[0].endswith("offsets") else ""
        there = ", ".join(sorted(map(str, given))) or "nothing"
        raise DataError(f"{name} lacks {', '.join(missing)}{why}; it holds: {there}")


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix.lower() == ".npz":
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        with safe_open(path, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, zlib.error, SafetensorError) as error:
        raise DataError(f"cannot read {path} ({error})") from error
