"""Cases of chromosomes with noise."""

from __future__ import annotations

import numpy as np

from zoo.karyotype import HUMAN


def noisy(seed: int, spread: float, margin: float, types: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Types and log-probabilities: rows of N(0, spread^2), `margin` more in the true class; XY for even seeds."""
    draw = np.random.default_rng(seed)
    if types is None:
        types = np.repeat(np.arange(24), HUMAN.of("XY" if seed % 2 == 0 else "XX"))
    scores = draw.normal(0, spread, (len(types), 24))
    scores[np.arange(len(types)), types] += margin
    return types, scores - np.log(np.exp(scores).sum(1, keepdims=True))


def types_of(**changes: int) -> np.ndarray:
    """True types of a woman's cell with copies more or less: `types_of(_21=1, X=-1)`."""
    copies = np.array(HUMAN.of("XX"))
    for name, change in changes.items():
        copies[HUMAN.names.index(name.removeprefix("_"))] += change
    return np.repeat(np.arange(24), copies)
