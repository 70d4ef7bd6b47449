"""The cheap baseline of dispatch: the surest chromosome first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def greedy(log_probs: NDArray[np.float64], copies: NDArray[np.int64], extra: int) -> NDArray[np.int64] | None:
    """Take the largest probability that is left, as long as its class has room.

    Room is what the template has; chromosomes that are left over go, by the same rule, to `extra` more of each class.
    Equal probabilities are taken in the order of rows, then of classes.

    Args:
        log_probs: [N, C].
        copies: of the template, [C].
        extra: more of every class than that.

    Returns:
        A class for every row, or None where what is left has no probability in any class with room.
    """
    count, classes = log_probs.shape
    order = np.argsort(-log_probs, axis=None, kind="stable")
    order = order[np.isfinite(log_probs.ravel()[order])].tolist()
    types = [-1] * count
    left = count
    for room in (copies.tolist(), [extra] * classes):
        for place in order:
            row, kind = divmod(place, classes)
            if types[row] < 0 and room[kind]:
                types[row] = kind
                room[kind] -= 1
                left -= 1
                if not left:
                    return np.array(types, dtype=np.int64)
    return None
