"""Temperature scaling: probabilities that mean what they say, which the penalties of dispatch are weighed against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.karyotype.arrays import as_array, as_integers, integer
from zoo.karyotype.checks import are_probabilities

_STEPS = 200
_TOLERANCE = 1e-12
#: Twice the log-likelihood that a temperature must gain over equal probabilities (T = infinity): chi^2 of one degree of
#: freedom exceeds it once in ten thousand, and every other time with a temperature below 0.
_BY_CHANCE = 15.14
_NOTHING = "the logits say nothing about the labels"


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it changed on the data that it was fitted on.

    Args:
        temperature: what logits are divided by; above 1 where the network was too sure.
        ece_before, ece_after: expected calibration error, a probability.
        nll_before, nll_after: mean -log p of the true class.
    """

    temperature: float
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float

    def __float__(self) -> float:
        return self.temperature

    def log_probs(self, logits: Any) -> NDArray[np.float64]:
        """Calibrated log-probabilities, as `dispatch` takes them."""
        return _log_softmax(as_array(logits, "logits") / self.temperature)


def fit_temperature(logits: Any, labels: Any, *, bins: int = 15) -> Calibration:
    """The temperature T with the least mean -log softmax(logits / T)[label], on data that was not trained on.

    The likelihood is convex in 1/T: Newton's method within a bracket finds its one minimum.

    Args:
        logits: [N, C]. Log-probabilities are logits too.
        labels: true classes, [N].
        bins: of confidence, for the expected calibration error (Guo et al., 2017, arXiv 1706.04599).

    Raises:
        ValueError: other shapes, values that are not finite, probabilities; or data without a best temperature: every
            label is the likeliest class already (none is too cold), or the logits say nothing about the labels, no more
            than chance would (none is too hot).
    """
    scores, classes = _checked(logits, labels, integer(bins, "bins"))
    rows = np.arange(len(scores))
    scores = scores - scores.max(1, keepdims=True)
    true = scores[rows, classes]
    if not true.any():
        raise ValueError(
            f"every label of the {len(scores)} is the likeliest class: the colder the better. Fit on data that was "
            "not trained on, with some errors"
        )
    if scores.mean() >= true.mean():
        raise ValueError(f"{_NOTHING}: the hotter the better. Are the labels in order?")
    spread = -scores.min()  # so that logits of any size are found in as few steps
    beta = _minimum(scores / spread, true / spread) / spread
    before, after = _log_softmax(scores), _log_softmax(beta * scores)
    gained = 2 * (after[rows, classes].sum() + len(scores) * np.log(scores.shape[1]))
    if gained < _BY_CHANCE:
        raise ValueError(
            f"{_NOTHING}, or there are too few, {len(scores)}: the best temperature, {1 / beta:.3g}, fits them hardly "
            f"better than equal probabilities do (-log p {-after[rows, classes].mean():.4g}, and "
            f"{np.log(scores.shape[1]):.4g}), which chance would do. Are the labels in order?"
        )
    return Calibration(
        temperature=float(1 / beta),
        ece_before=_error(before, classes, bins),
        ece_after=_error(after, classes, bins),
        nll_before=float(-before[rows, classes].mean()),
        nll_after=float(-after[rows, classes].mean()),
    )


def expected_calibration_error(logits: Any, labels: Any, *, bins: int = 15) -> float:
    """Mean over equally wide bins of confidence of |accuracy - confidence|, weighed by how many fall in each.

    Args:
        logits, labels, bins: as of `fit_temperature`.

    Raises:
        ValueError: as there.
    """
    scores, classes = _checked(logits, labels, integer(bins, "bins"))
    return _error(_log_softmax(scores), classes, bins)


def _checked(logits: Any, labels: Any, bins: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    scores = as_array(logits, "logits")
    if scores.ndim != 2 or not len(scores) or scores.shape[1] < 2:
        raise ValueError(f"logits must be [N, C] of two classes at least, got {list(scores.shape)}")
    if not np.isfinite(scores).all():
        raise ValueError("logits must be finite")
    if are_probabilities(scores):
        raise ValueError("logits are needed, and these are probabilities")
    classes = as_integers(labels, "labels", len(scores))
    if classes.min() < 0 or classes.max() >= scores.shape[1]:
        raise ValueError(f"labels must be 0 to {scores.shape[1] - 1}, got {classes.min()} to {classes.max()}")
    if not bins:
        raise ValueError("bins must be at least 1")
    return scores, classes


def _minimum(scores: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """1/T where the slope of the likelihood is 0."""

    def slope(beta: float) -> tuple[float, float]:
        weights = np.exp(beta * scores)
        weights /= weights.sum(1, keepdims=True)
        mean = (weights * scores).sum(1)
        return float((mean - true).mean()), float(((weights * scores**2).sum(1) - mean**2).mean())

    low, high = 0.0, 1.0
    while slope(high)[0] < 0:
        low, high = high, 2 * high
    beta = (low + high) / 2
    for _ in range(_STEPS):
        value, curvature = slope(beta)
        low, high = (beta, high) if value < 0 else (low, beta)
        step = beta - value / curvature if curvature > 0 else low
        following = step if low < step < high else (low + high) / 2
        if abs(following - beta) <= _TOLERANCE * beta:
            return following
        beta = following
    return beta


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    scores = scores - scores.max(-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def _error(log_probs: NDArray[np.float64], classes: NDArray[np.int64], bins: int) -> float:
    confidence = np.exp(log_probs.max(1))
    right = log_probs.argmax(1) == classes
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, weights=right - confidence)).sum() / len(classes))
