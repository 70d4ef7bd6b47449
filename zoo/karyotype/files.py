"""Probabilities of chromosomes in files: tables, arrays, tensors."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.karyotype.arrays import as_array, as_ids, as_integers
from zoo.karyotype.template import HUMAN, Template
from zoo.naming import did_you_mean

SUFFIXES = (".csv", ".tsv", ".npy", ".npz", ".safetensors")
VALUES = ("log-probs", "probs", "logits")
#: What the array of values, and the column of cases, may be called.
_ARRAYS = ("log_probs", "probs", "probabilities", "logits")
_CASES = ("case", "case_id", "case_ids")
_NAMES = ("image", "file", "path", "chromosome", "name", "id")
_ALLOWED = "of what is no number only -inf may be there, for a type that it cannot be"


@dataclass(frozen=True, eq=False)
class Chromosomes:
    """Rows of a file.

    Args:
        log_probs: [N, C].
        case_ids: an integer per row.
        cases: the name of each of these.
        names: of the rows, where the file has them; else their numbers.
    """

    log_probs: NDArray[np.float64]
    case_ids: NDArray[np.int64]
    cases: list[str]
    names: list[str]


def read_chromosomes(
    path: str | Path, values: str = "log-probs", temperature: float = 1.0, template: Template = HUMAN
) -> Chromosomes:
    """The chromosomes of one or many cases.

    A table (.csv, .tsv) has a column for every type, "1" to "22", "X", "Y", in any order; `case`, where there are
    several; and a name in `image`, `file`, `path`, `chromosome`, `name` or `id`, if it likes. Commas, semicolons (with
    commas in numbers, too) or tabs separate its columns. An array (.npy) is [N, 24] of one case, or [cases, N, 24]. A
    file of several (.npz, .safetensors) has one of these as `log_probs`, `probs`, `probabilities` or `logits`, and
    beside [N, 24] `sizes` of the cases or `case_ids`, integers or texts.

    Args:
        path: the file.
        values: what is in it: "log-probs", "probs" or "logits".
        temperature: what logits, or log-probabilities as such, are divided by.
        template: names of the types.

    Raises:
        DataError: no such file, or it is not what is written above.
        ValueError: unknown `values`, or no temperature.
    """
    path = Path(path).expanduser()
    if values not in VALUES:
        raise ValueError(f"unknown values {values!r}{did_you_mean(values, VALUES) or '.'} Known: {', '.join(VALUES)}")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be a number above 0, got {temperature}")
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    if path.suffix.lower() in (".csv", ".tsv"):
        table, cases, names = _table(path, template)
    elif path.suffix.lower() in SUFFIXES:
        table, cases = _arrays(path)
        names = None
    else:
        raise DataError(f"{path.name} must be one of {', '.join(SUFFIXES)}")
    labels = list(dict.fromkeys(cases))
    number = {label: place for place, label in enumerate(labels)}
    return Chromosomes(
        _log_probs(table, values, temperature, path),
        np.array([number[label] for label in cases], dtype=np.int64),
        labels,
        names or [str(row) for row in range(len(table))],
    )


def _log_probs(table: NDArray[np.float64], values: str, temperature: float, path: Path) -> NDArray[np.float64]:
    for row, column in np.argwhere(~(table < np.inf))[:1].tolist():
        raise DataError(f"{path.name} has {table[row, column]} in row {row}, column {column}: {_ALLOWED}")
    if values == "probs":
        if (table < 0).any() or (table > 1 + 1e-6).any():
            raise DataError(f"{path.name} has values outside 0 to 1, and probs were promised")
        with np.errstate(divide="ignore"):
            table = np.log(table)
    if values == "logits" or temperature != 1:
        for row in np.flatnonzero(np.isneginf(table.max(1)))[:1].tolist():
            raise DataError(f"{path.name} leaves the chromosome of row {row} no type that it can be")
        table = (table - table.max(1, keepdims=True)) / temperature
        table = table - np.log(np.exp(table).sum(1, keepdims=True))
    return table


def _table(path: Path, template: Template) -> tuple[NDArray[np.float64], list[str], list[str] | None]:
    text = path.read_text("utf-8-sig")
    separator = max(",;\t", key=text.partition("\n")[0].count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns = {name.strip().lower(): name for name in rows.fieldnames or () if name}
    if missing := [name for name in template.names if name.lower() not in columns]:
        raise DataError(
            f"{path.name} must have a column for every type, {template.names[0]} to {template.names[-1]}, separated by "
            f"commas, semicolons or tabs; it lacks {', '.join(missing)}"
        )
    case, name = (next((columns[key] for key in keys if key in columns), None) for keys in (_CASES, _NAMES))
    read, table = [], []
    try:
        for row in rows:
            if None in row or None in row.values():
                raise ValueError(f"it has not as many fields as the first line, {len(rows.fieldnames or ())}")
            read.append(row)
            table.append([_number(row[columns[kind.lower()]], kind, separator == ";") for kind in template.names])
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path.name}, line {rows.line_num}: {error}") from None
    if not read:
        raise DataError(f"{path.name} has no rows")
    return np.array(table), _column(read, case) or ["0"] * len(read), _column(read, name)


def _column(rows: list[dict[str, str]], name: str | None) -> list[str] | None:
    return None if name is None else [row[name] for row in rows]


def _number(text: str, kind: str, decimal_comma: bool) -> float:
    try:
        number = float(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        raise ValueError(f"column {kind} has {text!r}, which is no number") from None
    if not number < np.inf:
        raise ValueError(f"column {kind} has {text!r}: {_ALLOWED}")
    return number


def _arrays(path: Path) -> tuple[NDArray[np.float64], list[str]]:
    arrays = _loaded(path)
    found = [name for name in _ARRAYS if name in arrays] or list(arrays)
    if len(found) != 1:
        raise DataError(f"{path.name} must have one array named {', '.join(_ARRAYS)}; it has {', '.join(arrays)}")
    try:
        values = as_array(arrays[found[0]], found[0])
        if values.ndim == 3:
            return values.reshape(-1, values.shape[2]), [str(n) for n in range(len(values)) for _ in values[n]]
        if values.ndim != 2 or not len(values):
            raise DataError(f"{path.name} must be [N, 24] or [cases, N, 24], got {list(values.shape)}")
        ids = next((arrays[name] for name in _CASES if name in arrays), None)
        if "sizes" in arrays:
            sizes = as_integers(arrays["sizes"], "sizes")
            if (sizes < 1).any() or sizes.sum() != len(values):
                raise DataError(f"sizes of {path.name} must be at least 1 and sum to {len(values)} rows")
            return values, [str(n) for n, size in enumerate(sizes.tolist()) for _ in range(size)]
        cases = np.zeros(len(values), int) if ids is None else as_ids(ids, "case_ids", len(values))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, DataError) else DataError(f"{path.name}: {error}") from None
    return values, [str(case) for case in cases.tolist()]


def _loaded(path: Path) -> dict[str, Any]:
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"log_probs": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # whatever a reader makes of a file that is none of its own
        raise DataError(f"{path.name} cannot be read: {error}") from None
