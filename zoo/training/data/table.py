"""Tables of images, or of instances of bags, and labels: CSV, TSV, Parquet (also with the images inside), pandas."""

from __future__ import annotations

import csv
import fnmatch
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from zoo.errors import DataError, MissingExtraError
from zoo.karyotype.files import CASES
from zoo.naming import did_you_mean
from zoo.training.data.bags import check_apart, group
from zoo.training.data.chromosomes import ChromosomeSet, check_cases, note_of_types, read_polarity, read_types
from zoo.training.data.decode import EXTENSIONS, decode_image
from zoo.training.data.folder import SYNONYMS
from zoo.training.data.image_set import FileImages, ImageSet, Splits
from zoo.training.data.labels import encode, from_columns, some
from zoo.training.data.options_text import split_options, yes_or_no

SUFFIXES = (".csv", ".tsv", ".parquet")
OPTIONS = ("image", "label", "split", "root", "ordinal", "bag", "features", "polarity", "case")
IMAGE = ("image", "img", "path", "image_path", "img_path", "file", "filename", "file_name", "filepath", "file_path",
         "image_file", "image_id")  # fmt: skip
LABEL = ("label", "labels", "class", "class_name", "target", "targets", "category", "diagnosis", "dx")
SPLIT = ("split", "subset", "partition")
BAG = ("bag", "bag_id")
POLARITY = ("polarity",)
#: Of single precision.
_LARGEST = float(np.finfo(np.float32).max)
SPLIT_NAMES = {name: split for split, names in SYNONYMS.items() for name in names} | {"dev": "val"}


class StoredImages(ImageSet):
    """Images that lie in a table, as the bytes of image files.

    Args:
        stored: rows that are bytes or `{"bytes": …, "path": …}`, as Hugging Face writes them.
        root: where paths begin.
    """

    decodes = True

    def __init__(
        self,
        stored: Any,
        rows: Sequence[int],
        labels: np.ndarray,
        classes: Sequence[str],
        *,
        root: Path,
        name: str,
        ordinal: bool = False,
    ):
        self.stored, self.rows, self.root = stored, list(rows), root
        self.name = name
        super().__init__(labels, classes, name=name, ordinal=ordinal)

    def image(self, index: int) -> Any:
        return decode_image(self.content(index), self.where(index))

    def where(self, index: int) -> str:
        return f"row {self.rows[index] + 1} of {self.name}"

    def content(self, index: int) -> bytes:
        value = self.stored[self.rows[index]]
        value = value.as_py() if hasattr(value, "as_py") else value
        if isinstance(value, Mapping):
            content, path = value.get("bytes"), value.get("path")
        else:
            content, path = value, None
        if content is None and path:
            try:
                content = (self.root / path).read_bytes()
            except OSError as error:
                raise DataError(f"{self.where(index)}: cannot read {self.root / path} ({error.strerror})") from error
        if not isinstance(content, bytes | bytearray):
            raise DataError(f"{self.where(index)} has no image")
        return bytes(content)


def open_table(text: str, *, labelled: bool = True, features: Sequence[str] | None = None) -> Splits:
    """Read `labels.csv`, `.tsv` or `.parquet`, with options after a `?`.

    Columns are found by their usual names, or given: `labels.csv?image=file&label=dx&split=fold&root=images`. `label`
    may name several columns of zeros and ones, joined by commas. Paths are relative to `root`, and it to the table's
    folder. Without a split column, all rows are train.

    With a column `polarity`, rows are chromosomes: their labels are types (`x` and `chrX` are X), and a column `case`,
    `case_id` or `patient`, if there is one, tells which belong together.

    With a column `bag`, rows are instances, and those of one bag have one label. They are images, or, without a column
    of images, vectors of all other columns, or of those that `features` names: `slides.csv?bag=slide&features=f*`.

    Args:
        text: the table and its options.
        labelled: False takes no account of labels, which need not be there, and makes one class.
        features: columns that are features where the options do not say.

    Raises:
        DataError: naming what is wrong and what was found.
        MissingExtraError: Parquet without the extra `data`.
    """
    source, options = split_options(text, OPTIONS, () if text.partition("?")[0].endswith(".parquet") else ("sequence",))
    path = Path(source).expanduser()
    if path.suffix.lower() == ".parquet":
        columns, classes = _read_parquet(path)
    else:
        columns, classes = read_text(path), None
    return splits_of(
        columns, path.stem, str(path), options, folder=path.parent, classes=classes, labelled=labelled,
        features=features,
    )  # fmt: skip


def open_frame(frame: Any, *, labelled: bool = True, features: Sequence[str] | None = None) -> Splits:
    """Read a pandas DataFrame; columns by their usual names, paths relative to the working folder; see `open_table`."""
    columns = {str(name): list(frame[name]) for name in frame.columns}
    return splits_of(columns, "frame", "the DataFrame", {}, folder=Path(), labelled=labelled, features=features)


def splits_of(
    columns: Mapping[str, Any],
    name: str,
    source: str,
    options: Mapping[str, str],
    *,
    folder: Path,
    classes: Mapping[str, Sequence[str]] | None = None,
    labelled: bool = True,
    features: Sequence[str] | None = None,
) -> Splits:
    """Splits out of columns.

    Args:
        columns: name -> one value a row.
        name: of the data set.
        source: what to name in messages.
        options: any of `OPTIONS`.
        folder: where `root` begins.
        classes: names of the classes of columns that number them.
        labelled, features: as of `open_table`.

    Raises:
        DataError: naming what is wrong and what was found.
    """
    bag = _optional(columns, options.get("bag"), BAG, "bag", source)
    image = _optional(columns, options.get("image"), () if "features" in options else IMAGE, "image", source)
    if image is None and bag is None:
        image = find_column(columns, None, IMAGE, "image", source)
    wanted = options.get("label", "")
    several = [part.strip() for part in wanted.split(",")] if "," in wanted and wanted not in columns else []
    label = [find_column(columns, c, (), "label", source) for c in several]
    if not several and labelled:
        label = [find_column(columns, wanted or None, LABEL, "label", source)]
    elif not several:
        label = [c for c in [_optional(columns, wanted or None, LABEL, "label", source)] if c is not None]
    count = len(next(iter(columns.values())))
    if not count:
        raise DataError(f"{source} has no rows")
    splits = Splits(name=name)
    rows = _rows_of_splits(columns, options.get("split"), source)
    splits.whole = rows is None
    rows = rows or {"train": list(range(count))}
    ordinal = yes_or_no(dict(options), "ordinal")
    polarity = _optional(columns, options.get("polarity"), POLARITY, "polarity", source)
    case = _optional(columns, options.get("case"), () if polarity is None else CASES, "case", source)
    chromosomes = image is not None and bag is None and (polarity or case) is not None
    if not labelled:
        names, labels = ["?"], {split: np.zeros(len(some_rows), dtype=np.int64) for split, some_rows in rows.items()}
    elif several:
        names = list(several)
        everything = from_columns(list(zip(*(columns[c] for c in several), strict=True)), several, source)
        if (everything.sum(1) == 1).all():
            everything = everything.argmax(1)
            splits.notes.append(f"every row of {source} has one of {some(several)}: taken as one class an image")
        labels = {split: everything[some_rows] for split, some_rows in rows.items()}
    else:
        values, known = columns[label[0]], (classes or {}).get(label[0])
        if chromosomes:
            values, known = read_types(values), known and read_types(known)
        encoded = encode(
            {split: [values[i] for i in some_rows] for split, some_rows in rows.items()},
            f"{source}, column {label[0]!r}",
            known,
        )
        names, labels = encoded.classes, encoded.labels
    root = (folder / options.get("root", "")).absolute()
    stored = [] if image is None else columns[image]
    files = None if image is None or _embedded(stored) else _files(stored, root, source, image)
    others = (*label, bag, _split_column(columns, options.get("split"), source))
    patterns = [part.strip() for part in options["features"].split(",")] if "features" in options else features
    columns_of_features, vectors = _vectors(columns, patterns, others, source) if image is None else (None, None)
    for split, some_rows in rows.items():
        title = f"{split} of {source}"
        if vectors is not None:
            made: ImageSet = ImageSet(labels[split], names, name=title, ordinal=ordinal)
        elif files is None:
            made = StoredImages(stored, some_rows, labels[split], names, root=root, name=title, ordinal=ordinal)
        else:
            made = FileImages([files[i] for i in some_rows], labels[split], names, name=title, ordinal=ordinal)
            _check_repeats(made, source)
        if bag is not None:
            ids = [_group_id(columns[bag][i], i, bag, source, "bag") for i in some_rows]
            made = group(made if vectors is None else vectors[some_rows], ids, made)
            made.feature_names = columns_of_features
        made.partial = True
        if chromosomes:
            made = ChromosomeSet(
                made,
                polarity and read_polarity([_plain(columns[polarity][i]) for i in some_rows], source),
                case and [_group_id(columns[case][i], i, case, source, "case") for i in some_rows],
            )
        setattr(splits, split, made)
    check_apart(splits)
    check_cases(splits)
    if labelled and chromosomes and case is not None:
        splits.notes += note_of_types(names, source)
    return splits


def _group_id(value: Any, row: int, column: str, source: str, what: str) -> Any:
    value = _plain(value)
    if value is None or value != value or not str(value).strip():
        raise DataError(f"{source}, row {row + 1}: the column {column!r} is empty; each row belongs to a {what}")
    return value


def _plain(value: Any) -> Any:
    return value.as_py() if hasattr(value, "as_py") else value


def _optional(
    columns: Mapping[str, Any], wanted: str | None, usual: Sequence[str], what: str, source: str
) -> str | None:
    """A column that need not be there."""
    if wanted is not None:
        return find_column(columns, wanted, (), what, source)
    plain = {c.strip().lower(): c for c in reversed(list(columns))}
    return next((plain[name] for name in usual if name in plain), None)


def _split_column(columns: Mapping[str, Any], wanted: str | None, source: str) -> str | None:
    return _optional(columns, wanted or None, SPLIT, "split", source)


def _vectors(
    columns: Mapping[str, Any], wanted: Sequence[str] | None, others: Sequence[str | None], source: str
) -> tuple[list[str], np.ndarray]:
    """Names and (rows, features) of the columns that `wanted` names or matches; of all but `others` if None."""
    patterns = ["*"] if wanted is None else wanted
    names = [
        c for c in columns
        if c not in others and any(c == pattern or fnmatch.fnmatchcase(c, pattern) for pattern in patterns)
    ]  # fmt: skip
    if not names:
        raise DataError(f"{source} has no columns of features ({', '.join(patterns)}); there: {some(list(columns))}")
    made = np.empty((len(columns[names[0]]), len(names)), dtype=np.float64)
    for k, name in enumerate(names):
        for i, value in enumerate(columns[name]):
            try:
                made[i, k] = float(_plain(value))
            except (TypeError, ValueError):
                made[i, k] = np.nan
            if not abs(made[i, k]) <= _LARGEST:
                raise DataError(
                    f"{source}, row {i + 1}: the feature {name!r} is no finite number of single precision but "
                    f"{value!r}; say which columns are features: '{Path(source).name}?features=PATTERN'"
                )
    return names, made.astype(np.float32)


_ELSE = {
    "label": ", or several columns of 0 and 1: '…?label=A,B,C'",
    "image": "; of sequences of letters '…?sequence=COLUMN&label=COLUMN'",
}


def find_column(columns: Mapping[str, Any], wanted: str | None, usual: Sequence[str], what: str, source: str) -> str:
    """The column that is wanted, or the first by a usual name.

    Raises:
        DataError: there is none; with the columns that there are.
    """
    there = ", ".join(repr(c) for c in columns) or "none"
    if wanted is not None:
        if wanted not in columns:
            raise DataError(f"{source} has no column {wanted!r}; there: {there}{did_you_mean(wanted, columns)}")
        return wanted
    plain = {c.strip().lower().replace(" ", "_"): c for c in reversed(list(columns))}
    found = next((plain[name] for name in usual if name in plain), None)
    if found is None:
        raise DataError(
            f"{source} has no column for the {what} by a usual name ({', '.join(usual)}); there: {there}. Name it: "
            f"'{Path(source).name}?{what}=COLUMN'" + _ELSE.get(what, "")
        )
    return found


def _rows_of_splits(columns: Mapping[str, Any], wanted: str | None, source: str) -> dict[str, list[int]] | None:
    column = _split_column(columns, wanted, source)
    if column is None:
        return None
    rows: dict[str, list[int]] = {}
    for i, value in enumerate(columns[column]):
        value = value.as_py() if hasattr(value, "as_py") else value
        split = SPLIT_NAMES.get(str(value).strip().lower())
        if split is None:
            allowed = ", ".join(sorted(SPLIT_NAMES))
            raise DataError(f"{source}, row {i + 1}: the column {column!r} has {value!r}; splits are called {allowed}")
        rows.setdefault(split, []).append(i)
    return {split: rows[split] for split in ("train", "val", "test") if split in rows}


def _embedded(stored: Any) -> bool:
    first = stored[0].as_py() if hasattr(stored[0], "as_py") else stored[0]
    return isinstance(first, bytes | Mapping)


def _files(stored: Any, root: Path, source: str, column: str) -> list[Path]:
    """The files of a column, all of which exist; a name without an ending is tried with every known one."""
    files, missing = [], []
    for i, value in enumerate(stored):
        text = str(value.as_py() if hasattr(value, "as_py") else value).strip()
        if not text or text == "None":
            raise DataError(f"{source}, row {i + 1}: the column {column!r} is empty")
        file = root / Path(text).expanduser()
        if not file.is_file():
            ends = () if file.suffix.lower() in EXTENSIONS else EXTENSIONS
            found = next((f for end in ends if (f := file.with_name(file.name + end)).is_file()), None)
            if found is None:
                missing.append(text)
                continue
            file = found
        files.append(file)
    if missing:
        raise DataError(
            f"{len(missing)} of {len(stored)} files in {source} do not exist below {root}: {some(missing)}. Another "
            f"folder is given by '{Path(source).name}?root=FOLDER'"
        )
    return files


def _check_repeats(made: FileImages, source: str) -> None:
    """Refuse a file that two rows give different labels."""
    first: dict[Path, int] = {}
    for i, file in enumerate(made.files):
        j = first.setdefault(file, i)
        if not np.array_equal(made.labels[i], made.labels[j]):
            one, two = (_label_text(made, k) for k in (j, i))
            raise DataError(f"{source} gives {file} two labels: {one} and {two}")


def _label_text(made: ImageSet, index: int) -> str:
    label = made.labels[index]
    return repr(made.classes[label]) if label.ndim == 0 else some([made.classes[k] for k in np.flatnonzero(label)])


def open_text(path: Path) -> TextIO:
    """A text file, perhaps compressed (`.gz`), to be read with its line ends as they are."""
    opened: Any = gzip.open if path.suffix.lower() == ".gz" else open
    return opened(path, "rt", encoding="utf-8-sig", newline="")


def read_text(path: Path) -> dict[str, list[str]]:
    """The columns of a text file, separated by commas, semicolons or tabs.

    Raises:
        DataError: it cannot be read, is empty, has two columns of one name, or rows of another length.
    """
    try:
        with open_text(path) as stream:
            head = stream.readline()
            stream.seek(0)
            mark = max((",", ";", "\t"), key=head.count)
            lines = [line for line in csv.reader(stream, delimiter=mark, strict=True) if line]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path} as a table ({error})") from error
    if not lines:
        raise DataError(f"{path} is empty; expected a first line of column names")
    names = [name.strip() for name in lines[0]]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DataError(f"{path} has two columns of one name: {some(twice)}")
    for i, line in enumerate(lines[1:]):
        if len(line) != len(names):
            raise DataError(f"{path}, row {i + 1} has {len(line)} fields; the first line names {len(names)} columns")
    return {name: [line[k] for line in lines[1:]] for k, name in enumerate(names)}


def _read_parquet(path: Path) -> tuple[dict[str, Any], dict[str, Sequence[str]]]:
    """Columns, and the class names that Hugging Face's library notes in the file."""
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise MissingExtraError("reading Parquet", "pyarrow", "data") from error
    try:
        table = parquet.read_table(path, memory_map=True)
    except (OSError, ArrowInvalid) as error:
        raise DataError(f"cannot read {path} as a Parquet file ({error})") from error
    features: Any = {}
    try:
        noted = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        features = noted.get("info", {}).get("features", {})
    except (ValueError, AttributeError):
        pass  # somebody else's note
    classes = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else None  # a list has its element's
        if isinstance(inner, dict) and inner.get("names"):
            classes[name] = inner["names"]
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        big = str(column.type).startswith(("struct", "binary", "large_binary"))
        columns[name] = column if big else column.to_pylist()
    return columns, classes
