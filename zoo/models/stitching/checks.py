"""Which anchors can be stitched to each other."""

from collections.abc import Sequence
from typing import Any

from zoo.models.stitching.anchors import Anchor
from zoo.models.stitching.stitches import Joint


def check_anchors(anchors: Sequence[Anchor], names: Sequence[str], joints: Sequence[Joint]) -> None:
    """Refuse anchors that answer different questions, or whose tokens and maps are not those of the same places.

    Args:
        anchors: two or more.
        names: of theirs, for the error.
        joints: where they are stitched: (stage or None, front, end).

    Raises:
        ValueError: naming both anchors and what differs.
    """
    first, name = anchors[0], names[0]
    for anchor, other in zip(anchors[1:], names[1:], strict=True):
        check_equal("num_classes", name, first.num_classes, other, anchor.num_classes)
        if first.img_size and anchor.img_size:
            check_equal("images of", name, first.img_size, other, anchor.img_size)
    for stage, a, b in joints:
        front, end, at = anchors[a], anchors[b], stage or 0
        where = "" if stage is None else f" in stage {stage}"
        if front.stages[at].reduction and end.stages[at].reduction:
            what = f"pixels a side of a token{where}"
            check_equal(what, names[a], front.stages[at].reduction, names[b], end.stages[at].reduction)
        check_equal("prefix tokens", names[a], front.num_prefix_tokens, names[b], end.num_prefix_tokens)


def no_stitched_network(given: Any, name: str | None = None) -> TypeError:
    """The error about what is given for a stitched network.

    Args:
        given: that.
        name: of it, if it was given by one.
    """
    if isinstance(given, str):
        hint = f"a name is no stitched network: give that of zoo.create_model({given!r})"
    else:
        hint = (
            f"{name or f'a {type(given).__name__}'} is no stitched network: make one with zoo.stitch, or see zoo list "
            "'snnet*'"
        )
    return TypeError(hint)


def check_equal(what: str, name: str, value: object, other: str, differs: object) -> None:
    """Refuse two values of two anchors that are not one.

    Raises:
        ValueError: naming both.
    """
    if value != differs:
        raise ValueError(
            f"{name} and {other} cannot be stitched: {name} has {what} {value}, {other} {differs}; anchors agree in it"
        )
