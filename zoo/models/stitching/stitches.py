"""The networks that a stitched one holds: the anchors, then every path from one to another, each with its number."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from zoo.models.stitching.cuts import Cut, check_window, count_layers, paired, two_way_cuts, unpaired
from zoo.naming import did_you_mean

CUTS = ("forward", "paired", "two_way")
#: Two anchors and where they are stitched: (stage, front anchor, end anchor). Plain networks have stage None.
Joint = tuple[int | None, int, int]


@dataclass(frozen=True)
class StitchConfig:
    """One network in a stitched network.

    Attributes:
        id: its number.
        anchors: the anchors that it runs through, in order.
        cuts: between each two of them the last block of the one and the first of the other.
        layers: the stitching layer at each cut.
        stage: the stage that the cuts are in; None for an anchor alone and for anchors of one stage.
        usable: False where no block of the last anchor is left, only its head.
        flops: multiply-accumulates and 5 for each element of a layer norm, of one sample. This and the following are
            None until they are known.
        macs: multiply-accumulates of one sample.
        params: parameters of the modules that run.
        top1: accuracy, in percent.
        latency: of one forward pass, in milliseconds.
        depth: blocks of the last anchor in the stitched stage; None for an anchor alone.
    """

    id: int
    anchors: tuple[int, ...]
    cuts: tuple[tuple[int, int], ...]
    layers: tuple[int, ...]
    stage: int | None
    usable: bool = True
    flops: int | None = None
    macs: int | None = None
    params: int | None = None
    top1: float | None = None
    latency: float | None = None
    depth: int | None = None

    @property
    def place(self) -> tuple[object, ...]:
        """What of it is the same in every network that has it."""
        return self.anchors, self.cuts, self.stage

    @property
    def joins(self) -> tuple[tuple[int | None, int, int, int], ...]:
        """For every cut (stage, front anchor, end anchor, layer)."""
        return tuple(
            (self.stage, front, end, layer)
            for (front, end), layer in zip(pairwise(self.anchors), self.layers, strict=True)
        )

    @property
    def route(self) -> tuple[tuple[int, int], ...] | None:
        """For every anchor of one stage its first and its last block; None for an anchor alone and for several stages.

        The last anchor runs to its end, which is written as its number of blocks, as the published tables do.
        """
        if self.stage is not None or not self.cuts or self.depth is None:
            return None
        firsts = (0, *(end for _, end in self.cuts))
        lasts = (*(front for front, _ in self.cuts), self.depth)
        return tuple(zip(firsts, lasts, strict=True))


@dataclass(frozen=True)
class Rules:
    """Where anchors are stitched.

    Attributes:
        cuts: "forward" joins a block to later ones, "paired" also to the one in its place and to earlier ones, which
            makes paths that are longer than their anchors. Anchors of several stages, and stages of different depth,
            have only forward ones. "two_way" has two anchors of one stage and rules of its own.
        kernel_size: blocks of the window in which stages of equal depth are joined.
        stride: blocks by which the window moves on.
        nearest: only neighbours are stitched, two at a time.
        stages: of anchors with several stages those that are stitched.
        legacy_layer_map: the layers of stages of different depth are those of the published networks.
    """

    cuts: str = "forward"
    kernel_size: int = 2
    stride: int = 1
    nearest: bool = True
    stages: Sequence[int] | None = None
    legacy_layer_map: bool = False


def enumerate_stitches(depths: Sequence[Sequence[int]], **rules: Any) -> tuple[StitchConfig, ...]:
    """All networks that anchors make, in the order of the published tables.

    First the anchors alone. Then, stage by stage and pair by pair, one network a cut. Anchors of one stage that need
    not be neighbours are also stitched three and more in a row. A two-way network goes from small to large, from large
    to small, from large to small to large and from small to large to small.

    Args:
        depths: the number of blocks of every stage, for every anchor.
        **rules: of `Rules`.

    Returns:
        stitch i at place i.

    Raises:
        ValueError: fewer than two anchors, anchors that cannot be stitched so, or rules that leave no cut.
    """
    by = Rules(**rules)
    stitched = _check(depths, by)
    joints = _joints(depths, stitched, by)
    windows = by.cuts != "two_way" and any(_depth(depths, s, a) == _depth(depths, s, b) for s, a, b in joints)
    if windows and by.stride > by.kernel_size:
        warnings.warn(
            f"stride {by.stride} is larger than kernel_size {by.kernel_size}: no cut is made at the blocks between the "
            "windows",
            stacklevel=2,
        )
    found = [StitchConfig(a, (a,), (), (), None) for a in range(len(depths))]
    for stage in stitched:
        for walk in _walks(len(depths), by, longest=len(depths) if stage is None else 2):
            depth = _depth(depths, stage, walk[-1])
            for path in _paths(joints, stage, walk):
                usable = path[-1].end < depth
                if usable or len(path) == 1:
                    places, layers = tuple((cut.front, cut.end) for cut in path), tuple(cut.layer for cut in path)
                    found.append(StitchConfig(len(found), walk, places, layers, stage, usable, depth=depth))
    if not any(config.cuts and config.usable for config in found):
        raise ValueError(
            f"anchors of depths {[list(d) for d in depths]} have no cut with cuts={by.cuts!r} and kernel_size="
            f"{by.kernel_size}; a kernel_size of 2 or more has some, in stages of 2 blocks or more"
        )
    return tuple(found)


def layer_counts(depths: Sequence[Sequence[int]], **rules: Any) -> dict[Joint, int]:
    """How many stitching layers there are for each (stage, front anchor, end anchor), in order.

    Takes what `enumerate_stitches` takes.
    """
    by = Rules(**rules)
    joints = _joints(depths, _check(depths, by), by)
    return {
        (stage, front, end): count_layers(found, _depth(depths, stage, front), _depth(depths, stage, end))
        for (stage, front, end), found in joints.items()
    }


def _joints(
    depths: Sequence[Sequence[int]], stitched: tuple[int | None, ...], by: Rules
) -> dict[Joint, tuple[Cut, ...]]:
    """The cuts of every pair of anchors, in every stitched stage."""
    if by.cuts == "two_way":
        forth, back = two_way_cuts(_depth(depths, None, 0), _depth(depths, None, 1))
        return {(None, 0, 1): forth, (None, 1, 0): back}
    joints = {}
    for stage in stitched:
        for front, end in pairwise(range(len(depths))) if by.nearest else combinations(range(len(depths)), 2):
            first, second = _depth(depths, stage, front), _depth(depths, stage, end)
            if first == second:
                joint = paired(first, by.kernel_size, by.stride, forward=by.cuts == "forward" or stage is not None)
            else:
                joint = unpaired(first, second, by.legacy_layer_map)
            joints[stage, front, end] = joint
    return joints


def _walks(anchors: int, by: Rules, longest: int) -> Iterator[tuple[int, ...]]:
    """The anchors that paths run through, in the order in which their paths are numbered."""
    if by.cuts == "two_way":
        yield from ((0, 1), (1, 0), (1, 0, 1), (0, 1, 0))
    elif by.nearest:
        yield from pairwise(range(anchors))
    else:
        for length in range(2, longest + 1):
            yield from combinations(range(anchors), length)


def _paths(joints: Mapping[Joint, tuple[Cut, ...]], stage: int | None, walk: tuple[int, ...]) -> list[tuple[Cut, ...]]:
    """Every choice of a cut between each two anchors that leaves those on the way a block or more."""
    paths: list[tuple[Cut, ...]] = [()]
    for front, end in pairwise(walk):
        found = joints[stage, front, end]
        paths = [(*path, cut) for path in paths for cut in found if not path or cut.front >= path[-1].end]
    return paths


def _depth(depths: Sequence[Sequence[int]], stage: int | None, anchor: int) -> int:
    return depths[anchor][stage or 0]


def _check(depths: Sequence[Sequence[int]], by: Rules) -> tuple[int | None, ...]:
    """Refuse what cannot be stitched; the stitched stages, of plain networks None."""
    if len(depths) < 2:
        raise ValueError(f"a stitched network has two anchors or more, got {len(depths)}")
    if by.cuts not in CUTS:
        hint = did_you_mean(by.cuts, CUTS) or "."
        raise ValueError(f"no rule for cuts is called {by.cuts!r}{hint} There are: {', '.join(CUTS)}")
    check_window(by.kernel_size, by.stride)
    count = len(depths[0])
    for anchor, own in enumerate(depths):
        if len(own) != count:
            raise ValueError(f"anchors have equal numbers of stages; anchor 0 has {count}, anchor {anchor} {len(own)}")
        if not own or min(own) < 1:
            raise ValueError(f"every stage of an anchor has 1 block or more; anchor {anchor} has depths {list(own)}")
    if by.cuts == "two_way" and (len(depths) != 2 or count != 1):
        raise ValueError(f"cuts='two_way' takes two anchors of one stage, got {len(depths)} anchors of {count}")
    return _stitched_stages(count, by.stages)


def _stitched_stages(count: int, stages: Sequence[int] | None) -> tuple[int | None, ...]:
    if count == 1 and (stages is None or list(stages) == [0]):
        return (None,)
    if stages is None:
        raise ValueError(f"the anchors have {count} stages: say in `stages` which of them are stitched")
    chosen = tuple(stages)
    if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= count:
        raise ValueError(f"stages must be some of 0..{count - 1}, each once and in order, got {list(chosen)}")
    return chosen
