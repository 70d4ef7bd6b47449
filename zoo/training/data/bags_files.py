"""Files of bags: rows, offsets and labels in `.npz` or `.safetensors`."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from zoo.errors import DataError
from zoo.training.data.bags import ragged_bags
from zoo.training.data.image_set import Splits

SUFFIXES = (".npz", ".safetensors")
_PARTS = ("rows", "offsets", "labels")
_SPLITS = ("train", "val", "test")


def is_bag_file(path: Path) -> bool:
    """Whether a file holds rows and offsets, of all or of a split."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    if path.suffix.lower() == ".safetensors":
        return True
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return any(name.rpartition("_")[2] == "offsets" for name in arrays.files)
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
    there = {split: f"{split}_" for split in _SPLITS if f"{split}_rows" in arrays}
    splits.whole = not there
    for split, prefix in (there or {"train": ""}).items():
        missing = [prefix + part for part in _PARTS if prefix + part not in arrays]
        if missing:
            raise DataError(f"{path} lacks {', '.join(missing)}; it holds: {', '.join(sorted(arrays)) or 'nothing'}")
        name = f"{split} of {path.name}"
        rows, offsets, labels = (arrays[prefix + part] for part in _PARTS)
        setattr(splits, split, ragged_bags(rows, offsets, labels, name))
    return splits


def load_rows(path: Path) -> tuple[Any, Any] | None:
    """Rows and offsets of a file without splits; None where it has splits.

    Raises:
        DataError: naming what is missing.
    """
    arrays = _load(path)
    if any(f"{split}_rows" in arrays for split in _SPLITS):
        return None
    if "rows" not in arrays or "offsets" not in arrays:
        raise DataError(f"{path} lacks rows or offsets; it holds: {', '.join(sorted(arrays)) or 'nothing'}")
    return arrays["rows"], arrays["offsets"]


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix.lower() == ".npz":
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        with safe_open(path, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, zlib.error, SafetensorError) as error:
        raise DataError(f"cannot read {path} ({error})") from error
