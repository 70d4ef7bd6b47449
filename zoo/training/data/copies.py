"""The same image twice: in two splits, or in training with two labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from zoo.errors import DataError
from zoo.training.data.image_set import ImageSet, Splits

# Up to here files are decoded and their pixels compared, which finds the same image in another format.
PIXEL_BYTES = 2**24
# Up to here stored bytes are compared.
STORED_BYTES = 2**30
_SHOWN = 3


def note_copies(splits: Splits) -> None:
    """Add a note for every pair of splits that share images, and for images of train with two labels.

    Images are compared by their pixels where all files together have at most 16 MiB, else by their stored bytes (of
    files, only those of equal length are read); above 1 GiB to be read, they are not compared, and a note says so.
    """
    sets = splits.present()
    sizes = {name: _sizes(data) for name, data in sets.items()}
    compared = {name: data for name, data in sets.items() if sizes[name] is not None}
    if not compared:
        return
    total = sum(int(sizes[name].sum()) for name in compared)  # type: ignore[union-attr]
    pixels = total <= PIXEL_BYTES and all(data.decodes for data in compared.values())
    repeated = Counter(int(size) for name in compared for size in sizes[name])  # type: ignore[union-attr]
    to_read = sum(size * count for size, count in repeated.items() if count > 1)
    if not pixels and to_read > STORED_BYTES:
        what = next(iter(compared.values())).a_noun
        splits.notes.append(
            f"the splits were not searched for copies of {what}: {to_read / 2**30:.1f} GiB would have to be read"
        )
        return
    prints: dict[str, list[bytes | None]] = {}
    for name, data in compared.items():
        alone = [not pixels and repeated[int(size)] == 1 for size in sizes[name]]  # type: ignore[union-attr]
        prints[name] = [None if alone[i] else _print(data, i, pixels) for i in range(len(data))]
    splits.notes += _shared(compared, prints) + _contradictions(compared, prints)


def _sizes(data: ImageSet) -> np.ndarray | None:
    """Stored lengths of all images; None where they have no stored form."""
    try:
        if data.size(0) is not None:
            return np.array([data.size(i) for i in range(len(data))], dtype=np.int64)
        content = data.content(0)
    except (OSError, DataError):
        return None
    return None if content is None else np.full(len(data), len(content), dtype=np.int64)


def _print(data: ImageSet, index: int, pixels: bool) -> bytes | None:
    try:
        if not pixels:
            return _digest(data.content(index) or b"")
        image = data.image(index)
    except (OSError, DataError):
        return None  # named when it is used
    if isinstance(image, Image.Image):
        # Of one picture, files keep grey or colour, with a palette or without.
        image = np.asarray(image if image.mode.startswith(("I", "F")) else image.convert("RGB"))
    array = np.ascontiguousarray(image.numpy() if isinstance(image, Tensor) else image)
    return _digest(f"{array.shape}{array.dtype.newbyteorder('=')}".encode(), array.tobytes())


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _shared(sets: Mapping[str, ImageSet], prints: Mapping[str, list[bytes | None]]) -> list[str]:
    first = {name: _first(found) for name, found in prints.items()}
    names, notes = list(sets), []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            both = [k for k, found in enumerate(prints[b]) if found is not None and found in first[a]]
            if both:
                pairs = [f"{sets[b].where(k)} = {sets[a].where(first[a][prints[b][k]])}" for k in both[:_SHOWN]]
                notes.append(
                    f"{len(both)} {sets[b].noun}(s) of {b} are also in {a} ({'; '.join(pairs)}{_more(both)}): the {b} "
                    "metric is flattered"
                )
    return notes


def _contradictions(sets: Mapping[str, ImageSet], prints: Mapping[str, list[bytes | None]]) -> list[str]:
    if "train" not in sets:
        return []
    data, first = sets["train"], _first(prints["train"])
    pairs = [
        (first[found], k)
        for k, found in enumerate(prints["train"])
        if found is not None and not np.array_equal(data.labels[first[found]], data.labels[k])
    ]
    if not pairs:
        return []
    shown = [f"{data.where(i)}: {_label(data, i)}, {data.where(k)}: {_label(data, k)}" for i, k in pairs[:_SHOWN]]
    return [f"{len(pairs)} {data.noun}(s) of train occur again with another label ({'; '.join(shown)}{_more(pairs)})"]


def _first(found: list[bytes | None]) -> dict[bytes | None, int]:
    first: dict[bytes | None, int] = {}
    for k, one in enumerate(found):
        if one is not None:
            first.setdefault(one, k)
    return first


def _more(found: list[Any]) -> str:
    return f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""


def _label(data: ImageSet, index: int) -> str:
    label = data.labels[index]
    chosen = [data.classes[int(label)]] if label.ndim == 0 else [data.classes[k] for k in np.flatnonzero(label)]
    return " and ".join(chosen) or "none"
