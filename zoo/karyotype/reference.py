"""Dispatch as it is specified, in plain steps: what the fast form must equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


def plain_assignment(
    log_probs: NDArray[np.float64], copies: Sequence[int], gain: float, loss: float, extra: int
) -> tuple[NDArray[np.int64], float]:
    """One K x K assignment: slots as columns, chromosomes and, for each missing one, a dummy as rows.

    Args:
        log_probs: [N, C].
        copies: of the template, one per class.
        gain, loss: for a chromosome in an extra slot, and for a dummy in an ordinary one.
        extra: extra slots of every class.

    Returns:
        The class of every chromosome, and the cost.
    """
    count = len(log_probs)
    columns = [kind for kind, number in enumerate(copies) for _ in range(number)]
    ordinary = len(columns)
    columns += [kind for kind in range(len(copies)) for _ in range(extra)]
    cost = np.zeros((len(columns), len(columns)))
    for place, kind in enumerate(columns):
        cost[:count, place] = -log_probs[:, kind] + (gain if place >= ordinary else 0.0)
        cost[count:, place] = 0.0 if place >= ordinary else loss
    rows, chosen = linear_sum_assignment(cost)
    return np.array(columns)[chosen[:count]], float(cost[rows, chosen].sum())
