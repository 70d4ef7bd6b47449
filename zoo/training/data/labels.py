"""From labels as people write them (texts, numbers, `a|b`, columns of zeros and ones) to class numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import DataError
from zoo.naming import did_you_mean, natural_key

SEPARATOR = "|"
# Above this, numbers are no class numbers.
MOST_CLASSES = 100_000
# So many images, each with a label of its own, have names where labels should be.
_SUSPICIOUS = 20
_WHOLE = re.compile(r"\d+\.0")


@dataclass(frozen=True)
class Encoded:
    """Class names, and for every split (N,) class numbers or (N, K) zeros and ones."""

    classes: list[str]
    labels: dict[str, np.ndarray]


def encode(given: Mapping[str, Sequence[Any]], source: str, classes: Sequence[str] | None = None) -> Encoded:
    """Number the labels of all splits alike.

    A list, or a text with `|`, stands for several labels; then all rows may have several, and an empty list or a
    lone `|` stands for none.

    Args:
        given: split -> one label an image: a text, a whole number, a list of these.
        source: what to name in messages.
        classes: their names, when labels are numbers that count them; else the labels of train in natural order.

    Raises:
        DataError: an empty label, a number that is not whole, a label of val or test that train lacks.
    """
    several = any(_is_several(value) for values in given.values() for value in values)
    names = {
        split: [_names(v, f"{source}, {split}", i) for i, v in enumerate(values)] for split, values in given.items()
    }
    known = list(classes) if classes is not None else _known(names, source, several)
    number = {name: k for k, name in enumerate(known)}
    if classes is not None:
        number |= {str(k): k for k in range(len(known)) if str(k) not in number}
    labels = {}
    for split, rows in names.items():
        unknown = sorted({n for row in rows for n in row if n not in number}, key=natural_key)
        if unknown:
            raise DataError(
                f"{source}: {split} has labels that train lacks: {some(unknown)}{did_you_mean(unknown[0], number)}"
            )
        labels[split] = (
            np.array([[k in row for k in range(len(known))] for row in _numbers(rows, number)], dtype=np.int64)
            if several
            else np.array([number[row[0]] for row in rows], dtype=np.int64)
        )
    return Encoded(known, labels)


class Numbered(NamedTuple):
    """Labels of one set.

    Attributes:
        labels: (N,) class numbers, or (N, K) zeros and ones.
        classes: their names.
        counted: the names are the numbers from 0 to the highest label.
        partial: the classes are the texts that occur.
    """

    labels: np.ndarray
    classes: list[str]
    counted: bool
    partial: bool

    def mark(self, images: Any) -> None:
        """Tell an image set where its classes come from."""
        images.counted, images.partial = self.counted, self.partial


def number_labels(given: Any, name: str, classes: Sequence[str] | None = None) -> Numbered:
    """Class numbers and names of labels as arrays and Datasets hold them.

    Numbers count the classes; texts are their names, in natural order (`encode`).

    Args:
        given: (N,) or (N, 1) whole numbers or texts, or (N, K) zeros and ones.
        name: of the set, for messages.
        classes: their names, where they are known.

    Raises:
        DataError: an image without a label, labels that are neither, a number of `MOST_CLASSES` or more.
    """
    try:
        labels: Any = np.asarray(given)
    except ValueError:  # lists of different lengths
        labels = np.empty(len(given), dtype=object)
        labels[:] = [list(one) for one in given]
    if labels.dtype.kind == "U" and isinstance(given, list | tuple):
        labels = np.asarray(given, dtype=object)  # else numpy makes a text of a nan among texts
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "biufUSOT":
        raise DataError(
            f"{name}: labels must be one number or text an image, or columns of 0 and 1; got {labels.dtype} "
            f"{labels.shape}"
        )
    labels = labels.astype(str) if labels.dtype.kind == "S" else labels
    for index, row in enumerate(labels if labels.dtype.kind in "fUOT" else ()):
        _check_label(row, f"image {index} of {name}")
    if labels.dtype.kind == "O" and all(isinstance(label, Real) for label in labels.flat):
        labels = np.array(labels.tolist())
    if labels.dtype.kind in "UOT":
        encoded = encode({"train": labels.tolist()}, name, classes)
        return Numbered(encoded.labels["train"], encoded.classes, False, classes is None)
    labels = labels.astype(np.int64) if labels.dtype.kind == "b" else labels
    if classes is not None:
        return Numbered(labels, list(classes), False, False)
    if labels.ndim == 1 and len(labels) and labels.max() >= MOST_CLASSES:
        raise DataError(
            f"image {int(labels.argmax())} of {name} has the label {labels.max()}, but labels are class numbers, from "
            f"0 to {MOST_CLASSES - 1:,} at most; as texts (numpy.asarray(labels).astype(str)), the labels that occur "
            "are the classes"
        )
    count = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1 if len(labels) else 0
    return Numbered(labels, [str(k) for k in range(count)], labels.ndim == 1, False)


def _check_label(label: Any, where: str) -> None:
    """Refuse an empty label, and what is neither number nor text."""
    for part in label if isinstance(label, list | tuple | np.ndarray) else [label]:
        if _text(part) is None or (isinstance(part, float | np.floating) and not math.isfinite(part)):
            raise DataError(f"{where} has no label ({part}); give it one, or leave the image out")
        if not isinstance(part, str | Real | np.bool_):
            raise DataError(f"{where} has a {type(part).__name__} as label; labels are whole numbers or texts")


def from_columns(rows: Sequence[Sequence[Any]], columns: Sequence[str], source: str) -> np.ndarray:
    """Zeros and ones out of one column a class.

    Raises:
        DataError: another value, with its row and column.
    """
    yes_no = {"1": 1, "0": 0, "true": 1, "false": 0, "yes": 1, "no": 0}
    labels = np.zeros((len(rows), len(columns)), dtype=np.int64)
    for i, row in enumerate(rows):
        for k, value in enumerate(row):
            text = _text(value)
            if text is None or text.lower() not in yes_no:
                raise DataError(
                    f"{source}, row {i + 1}: the column {columns[k]!r} has {value!r}; columns of several labels hold 0 "
                    "or 1"
                )
            labels[i, k] = yes_no[text.lower()]
    return labels


def some(names: Sequence[Any], limit: int = 5) -> str:
    """The first names, quoted, and how many more there are."""
    return ", ".join(repr(n) for n in names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _is_several(value: Any) -> bool:
    return (isinstance(value, str) and SEPARATOR in value) or isinstance(value, list | tuple | np.ndarray)


def _names(value: Any, source: str, row: int) -> list[str]:
    """The labels of one row as texts."""
    if isinstance(value, str) and SEPARATOR in value:
        parts: list[Any] = [part for part in value.split(SEPARATOR) if part.strip()]
    else:
        parts = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
        if isinstance(value, str) or not _is_several(value):
            parts = [value]
    names = [_text(part) for part in parts]
    if None in names:
        raise DataError(
            f"{source}, row {row + 1} has no label; give it one, or leave the row out (where rows have several labels, "
            f"{SEPARATOR!r} stands for none)"
        )
    wrong = next((part for part in parts if isinstance(part, float) and not part.is_integer()), None)
    if wrong is not None:
        raise DataError(f"{source}, row {row + 1} has the label {wrong}: labels are texts or whole numbers")
    return [str(name) for name in names]


def _text(value: Any) -> str | None:
    """A label as a text; None for an empty one. 2.0, as programs write whole numbers of tables with gaps, is 2."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    text = str(value).strip()
    return (text[:-2] if _WHOLE.fullmatch(text) else text) or None


def _known(names: Mapping[str, list[list[str]]], source: str, several: bool) -> list[str]:
    rows = names["train"] if "train" in names else [row for part in names.values() for row in part]
    known = sorted({name for row in rows for name in row}, key=natural_key)
    if not several and len(known) == len(rows) >= _SUSPICIOUS:
        raise DataError(
            f"{source}: each of the {len(rows)} images has a label of its own ({some(known, 3)}); is that the right "
            "column?"
        )
    return known


def _numbers(rows: list[list[str]], number: Mapping[str, int]) -> list[set[int]]:
    return [{number[name] for name in row} for row in rows]
