"""What a varifocal network can be asked for and shown, and clear words where it cannot."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from zoo.models.image_contract import check_image, is_traced
from zoo.naming import did_you_mean

STAGES = ("global", "local", "fusion")
TRAINING = ("global", "localize", "local", "fusion", "joint")


def check_choice(what: str, value: str, known: Sequence[str]) -> str:
    """The value, if it is one of those known.

    Raises:
        ValueError: another one.
    """
    if value not in known:
        raise ValueError(
            f"unknown {what} {value!r}{did_you_mean(str(value), known) or '.'} There are {', '.join(known)}"
        )
    return value


def check_temperature(given: Any) -> tuple[float, float]:
    """A temperature for each of the two tasks.

    Raises:
        TypeError: one number, or none at all.
        ValueError: other than two finite numbers above 0.
    """
    try:
        found = tuple(float(value) for value in given)
    except TypeError:
        raise TypeError(
            f"temperature must be two numbers above 0, (types, polarities), got {given!r}; (T, 1.0) is for types alone"
        ) from None
    if len(found) != 2 or not all(math.isfinite(value) and value > 0 for value in found):
        raise ValueError(f"temperature must be two numbers above 0, one a task, got {given!r}")
    return found[0], found[1]


def check_batch(x: Tensor, in_chans: int, least: int, *, training: bool = False) -> None:
    """Refuse what is no batch of images for a network.

    Values are not looked at while training on a GPU, which would wait for it at every step; training says itself which
    image gave a loss that is not finite.

    Args:
        x: the images.
        in_chans: their channels.
        least: pixels a side of one cell of the map.
        training: a step of training.

    Raises:
        ValueError: another rank or number of channels, too few pixels, or values that are not finite.
        TypeError: whole numbers.
    """
    if is_traced(x):
        return
    check_image(x, in_chans)
    if min(x.shape[2:]) < least:
        raise ValueError(
            f"images of {x.shape[2]}x{x.shape[3]} pixels are smaller than one cell of the map, {least}x{least}; "
            "enlarge them, or pad them"
        )
    if x.is_meta or not x.numel() or (training and x.is_cuda):
        return
    if not math.isfinite(float(x.detach().abs().amax())):
        bad = (~x.detach().isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        raise ValueError(f"images must be finite; NaN or infinity is in image {shown} of {len(x)}")
