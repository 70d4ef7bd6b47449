"""What dispatch refuses."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.karyotype.arrays import as_array
from zoo.karyotype.template import Template
from zoo.naming import did_you_mean


def are_probabilities(table: NDArray[np.float64]) -> bool:
    """Whether no value is below 0 and every row sums to 1, but for a few digits."""
    return bool((table >= 0).all() and np.abs(table.sum(1) - 1).max() < 0.01)


def check_log_probs(table: NDArray[np.float64], template: Template, where: str = "") -> NDArray[np.float64]:
    """Log-probabilities of at least one chromosome in the template's classes.

    Raises:
        ValueError: another shape, values that are no log-probabilities, or a chromosome that can be nothing.
    """
    classes = len(template)
    if table.ndim != 2 or table.shape[1] != classes:
        raise ValueError(f"{where}log_probs must be [N, {classes}], a row per chromosome, got {list(table.shape)}")
    if not len(table):
        raise ValueError(f"{where}log_probs has no rows: a case has at least one chromosome")
    best = table.max(1)  # NaN where a row has one
    if not np.isfinite(best).all():
        rows = np.flatnonzero(~np.isfinite(best))
        kind = "only -inf" if np.isneginf(best[rows[0]]) else "NaN or inf"
        raise ValueError(f"{where}row {rows[0]} of log_probs has {kind} ({len(rows)} of {len(table)} rows like that)")
    if (best > 1e-6).any():
        whole = are_probabilities(table)
        advice = "these are probabilities: take their logarithm" if whole else "take log_softmax of logits"
        raise ValueError(f"{where}log_probs must not be above 0, got {best.max():.4g}; {advice}")
    return table


#: How far from 1 a row's sum is by rounding at most, half precision's included.
_ROUNDING = 0.1
#: A smaller logarithm is a type that a chromosome cannot be, -inf in other words.
_NEVER = -700.0


def warn_of_sums(tables: Sequence[NDArray[np.float64]], where: Sequence[str], stacklevel: int) -> None:
    """Warn of rows whose probabilities do not sum to 1, once for all.

    What all of a row have in common decides on nothing, so that likelihoods will do; costs and probabilities are off.
    A row with types that its chromosome cannot be may sum to less: their share was taken out.

    Args:
        tables: checked log-probabilities of every case.
        where: what begins a sentence on each.
        stacklevel: as of `warnings.warn`, of the caller.
    """
    for table, which in zip(tables, where, strict=True):
        excess = np.exp(table).sum(1) - 1
        off = np.abs(excess) > _ROUNDING
        if off.any() and (off := off & ((excess > 0) | (table.min(1) > _NEVER))).any():
            row = int(np.flatnonzero(off)[0])
            warnings.warn(
                f"{which}the probabilities of row {row} of log_probs sum to {1 + excess[row]:.3g}, not 1 "
                f"({int(off.sum())} of {len(table)} rows like that): take log_softmax. The best types do not depend "
                "on a row's sum, costs and probabilities do",
                stacklevel=stacklevel + 1,
            )
            return


def check_sexes(sex: Any, template: Template) -> tuple[str, ...]:
    """The sexes that are tried.

    Raises:
        ValueError: an unknown one, with near names.
    """
    if isinstance(sex, str) and sex == "auto":
        return tuple(template.copies)
    if not isinstance(sex, str) or sex not in template.copies:
        known = ["auto", *template.copies]
        raise ValueError(f"unknown sex {sex!r}{did_you_mean(str(sex), known) or '.'} Known: {', '.join(known)}")
    return (sex,)


def penalties(value: Any, name: str, classes: int) -> NDArray[np.float64]:
    """A penalty for every class.

    Raises:
        ValueError: negative or infinite ones, or not one per class.
    """
    array = as_array(value, name)
    if array.shape not in ((), (classes,)):
        raise ValueError(f"{name} must be a number or one per class, [{classes}], got {list(array.shape)}")
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(
            f"{name} must be finite and at least 0 (minus the log odds of such a change), got {value!r}; "
            "strict=True forbids changes"
        )
    return np.broadcast_to(array, (classes,))
