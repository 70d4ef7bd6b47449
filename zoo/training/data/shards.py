"""WebDataset shards: tar files with `KEY.jpg` beside `KEY.cls`, read by position, with no library."""

from __future__ import annotations

import glob
import json
import re
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import DataError
from zoo.naming import natural_key
from zoo.training.data.decode import EXTENSIONS, decode_image
from zoo.training.data.folder import what_is_there
from zoo.training.data.image_set import ImageSet, Splits
from zoo.training.data.labels import encode, some
from zoo.training.data.options_text import split_options, yes_or_no
from zoo.training.data.table import LABEL, SPLIT_NAMES

PREFIXES = ("wds:",)
OPTIONS = ("label", "ordinal")
_LABEL_PARTS = ("cls", "txt", "json")


class Stored(NamedTuple):
    """Where a file of a shard lies."""

    shard: Path
    name: str
    start: int
    length: int

    def read(self) -> bytes:
        with self.shard.open("rb") as stream:
            stream.seek(self.start)
            return stream.read(self.length)


class ShardImages(ImageSet):
    """Images inside tar files."""

    decodes = True

    def __init__(self, files: list[Stored], labels: np.ndarray, classes: list[str], *, name: str, ordinal: bool):
        self.files = files
        super().__init__(labels, classes, name=name, ordinal=ordinal)

    def image(self, index: int) -> Any:
        return decode_image(self.content(index), self.where(index))

    def where(self, index: int) -> str:
        return f"{self.files[index].name} in {self.files[index].shard}"

    def content(self, index: int) -> bytes:
        return self.files[index].read()

    def size(self, index: int) -> int:
        return self.files[index].length


def open_text(text: str) -> Splits:
    """Read `wds:FOLDER`, `wds:FILE.tar` or `wds:train-{000..003}.tar`, with options after a `?`.

    The split is told by the name of a shard or of its folder (`train-000.tar`, `val/000.tar`); with no such name, all
    is train. Labels lie beside the image in `.cls` or `.txt` (a number or a name) or in `.json` under a usual key;
    `label=EXTENSION` or `label=KEY` (of the JSON) chooses. Names of numbered classes come from a `classes.txt` or
    `classnames.txt` beside the shards, one a line.

    Raises:
        DataError: naming what is wrong and what was found.
    """
    source, options = split_options(text.removeprefix("wds:"), OPTIONS)
    shards = _shards(source)
    named = {shard: _split_of(shard) for shard in shards}
    splits = Splits(name=Path(source).stem.split("{")[0].strip("-_*") or "shards", whole=not any(named.values()))
    groups: dict[str, list[Path]] = {}
    for shard, split in named.items():
        if split is None and not splits.whole:
            splits.notes.append(f"left out {shard}: its name tells no split")
            continue
        groups.setdefault(split or "train", []).append(shard)
    images: dict[str, list[Stored]] = {}
    labels: dict[str, list[Any]] = {}
    for split in ("train", "val", "test"):
        if split in groups:
            images[split], labels[split] = _samples(groups[split], options.get("label"))
    encoded = encode(labels, text, _names(shards))
    for split, files in images.items():
        title = f"{split} of {source}"
        made = ShardImages(
            files, encoded.labels[split], encoded.classes, name=title, ordinal=yes_or_no(options, "ordinal")
        )
        made.partial = True
        setattr(splits, split, made)
    return splits


def _shards(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_dir():
        found = [p for p in path.rglob("*.tar") if p.is_file()]
        if not found:
            raise DataError(f"no shards (*.tar) in {path.absolute()}; there: {what_is_there(path)}")
    elif path.is_file():
        found = [path]
    else:
        found = [Path(p) for pattern in _braces(str(path)) for p in (glob.glob(pattern) or [pattern])]
        missing = [str(p) for p in found if not p.is_file()]
        if missing:
            raise DataError(f"no such shards: {some(missing, 3)}")
    return sorted(found, key=lambda p: natural_key(str(p)))


def _braces(pattern: str) -> list[str]:
    """`a{08..10}` as a08, a09, a10."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if match is None:
        return [pattern]
    first, last = match[1], match[2]
    numbers = [f"{k:0{len(first)}d}" for k in range(int(first), int(last) + 1)]
    return [done for n in numbers for done in _braces(pattern[: match.start()] + n + pattern[match.end() :])]


def _split_of(shard: Path) -> str | None:
    word = re.match(r"[a-z]+", shard.stem.lower())
    return SPLIT_NAMES.get(word[0] if word else "") or SPLIT_NAMES.get(shard.parent.name.lower())


def _samples(shards: list[Path], wanted: str | None) -> tuple[list[Stored], list[Any]]:
    images, labels = [], []
    for shard in shards:
        for key, parts in _index(shard).items():
            image = next((parts[e] for e in parts if f".{e.rsplit('.', 1)[-1]}" in EXTENSIONS), None)
            if image is None:
                raise DataError(f"{shard}: the sample {key!r} has no image, only {some(sorted(parts))}")
            images.append(image)
            labels.append(_label(parts, wanted, f"{shard}: the sample {key!r}"))
    return images, labels


def _index(shard: Path) -> dict[str, dict[str, Stored]]:
    """The samples of a shard: key -> extension -> place."""
    samples: dict[str, dict[str, Stored]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isfile():
                    folder, _, base = member.name.rpartition("/")
                    stem, _, extension = base.partition(".")
                    place = Stored(shard, member.name, member.offset_data, member.size)
                    samples.setdefault(f"{folder}/{stem}".strip("/"), {})[extension.lower()] = place
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"cannot read {shard} as an uncompressed tar file ({error})") from error
    if not samples:
        raise DataError(f"{shard} holds no files")
    return samples


def _label(parts: dict[str, Stored], wanted: str | None, where: str) -> Any:
    part = next((e for e in ((wanted,) if wanted in parts else _LABEL_PARTS) if e in parts), None)
    if part is None:
        raise DataError(
            f"{where} has no label: expected .{', .'.join(_LABEL_PARTS)} beside the image, got {some(sorted(parts))}"
        )
    try:
        text = parts[part].read().decode("utf-8").strip()
        if part != "json":
            return text
        value = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: cannot read its .{part} ({error})") from error
    if not isinstance(value, dict):
        return value
    key = wanted if wanted is not None and wanted != "json" else next((k for k in LABEL if k in value), None)
    if key not in value:
        raise DataError(f"{where}: its .json has no label under {key or ', '.join(LABEL)}; keys: {some(list(value))}")
    return value[key]


def _names(shards: list[Path]) -> list[str] | None:
    for folder in (shards[0].parent, shards[0].parent.parent):
        for name in ("classes.txt", "classnames.txt"):
            if (folder / name).is_file():
                return [line.strip() for line in (folder / name).read_text("utf-8").splitlines() if line.strip()]
    return None
