"""Immune repertoires: a table of labelled files, each of the amino acid sequences of one sample."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from zoo.errors import DataError
from zoo.models.deeprc import AMINO_ACIDS
from zoo.training.data.bags import BagSet
from zoo.training.data.bags_batch import Bag
from zoo.training.data.image_set import FileImages, ImageSet, Splits
from zoo.training.data.options_text import split_options
from zoo.training.data.table import find_column, read_text, splits_of

#: Before a table.
REPERTOIRES = "repertoires:"
OPTIONS = ("file", "label", "split", "root", "ordinal", "sequence", "count")
#: What columns are usually called: in AIRR's, Adaptive's and DeepRC's files.
FILE = ("repertoire", "repertoire_id", "file", "filename", "path", "sample", "sample_name", "id")
SEQUENCE = ("junction_aa", "cdr3_aa", "amino_acid", "aminoacid", "cdr3", "aa", "sequence_aa", "sequence")
COUNT = ("duplicate_count", "templates", "template", "count", "counts", "clone_count", "reads")
_ENDINGS = (".tsv", ".csv", ".txt", ".tsv.gz", ".csv.gz")
#: Letters of a file that are looked up at a time in `_CODES`, by their ASCII number; -1 for what is no amino acid.
_CODES = np.full(256, -1, dtype=np.int8)
_CODES[np.frombuffer(AMINO_ACIDS.encode(), dtype=np.uint8)] = np.arange(len(AMINO_ACIDS))


class Repertoires(BagSet):
    """Bags of sequences; `image(i)` is a `Bag`.

    Args:
        counts: (R,) how often each of all sequences was seen; None where the files do not say.
        options: of `BagSet`; the instances are (R, L) numbers of amino acids, -1 behind the end.
    """

    def __init__(self, *options: Any, counts: np.ndarray | None, **named: Any):
        self.counts = counts
        super().__init__(*options, **named)

    @property
    def shape(self) -> tuple[None]:
        """Of an instance: of any length."""
        return (None,)

    def instance_names(self, index: int) -> list[str]:
        """The sequences."""
        letters = np.array([*AMINO_ACIDS, ""])
        return ["".join(row) for row in letters[self._codes(self.places[index])]]

    def where(self, index: int) -> str:
        return f"repertoire {self.ids[index]} of {self.name}"

    def _read(self, place: np.ndarray) -> Any:
        counts = None if self.counts is None else torch.from_numpy(self.counts[place])
        return Bag(torch.from_numpy(self._codes(place)), counts)

    def _codes(self, place: np.ndarray) -> np.ndarray:
        rows: Any = self.instances
        return rows[place]


class _Read(NamedTuple):
    """What files hold: (R, L) codes, (R,) counts, where each file's rows end, sequences left out, and of how many."""

    codes: np.ndarray
    counts: np.ndarray | None
    ends: list[int]
    left_out: int
    everything: int

    def note(self) -> list[str]:
        """That sequences were left out, if any were."""
        if not self.left_out:
            return []
        return [
            f"left out {self.left_out:,} of {self.everything:,} sequences, which are empty or have other letters than "
            f"the 20 amino acids ({AMINO_ACIDS})"
        ]


def open_repertoires(text: str, *, labelled: bool = True) -> Splits:
    """Read a table of files and labels, and the files, with options after a `?`.

    The table has a column of files, whose ending may be missing, and one of labels, perhaps one of splits, as other
    tables have; the files, tab- or comma-separated and perhaps compressed (`.gz`), have a column of sequences and
    perhaps one of counts. Columns are found by their usual names, or given:
    `samples.tsv?file=ID&label=status&root=files&sequence=cdr3&count=n`.

    Args:
        text: the table and its options.
        labelled: False takes no account of labels, which need not be there.

    Raises:
        DataError: naming what is wrong and what was found.
    """
    source, options = split_options(text, OPTIONS)
    path = Path(source).expanduser()
    if not path.is_file():
        raise DataError(f"no table {source!r}; {REPERTOIRES}TABLE wants one of files and labels")
    columns: dict[str, Any] = dict(read_text(path))
    column = find_column(columns, options.get("file"), FILE, "file", str(path))
    root = path.parent / options.get("root", "")
    columns[column] = [_with_ending(root, value.strip()) for value in columns[column]]
    known = {key: value for key, value in options.items() if key not in ("file", "sequence", "count")}
    options_of_table = {**known, "image": column}
    splits = splits_of(columns, path.stem, str(path), options_of_table, folder=path.parent, labelled=labelled)
    sets = {split: made for split, made in splits.present().items() if isinstance(made, FileImages)}
    read = _read_files([file for made in sets.values() for file in made.files], options)
    splits.notes += read.note()
    start = 0
    for split, files in sets.items():
        setattr(splits, split, _repertoires(read, range(start, start + len(files)), files.files, files))
        start += len(files)
    return splits


def unlabelled_repertoires(files: Sequence[Path]) -> tuple[Repertoires, list[str]]:
    """The repertoires of files, to be answered to, and notes.

    Raises:
        DataError: as `open_repertoires`.
    """
    read = _read_files(files, {})
    labelled = ImageSet(np.zeros(len(files), dtype=np.int64), ["?"], name="repertoires")
    return _repertoires(read, range(len(files)), files, labelled), read.note()


def _repertoires(read: _Read, numbers: range, files: Sequence[Path], labelled: ImageSet) -> Repertoires:
    places = [np.arange(read.ends[k], read.ends[k + 1]) for k in numbers]
    made = Repertoires(
        read.codes,
        places,
        labelled.labels,
        labelled.classes,
        name=labelled.name,
        ids=[str(file) for file in files],
        ordinal=labelled.ordinal,
        counts=read.counts,
    )
    made.partial = labelled.partial
    return made


def _with_ending(root: Path, name: str) -> str:
    return next((name + ending for ending in ("", *_ENDINGS) if (root / (name + ending)).is_file()), name)


def _read_files(files: Sequence[Path], options: Mapping[str, str]) -> _Read:
    codes, counts, everything = [], [], 0
    for file in files:
        texts, seen = _read_file(file, options)
        found, usable = _encode(texts)
        if not usable.any():
            raise DataError(f"{file} has no sequence of amino acids among its {len(texts)} rows")
        codes.append(found)
        counts.append(None if seen is None else seen[usable])
        everything += len(texts)
    if len({one is None for one in counts}) > 1:
        without = next(file for file, one in zip(files, counts, strict=True) if one is None)
        raise DataError(f"{without} has no column of counts, other files have: give all of them one, or none")
    longest = max(part.shape[1] for part in codes)
    joined = np.full((sum(map(len, codes)), longest), -1, dtype=np.int8)
    ends = [0]
    for part in codes:
        joined[ends[-1] : ends[-1] + len(part), : part.shape[1]] = part
        ends.append(ends[-1] + len(part))
    known = None if counts[0] is None else np.concatenate([one for one in counts if one is not None])
    return _Read(joined, known, ends, everything - len(joined), everything)


def _encode(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(usable, L) codes of the sequences that are of amino acids alone, and which these are."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    inside = np.arange(lengths.max(initial=0)) < lengths[:, None]
    made = np.full(inside.shape, -1, dtype=np.int8)
    made[inside] = _CODES[np.frombuffer("".join(texts).encode("latin-1", "replace"), dtype=np.uint8)]
    usable = ((made >= 0) == inside).all(1) & (lengths > 0)
    return made[usable], usable


def _read_file(path: Path, options: Mapping[str, str]) -> tuple[list[str], np.ndarray | None]:
    """The sequences of a file in capitals, and how often each was seen."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            reader = csv.reader(stream, delimiter="\t" if "\t" in head else ",")
            names = next(csv.reader([head], delimiter="\t" if "\t" in head else ","), [])
            rows = {name: k for k, name in reversed(list(enumerate(names)))}
            sequence = rows[find_column(rows, options.get("sequence"), SEQUENCE, "sequence", str(path))]
            wanted = options.get("count")
            usual = [name for name in rows if name.strip().lower() in COUNT]
            count = rows[find_column(rows, wanted, COUNT, "count", str(path))] if wanted or usual else None
            texts, seen = [], []
            for line in reader:
                texts.append(line[sequence].strip().upper())
                if count is not None:
                    seen.append(line[count])
        return texts, None if count is None else _whole(seen, path)
    except (OSError, UnicodeDecodeError, csv.Error, IndexError) as error:
        raise DataError(f"cannot read {path} as a table of sequences ({error})") from error


def _whole(seen: list[str], path: Path) -> np.ndarray:
    try:
        found = np.array(seen, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{path}: counts must be whole numbers from 1 ({error})") from error
    bad = ~((found >= 1) & (found == np.floor(found)))
    if bad.any():
        k = int(bad.argmax())
        raise DataError(f"{path}, row {k + 1}: counts must be whole numbers from 1, got {seen[k]!r}")
    return found.astype(np.int64)
