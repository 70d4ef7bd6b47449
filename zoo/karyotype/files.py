"""Probabilities of chromosomes in files: tables, arrays, tensors."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.karyotype.arrays import as_array, as_ids, as_integers
from zoo.karyotype.checks import are_probabilities
from zoo.karyotype.template import HUMAN, Template
from zoo.naming import did_you_mean

SUFFIXES = (".csv", ".tsv", ".npy", ".npz", ".safetensors")
VALUES = ("log-probs", "probs", "logits")
#: What the array of values may be called.
_ARRAYS = ("log_probs", "probs", "probabilities", "logits")
#: And the column, or array, of cases.
CASES = ("case", "case_id", "case_ids", "patient", "patient_id")
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
        notes: what was left out of the file, and what was supposed.
    """

    log_probs: NDArray[np.float64]
    case_ids: NDArray[np.int64]
    cases: list[str]
    names: list[str]
    notes: list[str] = field(default_factory=list)


class _Read(NamedTuple):
    """What a file has: values, the case of every row if it says, names of the rows, and what was left out."""

    table: NDArray[np.float64]
    cases: list[str] | None
    names: list[str] | None = None
    left_out: Sequence[str] = ()


def read_chromosomes(
    path: str | Path,
    values: str = "log-probs",
    temperature: float = 1.0,
    template: Template = HUMAN,
    case: str | None = None,
) -> Chromosomes:
    """The chromosomes of one or many cases.

    A table (.csv, .tsv) has a column for every type, "1" to "22", "X", "Y" (or "chr1" to "chrY"), in any order; `case`,
    `case_id`, `patient` or `patient_id`, where there are several; and a name in `image`, `file`, `path`, `chromosome`,
    `name` or `id`, if it likes. Commas, semicolons (with commas in numbers, too) or tabs separate its columns, it is
    UTF-8. An array (.npy) is [N, 24] of one case, or [cases, N, 24]. A file of several (.npz, .safetensors) has one of
    these as `log_probs`, `probs`, `probabilities` or `logits`, and beside [N, 24] `sizes` of the cases or `case_ids`
    (or `case`, ...), integers or texts.

    Args:
        path: the file.
        values: what is in it: "log-probs", "probs" or "logits".
        temperature: what logits, or log-probabilities as such, are divided by.
        template: names of the types.
        case: the column, or the array, that tells cases apart, if it has another name.

    Raises:
        DataError: no such file, or it is not what is written above; probabilities where logits were promised.
        ValueError: unknown `values`, or no temperature.
    """
    path = Path(path).expanduser()
    if values not in VALUES:
        raise ValueError(f"unknown values {values!r}{did_you_mean(values, VALUES) or '.'} Known: {', '.join(VALUES)}")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be a number above 0, got {temperature}")
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path.name} must be one of {', '.join(SUFFIXES)}")
    found = _table(path, template, case) if suffix in (".csv", ".tsv") else _arrays(path, case)
    cases = found.cases or ["0"] * len(found.table)
    labels = list(dict.fromkeys(cases))
    number = {label: place for place, label in enumerate(labels)}
    return Chromosomes(
        _log_probs(found.table, values, temperature, path),
        np.array([number[label] for label in cases], dtype=np.int64),
        labels,
        found.names or [str(row) for row in range(len(found.table))],
        _notes(found, path, template),
    )


def _notes(found: _Read, path: Path, template: Template) -> list[str]:
    notes = [f"{path.name}: left out: {', '.join(found.left_out)}"] if found.left_out else []
    if found.cases is None and len(found.table) > max(map(template.total, template.copies)):
        notes.append(
            f"{path.name} does not say which rows are of one case ({', '.join(CASES)}, or one by name): all "
            f"{len(found.table)} are taken for one"
        )
    return notes


def _log_probs(table: NDArray[np.float64], values: str, temperature: float, path: Path) -> NDArray[np.float64]:
    for row, column in np.argwhere(~(table < np.inf))[:1].tolist():
        raise DataError(f"{path.name} has {table[row, column]} in row {row}, column {column}: {_ALLOWED}")
    if values == "probs":
        if (table < 0).any() or (table > 1 + 1e-6).any():
            raise DataError(f"{path.name} has values outside 0 to 1, and probs were promised")
        with np.errstate(divide="ignore"):
            table = np.log(table)
    elif (values == "logits" or temperature != 1) and are_probabilities(table):
        raise DataError(f"{path.name} has probabilities, and {values} were promised: say probs")
    if values == "logits" or temperature != 1:
        for row in np.flatnonzero(np.isneginf(table.max(1)))[:1].tolist():
            raise DataError(f"{path.name} leaves the chromosome of row {row} no type that it can be")
        table = (table - table.max(1, keepdims=True)) / temperature
        table = table - np.log(np.exp(table).sum(1, keepdims=True))
    return table


def _table(path: Path, template: Template, case: str | None) -> _Read:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} is no text in UTF-8 ({error.reason} at byte {error.start}): save it as 'CSV UTF-8'"
        ) from None
    separator = max(",;\t", key=text.partition("\n")[0].count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns = {name.strip().lower(): name for name in rows.fieldnames or () if name}
    kinds = {template.spellings[key]: name for key, name in columns.items() if key in template.spellings}
    if missing := [name for name in template.names if name not in kinds]:
        raise DataError(
            f"{path.name} must have a column for every type, {template.names[0]} to {template.names[-1]}, separated by "
            f"commas, semicolons or tabs; it lacks {', '.join(missing)}"
        )
    if case is not None and case.strip().lower() not in columns:
        there = [name for name in columns.values() if name not in kinds.values()]
        raise DataError(
            f"{path.name} has no column {case!r}{did_you_mean(case, there) or '.'} Besides types: {', '.join(there)}"
        )
    of_cases = columns[case.strip().lower()] if case is not None else _first(columns, CASES)
    of_names = _first({key: name for key, name in columns.items() if name != of_cases}, _NAMES)
    read, table = [], []
    try:
        for row in rows:
            if None in row or None in row.values():
                raise ValueError(f"it has not as many fields as the first line, {len(rows.fieldnames or ())}")
            read.append(row)
            table.append([_number(row[kinds[kind]], kind, separator == ";") for kind in template.names])
            if of_cases is not None and not row[of_cases].strip():
                raise ValueError(f"the column {of_cases!r} is empty; each row belongs to a case")
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path.name}, line {rows.line_num}: {error}") from None
    if not read:
        raise DataError(f"{path.name} has no rows")
    used = {of_cases, of_names, *kinds.values()}
    left_out = [name.strip() for name in columns.values() if name not in used]
    return _Read(np.array(table), _column(read, of_cases), _column(read, of_names), left_out)


def _first(columns: Mapping[str, str], keys: Sequence[str]) -> str | None:
    return next((columns[key] for key in keys if key in columns), None)


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


def _arrays(path: Path, case: str | None) -> _Read:
    arrays = _loaded(path)
    if case is not None and case not in arrays:
        near = did_you_mean(case, arrays) or "."
        raise DataError(f"{path.name} has no array {case!r} of cases{near} There: {', '.join(arrays)}")
    found = [name for name in _ARRAYS if name in arrays] or [name for name in arrays if name != case]
    if len(found) != 1:
        raise DataError(f"{path.name} must have one array named {', '.join(_ARRAYS)}; it has {', '.join(arrays)}")
    try:
        values = as_array(arrays[found[0]], found[0])
        if values.ndim == 3 and values.size and case is None:
            used, cases = (found[0],), [str(n) for n in range(len(values)) for _ in values[n]]
            values = values.reshape(-1, values.shape[2])
        elif values.ndim != 2 or not len(values):
            wanted = "[N, 24]" if case is not None else "[N, 24] or [cases, N, 24]"
            raise DataError(f"{path.name} must be {wanted}, got {list(values.shape)}")
        else:
            used, cases = _cases(arrays, found[0], case, path, len(values))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, DataError) else DataError(f"{path.name}: {error}") from None
    return _Read(values, cases, left_out=[name for name in arrays if name not in used])


def _cases(
    arrays: Mapping[str, Any], values: str, case: str | None, path: Path, rows: int
) -> tuple[tuple[str, ...], list[str] | None]:
    """Names of the arrays that are used, and the case of every row."""
    if "sizes" in arrays and case is None:
        sizes = as_integers(arrays["sizes"], "sizes")
        if (sizes < 1).any() or sizes.sum() != rows:
            raise DataError(f"sizes of {path.name} must be at least 1 and sum to {rows} rows")
        return (values, "sizes"), [str(n) for n, size in enumerate(sizes.tolist()) for _ in range(size)]
    ids = case or next((name for name in CASES if name in arrays), None)
    if ids is None:
        return (values,), None
    cases = [str(one) for one in as_ids(arrays[ids], ids, rows).tolist()]
    if not all(one.strip() for one in cases):
        row = [bool(one.strip()) for one in cases].index(False)
        raise DataError(f"{path.name}: {ids} of row {row} is empty; each row belongs to a case")
    return (values, ids), cases


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
