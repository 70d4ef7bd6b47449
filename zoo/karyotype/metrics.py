"""How well chromosomes are typed: one by one, and by patient case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.karyotype.arrays import as_ids, as_integers
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
        polarity: the same of polarity, where it was given.
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
        labels: true classes, in the same form; [N] will do for a list of `types` whose chromosomes follow one another.
        cases: an integer or a text per chromosome, equal within a case; needed where `types` is no list of cases.
        polarity, polarity_labels: the same of polarity, 0 or 1; both or none.
        num_classes: of types.

    Raises:
        ValueError: other lengths, classes out of range or of unknown names, no chromosome, or no way to tell the cases
            apart.
    """
    answers, given_ids = _packed(types, "types", num_classes)
    ids = given_ids if cases is None else as_ids(cases, "cases", len(answers))
    if ids is None:
        raise ValueError("cases must say which chromosomes belong together: an integer or a text for each")
    if (polarity is None) != (polarity_labels is None):
        raise ValueError("give polarity and polarity_labels, or neither")
    side = None
    if polarity is not None:
        side = _measure(polarity, polarity_labels, ids, 2, ("polarity", "polarity_labels"))
    return _measure(answers, labels, ids, num_classes, ("types", "labels"), side)


def _numbers(given: Any, name: str, num_classes: int) -> NDArray[np.int64]:
    """Classes, whose names are known where there are two sex chromosomes and others."""
    found = as_ids(given, name) if num_classes > 2 else as_integers(given, name)
    if found.dtype.kind != "U":
        return as_integers(found, name)
    number = {text: place for place, text in enumerate(Template.diploid(num_classes - 2).names)}
    for text in found.tolist():
        if text not in number:
            hint = did_you_mean(text, number) or "."
            raise ValueError(f"{name} has the unknown type {text!r}{hint} Known: {', '.join(number)}")
    return np.array([number[text] for text in found.tolist()], np.int64)


def _packed(given: Any, name: str, num_classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """One class per chromosome, and, of a list of cases, the number of each one's case."""
    if not isinstance(given, list | tuple) or not given or isinstance(given[0], int | np.integer | str):
        return _numbers(given, name, num_classes), None
    parts = [_numbers(one.types if isinstance(one, Karyotype) else one, name, num_classes) for one in given]
    classes = np.concatenate(parts)
    ids = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    if all(isinstance(one, Karyotype) for one in given):
        rows = np.concatenate([one.rows for one in given])
        back = np.argsort(rows, kind="stable")
        if np.array_equal(rows[back], np.arange(len(rows))):  # dispatched together, in any order
            return classes[back], ids[back]
    return classes, ids


def _classes(given: Any, name: str, count: int, num_classes: int) -> NDArray[np.int64]:
    classes, _ = _packed(given, name, num_classes)
    if len(classes) != count:
        raise ValueError(f"{name} are {len(classes)}, and types are of {count} chromosomes")
    if not count:
        raise ValueError(f"{name} has no chromosome")
    if classes.min() < 0 or classes.max() >= num_classes:
        raise ValueError(f"{name} must be 0 to {num_classes - 1}, got {classes.min()} to {classes.max()}")
    return classes


def _measure(
    answers: Any,
    labels: Any,
    ids: NDArray[Any],
    num_classes: int,
    names: tuple[str, str],
    polarity: CaseMetrics | None = None,
) -> CaseMetrics:
    found, truth = (
        _classes(given, name, len(ids), num_classes) for given, name in zip((answers, labels), names, strict=True)
    )
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
