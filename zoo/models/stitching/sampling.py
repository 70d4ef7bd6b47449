"""Which of the networks in a stitched one are trained at an update.

All share their weights, so each update trains a few of them, drawn anew: "Stitchable Neural Networks" (CVPR 2023, arXiv
2302.06586) draws one from all; "Stitched ViTs are Flexible Vision Backbones" (ECCV 2024, arXiv 2307.00154) one from a
group of about equal cost, for otherwise the many costs in the middle are trained most. The cheapest and the dearest at
every update, with some between: "Universally Slimmable Networks" (Yu and Huang, ICCV 2019, arXiv 1903.05134).
"""

import functools
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsFloat, SupportsIndex

from zoo.errors import UnknownStitchError
from zoo.models.stitching.budget import is_number, number_of
from zoo.models.stitching.network import StitchNet
from zoo.models.stitching.path import PathStep
from zoo.models.stitching.stitches import StitchConfig
from zoo.naming import check_keywords, did_you_mean

MODES = ("uniform", "flops_groups", "sandwich")
#: The published width of a group, and the number of groups that a narrow range of costs has instead.
_WIDTH, _GROUPS = 1e9, 12


class StitchSampler:
    """Numbers of the paths to train, as a function of (seed, update, process) and of nothing else.

    Args:
        model: a stitched network, or its stitches.
        mode: "uniform" draws one path. "flops_groups" draws a group of paths of about equal cost, then one in it.
            "sandwich" takes the cheapest, the dearest, and `count` others drawn between them.
        seed: of the run.
        per_rank: whether every process (and every batch of an update) draws for itself, or all take the same.
        ids: the paths to draw from; by default all that run a block of their last anchor.
        width: of a group of "flops_groups", in FLOPs: a path that costs more than so much beyond the first of its group
            begins another. By default 1 GFLOP, as published, or a twelfth of the range of the costs if that is less.
        count: of the others of "sandwich", 1 by default; with 0 the two ends alone learn at every update.

    Raises:
        ValueError: another mode, an option of another mode or out of range, or no paths.
        UnknownStitchError: one of `ids` is no path.
    """

    def __init__(
        self,
        model: StitchNet | Sequence[StitchConfig],
        mode: str = "uniform",
        *,
        seed: int = 0,
        per_rank: bool = True,
        ids: Iterable[SupportsIndex] | None = None,
        width: SupportsFloat | None = None,
        count: SupportsIndex | None = None,
    ) -> None:
        check_sampling({"mode": mode, "per_rank": per_rank, "width": width, "count": count})
        everything: Sequence[StitchConfig] = model if not isinstance(model, StitchNet) else model._configs
        if isinstance(model, StitchNet) and mode != "uniform":
            everything = model.stitches  # with their costs
        known = {stitch.id: stitch for stitch in everything}
        asked = list(known) if ids is None else list(ids)
        chosen = {number_of(number) for number in asked}
        for number in asked:
            if number_of(number) not in known:
                raise UnknownStitchError(f"there is no stitch {number!r}: they are 0 to {max(known, default=-1)}")
        stitches = [known[number] for number in sorted(known) if number in chosen and known[number].usable]
        if not stitches:
            raise ValueError("there are no stitches to draw from")
        self.mode, self.seed, self.per_rank = mode, seed, per_rank
        self.stitch_ids = tuple(stitch.id for stitch in stitches)
        self.by_cost = self.stitch_ids
        self.groups = (self.stitch_ids,)
        self.count = 1 if count is None else int(count)
        if mode != "uniform":
            self._sort(stitches, None if width is None else float(width))

    def _sort(self, stitches: Sequence[StitchConfig], width: float | None) -> None:
        costs = {stitch.id: stitch.flops for stitch in stitches if stitch.flops is not None}
        if len(costs) < len(stitches):
            raise ValueError(f"mode {self.mode!r} goes by the FLOPs of the stitches, and {stitches[0].id} has none")
        self.by_cost = tuple(sorted(costs, key=lambda i: (costs[i], i)))
        if self.mode == "flops_groups":
            self.groups = groups_by_cost(costs, width)

    def ids(self, step: int, rank: int = 0) -> tuple[int, ...]:
        """Numbers of the paths of an update.

        Args:
            step: updates before it.
            rank: the process; with several batches an update, a number for each batch and process.
        """
        # Of text, and only by `random()`: both are the same in every release of Python.
        draw = random.Random(f"{self.seed}/stitch/{step}/{rank if self.per_rank else 0}").random
        if self.mode != "sandwich":
            group = self.groups[int(draw() * len(self.groups))]
            return (group[int(draw() * len(group))],)
        ends = tuple(dict.fromkeys((self.by_cost[0], self.by_cost[-1])))
        between = list(self.by_cost[1:-1])
        others = [between.pop(int(draw() * len(between))) for _ in range(min(self.count, len(between)))]
        return (*ends, *others)


def groups_by_cost(costs: Mapping[int, int | float], width: int | float | None = None) -> tuple[tuple[int, ...], ...]:
    """Groups of numbers, by rising cost: what costs over `width` more than the first of a group begins another.

    Args:
        costs: by number.
        width: of a group; by default 1 GFLOP, or a twelfth of the range of the costs if that is less.
    """
    if width is None:
        width = min(_WIDTH, (max(costs.values()) - min(costs.values())) / _GROUPS)
    groups: list[list[int]] = []
    first = 0.0  # as published: what costs less than a width is one group, though its first costs something
    for number in sorted(costs, key=lambda i: (costs[i], i)):
        if not groups or costs[number] - first > width:
            first = costs[number] if costs[number] > width else 0.0
            groups.append([])
        groups[-1].append(number)
    return tuple(tuple(sorted(group)) for group in groups)


def check_sampling(options: Mapping[str, Any]) -> None:
    """Refuse options that `StitchSampler` does not take.

    Args:
        options: `mode` and, if they are set, `per_rank`, `width` and `count`.

    Raises:
        TypeError: an option that there is not.
        ValueError: an unknown mode, with near names; a value out of range, or of another mode.
    """
    check_keywords(options, ("mode", "per_rank", "width", "count"), "StitchSampler")
    mode, width, count = options.get("mode", "uniform"), options.get("width"), options.get("count")
    if mode not in MODES:
        hint = did_you_mean(str(mode), MODES) or "."
        raise ValueError(f"there is no way of sampling stitches called {mode!r}{hint} There are: {', '.join(MODES)}")
    if not isinstance(options.get("per_rank", True), bool):
        raise ValueError(f"per_rank must be True or False, got {options['per_rank']!r}")
    _check_of(mode, "flops_groups", "width", width)
    _check_of(mode, "sandwich", "count", count)
    if width is not None and (not is_number(width) or not width > 0):
        raise ValueError(f"width must be a positive number of FLOPs, got {width!r}")
    if count is not None and ((whole := number_of(count)) is None or whole < 0):
        raise ValueError(f"count must be a whole number from 0, got {count!r}")


def _check_of(mode: str, owner: str, name: str, value: Any) -> None:
    if value is not None and mode != owner:
        raise ValueError(f"{name} is of mode {owner!r}, the mode is {mode!r}")


def learning_ids(model: StitchNet) -> list[int]:
    """Numbers of the paths that run a parameter that learns; where anchors are frozen, one alone may run none."""

    @functools.cache
    def learns(step: PathStep) -> bool:
        if step.piece is None:
            assert step.join is not None
            return any(p.requires_grad for p in model.stitch_layer(step.join).parameters())
        anchor = model._anchors[step.anchor]
        parts = anchor.names(step.piece)
        learning = (name for name, p in anchor.model.named_parameters() if p.requires_grad)
        return any(name == part or name.startswith(f"{part}.") for name in learning for part in parts)

    usable = (config.id for config in model._configs if config.usable)
    return [number for number in usable if any(learns(step) for step in model.path_of(number).plan)]
