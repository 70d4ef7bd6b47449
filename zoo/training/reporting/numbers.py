"""What can be counted from a confusion matrix and from the model's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: As in `zoo.training.metrics`.
BINS = 15


@dataclass(frozen=True)
class ClassRow:
    """One class, or one label, of a split; a ratio is `None` where it would be 0 / 0.

    Attributes:
        name: of the class.
        support: images that have it.
        answered: images that were given it.
        recall, precision, f1, auroc: as usual; auroc for labels alone.
    """

    name: str
    support: int
    answered: int
    recall: float | None
    precision: float | None
    f1: float | None
    auroc: float | None = None


def class_rows(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> list[ClassRow]:
    """A row a class, out of [true][answered] counts."""
    counts = np.asarray(confusion)
    return [
        _row(name, int(counts[k, k]), int(counts[k].sum()), int(counts[:, k].sum())) for k, name in enumerate(classes)
    ]


def label_rows(probabilities: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> list[ClassRow]:
    """A row a label.

    Args:
        probabilities: (N, K), independent.
        targets: (N, K) zeros and ones.
        classes: K names.
    """
    answered, true = probabilities > 0.5, targets > 0.5
    return [
        _row(
            name,
            int((answered[:, k] & true[:, k]).sum()),
            int(true[:, k].sum()),
            int(answered[:, k].sum()),
            auroc(probabilities[:, k], true[:, k]),
        )
        for k, name in enumerate(classes)
    ]


def auroc(scores: np.ndarray, true: np.ndarray) -> float | None:
    """Area under the ROC curve (ties count a half); `None` when all images, or none, have the label."""
    positive = int(true.sum())
    negative = len(true) - positive
    if not positive or not negative:
        return None
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2
    return float((rank[place][true].sum() - positive * (positive + 1) / 2) / (positive * negative))


def largest_confusions(confusion: Sequence[Sequence[int]], most: int) -> list[tuple[int, int, int, float]]:
    """(true, answered, images, share of the true class) of the most frequent mistakes, the largest first."""
    counts = np.asarray(confusion)
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, counts.shape), strict=True)]
    return [(i, j, int(counts[i, j]), float(counts[i, j] / counts[i].sum())) for i, j in pairs if wrong[i, j]]


def calibration(probabilities: np.ndarray, targets: np.ndarray) -> list[tuple[float, float, int]]:
    """(mean probability of the top answer, share of right answers, images) of each bin that is not empty."""
    top = probabilities.max(1)
    right = probabilities.argmax(1) == targets
    bins = np.clip(np.ceil(top * BINS).astype(int) - 1, 0, BINS - 1)
    rows = []
    for number in range(BINS):
        inside = bins == number
        if inside.any():
            rows.append((float(top[inside].mean()), float(right[inside].mean()), int(inside.sum())))
    return rows


def calibration_error(rows: Sequence[tuple[float, float, int]]) -> float:
    """The expected calibration error of such bins."""
    total = sum(n for _, _, n in rows)
    return sum(abs(sure - right) * n for sure, right, n in rows) / total


def _row(name: str, hits: int, support: int, answered: int, area: float | None = None) -> ClassRow:
    both: Any = support + answered
    return ClassRow(
        name,
        support,
        answered,
        recall=hits / support if support else None,
        precision=hits / answered if answered else None,
        f1=2 * hits / both if both else None,
        auroc=area,
    )
