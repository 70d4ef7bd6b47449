"""How well chromosomes are typed: one by one, and by patient case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.karyotype.arrays import as_ids, as_integers
from zoo.karyotype.polarity import UNKNOWN, polarity_number
from zoo.karyotype.result import Karyotype
from zoo.karyotype.template import Template
from zoo.naming import did_you_mean


@dataclass(frozen=True, eq=False)
class CaseMetrics:
    """What `case_metrics` measured.

    Args:
        accuracy: share of all chromosomes that are right.
        macro_f1, macro_precision, macro_recall: means over the classes that occur, in truth or as an answer.
        accuracy_per_case: mean over cases of the share of a case's chromosomes that are right.
        complete_case_rate: share of cases that are right in every chromosome.
        recall: share of each class that is right, [C]; NaN where a class has no chromosome.
        case_ids: of the cases, ascending.
        case_accuracy: share that is right in each of them.
        chromosomes: how many there are.
        polarity: the same of the polarities that are known; None where none is, or none was given.
    """

    accuracy: float
    macro_f1: float
    macro_precision: float
    macro_recall: float
    accuracy_per_case: float
    complete_case_rate: float
    recall: NDArray[np.float64]
    case_ids: NDArray[Any]
    case_accuracy: NDArray[np.float64]
    chromosomes: int
    polarity: CaseMetrics | None = None

    def to_dict(self) -> dict[str, Any]:
        """The numbers alone, as JSON holds them; those of polarity begin with `polarity_`."""
        names = (
            "accuracy",
            "macro_f1",
            "macro_precision",
            "macro_recall",
            "accuracy_per_case",
            "complete_case_rate",
        )
        told: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.polarity is not None:
            told |= {f"polarity_{name}": getattr(self.polarity, name) for name in names}
        return told | {"chromosomes": self.chromosomes, "cases": len(self.case_ids)}


def case_metrics(
    types: Any,
    labels: Any,
    cases: Any = None,
    *,
    polarity: Any = None,
    polarity_labels: Any = None,
    num_classes: int = 24,
) -> CaseMetrics:
    """Accuracy and F1 over all chromosomes, and over cases: "accuracy per patient case" and complete cases.

        case_metrics(dispatch_cases(log_probs, sizes=sizes), labels)

    Args:
        types: classes that were answered, by number or by name ("1", ..., "X", "Y"): of all chromosomes, [N], or a list
            with an entry per case. An entry may be what `dispatch_cases` returns.
        labels: true classes: of all chromosomes, [N], as they stood when they were dispatched; or, for a list of
            `types`, a list whose entries are the true classes of the same cases: entry k belongs to `types[k]`.
        cases: an integer or a text per chromosome, [N], equal within a case; needed where `types` is no list of cases.
        polarity, polarity_labels: the same of polarity, 0 ("up") or 1 ("down"); both or none. A label of -1 is not
            known, and left out.
        num_classes: of types.

    Raises:
        ValueError: other lengths, labels by case where types are not, classes out of range or of unknown names, no
            chromosome, or no way to tell the cases apart.
    """
    order = _order(types)
    found = _classes(types, "types", num_classes, order)
    ids = (None if order is None else order.ids) if cases is None else as_ids(cases, "cases", len(found))
    if ids is None:
        raise ValueError("cases must say which chromosomes belong together: an integer or a text for each")
    if (polarity is None) != (polarity_labels is None):
        raise ValueError("give polarity and polarity_labels, or neither")
    side = None
    if polarity is not None:
        answers = _classes(polarity, "polarity", 2, order, len(ids))
        known = (wanted := _classes(polarity_labels, "polarity_labels", 2, order, len(ids), UNKNOWN)) != UNKNOWN
        side = _measure(answers[known], wanted[known], ids[known], 2) if known.any() else None
    return _measure(found, _classes(labels, "labels", num_classes, order, len(ids)), ids, num_classes, side)


class _Order(NamedTuple):
    """How the entries of `types`, one per case, make up all chromosomes."""

    sizes: list[int]
    #: Where each chromosome stands in the entries one after another; None if just so.
    back: NDArray[np.int64] | None

    @property
    def ids(self) -> NDArray[np.int64]:
        return self.arranged(np.repeat(np.arange(len(self.sizes)), self.sizes))

    def arranged(self, values: NDArray[Any]) -> NDArray[Any]:
        return values if self.back is None else values[self.back]


def _by_case(given: Any) -> bool:
    one = (int, float, np.generic, str)
    return isinstance(given, list | tuple) and len(given) > 0 and not isinstance(given[0], one)


def _order(types: Any) -> _Order | None:
    """That of a list of cases; None where all chromosomes are given as one."""
    if not _by_case(types):
        return None
    sizes = [len(one) for one in types]
    if all(isinstance(one, Karyotype) for one in types):
        rows = np.concatenate([one.rows for one in types])
        back = np.argsort(rows, kind="stable")
        if np.array_equal(rows[back], np.arange(len(rows))):  # dispatched together, in any order
            return _Order(sizes, back)
    return _Order(sizes, None)


def _numbers(given: Any, name: str, num_classes: int) -> NDArray[np.int64]:
    """Classes, whose names are known of polarities, and where there are two sex chromosomes and others."""
    found = as_ids(given.types if isinstance(given, Karyotype) else given, name)
    if found.dtype.kind != "U":
        return as_integers(found, name)
    if num_classes <= 2:
        return np.array([polarity_number(text, name) for text in found.tolist()], np.int64)
    number = {text: place for place, text in enumerate(Template.diploid(num_classes - 2).names)}
    for text in found.tolist():
        if text not in number:
            hint = did_you_mean(text, number) or "."
            raise ValueError(f"{name} has the unknown type {text!r}{hint} Known: {', '.join(number)}")
    return np.array([number[text] for text in found.tolist()], np.int64)


def _joined(given: Any, name: str, num_classes: int, order: _Order | None) -> NDArray[np.int64]:
    """One class per chromosome, entries per case in the order of all chromosomes."""
    if not _by_case(given):
        return _numbers(given, name, num_classes)
    if order is None:
        raise ValueError(f"{name} are given by case, and types are not: give both in one form")
    parts = [_numbers(one, name, num_classes) for one in given]
    if len(parts) != len(order.sizes):
        raise ValueError(f"{name} are given for {len(parts)} cases, and types for {len(order.sizes)}")
    for number, (part, size) in enumerate(zip(parts, order.sizes, strict=True)):
        if len(part) != size:
            raise ValueError(f"{name} of case {number} are {len(part)}, and its types are of {size} chromosomes")
    return order.arranged(np.concatenate(parts))


def _classes(
    given: Any, name: str, num_classes: int, order: _Order | None, count: int | None = None, least: int = 0
) -> NDArray[np.int64]:
    """Classes from `least` of `count` chromosomes, in the order of all."""
    classes = _joined(given, name, num_classes, order)
    if count is not None and len(classes) != count:
        raise ValueError(f"{name} are {len(classes)}, and types are of {count} chromosomes")
    if not len(classes):
        raise ValueError(f"{name} has no chromosome")
    if classes.min() < least or classes.max() >= num_classes:
        also = f", or {UNKNOWN} where it is not known" if least < 0 else ""
        raise ValueError(f"{name} must be 0 to {num_classes - 1}{also}, got {classes.min()} to {classes.max()}")
    return classes


def _measure(
    found: NDArray[np.int64],
    truth: NDArray[np.int64],
    ids: NDArray[Any],
    num_classes: int,
    polarity: CaseMetrics | None = None,
) -> CaseMetrics:
    right = found == truth
    hits, answered, there = (np.bincount(part, minlength=num_classes) for part in (truth[right], found, truth))
    occurs = (answered + there) > 0
    case_ids, case = np.unique(ids, return_inverse=True)
    share = np.bincount(case, weights=right) / np.bincount(case)
    return CaseMetrics(
        accuracy=float(right.mean()),
        macro_f1=float((2 * hits[occurs] / (answered + there)[occurs]).mean()),
        macro_precision=float((hits / np.maximum(answered, 1))[occurs].mean()),
        macro_recall=float((hits / np.maximum(there, 1))[occurs].mean()),
        accuracy_per_case=float(share.mean()),
        complete_case_rate=float((share == 1).mean()),
        recall=np.where(there > 0, hits / np.maximum(there, 1), np.nan),
        case_ids=case_ids,
        case_accuracy=share,
        chromosomes=len(truth),
        polarity=polarity,
    )
