"""How many classes each task has."""

from collections.abc import Sequence
from typing import NamedTuple


class Tasks(NamedTuple):
    """Classes of the tasks; 0 for a task that is not asked for.

    Attributes:
        types: of the first task, which the network is for.
        polarities: of the second.
    """

    types: int
    polarities: int


def tasks_of(num_classes: int | Sequence[int], num_polarities: int | None = None) -> Tasks:
    """The tasks of what is asked for.

    Args:
        num_classes: a pair (types, polarities), or types alone.
        num_polarities: of the second task where `num_classes` is one number; none if None.

    Raises:
        ValueError: no number or pair of numbers from 0, or the second twice.
    """
    if isinstance(num_classes, Sequence):
        pair = tuple(num_classes)
        if len(pair) == 2 and num_polarities not in (None, pair[1]):
            raise ValueError(
                f"num_classes={pair} says how many polarities there are, and num_polarities={num_polarities} says "
                "otherwise: give one of them"
            )
    else:
        pair = (num_classes, num_polarities or 0)
    if len(pair) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in pair):
        raise ValueError(
            f"num_classes must be a pair (types, polarities) or a number of types, whole numbers from 0, got "
            f"{num_classes!r}{'' if num_polarities is None else f' with num_polarities={num_polarities!r}'}"
        )
    return Tasks(*pair)
