"""The way through a stitched network: which pieces of which anchors run, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor

from zoo.models.stitching.anchors import Anchor, Piece
from zoo.models.stitching.stitches import StitchConfig

#: A stitching layer: (stage or None, front anchor, end anchor, layer).
Join = tuple[int | None, int, int, int]


class PathStep(NamedTuple):
    """One thing that runs.

    Attributes:
        anchor: the anchor that the piece is of; of a stitching layer the front one.
        piece: of the anchor; None for a stitching layer.
        join: the stitching layer; None for a piece.
    """

    anchor: int
    piece: Piece | None
    join: Join | None = None


class Path(NamedTuple):
    """A way that is ready to run.

    Attributes:
        steps: from the image to what the head takes.
        head: of the last anchor.
        plan: what the steps are, and the head.
        end: the last anchor.
    """

    steps: tuple[Callable[[Tensor], Tensor], ...]
    head: Callable[..., Tensor]
    plan: tuple[PathStep, ...]
    end: int


def plan(config: StitchConfig, anchors: Sequence[Anchor], stitch_norm: bool) -> Iterator[PathStep]:
    """The steps of a stitch, the head included.

    Args:
        config: the stitch.
        anchors: all of the network.
        stitch_norm: whether stitched paths have the norm behind the last block; single anchors always have.
    """
    stage = config.stage or 0
    firsts = [None, *((stage, end) for _, end in config.cuts)]
    lasts = [*((stage, front) for front, _ in config.cuts), None]
    for place, (a, first, last) in enumerate(zip(config.anchors, firsts, lasts, strict=True)):
        for piece in anchors[a].walk(first, last):
            if anchors[a].names(piece) and (piece.kind != "norm" or stitch_norm or len(config.anchors) == 1):
                yield PathStep(a, piece)
        if last is not None:
            yield PathStep(a, None, config.joins[place])


def build(steps: Sequence[PathStep], anchors: Sequence[Anchor], layer: Callable[[Join], Any]) -> Path:
    """The path whose plan these steps are; `layer` finds stitching layers."""
    calls = [
        anchors[step.anchor].piece(step.piece) if step.piece is not None else layer(step.join)  # pyright: ignore
        for step in steps
    ]
    return Path(tuple(calls[:-1]), calls[-1], tuple(steps), steps[-1].anchor)


def run_several(several: Sequence[Path], x: Tensor, run: Callable[[Tensor, Path, int], Tensor]) -> list[Any]:
    """What the heads of several paths answer to the same images; steps that two begin with in common run once.

    Args:
        several: the paths.
        x: images.
        run: runs one step of a path, by its number.
    """
    answers: list[Any] = [None] * len(several)
    waiting = [(list(range(len(several))), 0, x)]
    while waiting:
        members, at, x = waiting.pop()
        groups: dict[PathStep, list[int]] = {}
        for member in members:
            groups.setdefault(several[member].plan[at], []).append(member)
        for group in groups.values():
            path = several[group[0]]
            if at < len(path.steps):
                waiting.append((group, at + 1, run(x, path, at)))
                continue
            answer = path.head(x)
            for member in group:
                answers[member] = answer
    return answers


def segments(steps: Sequence[PathStep]) -> list[tuple[int, int]]:
    """Where each anchor's part of a plan begins and ends, as slices (start, stop) without the stitching layers."""
    seams = [-1, *(i for i, step in enumerate(steps) if step.join is not None), len(steps)]
    return [(start + 1, stop) for start, stop in pairwise(seams)]
