"""Cuts between two stages: the golden lists, what holds for all depths, what is refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from zoo.models.stitching.cuts import Cut, count_layers, front_of_end, paired, two_way_cuts, unpaired

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "stitch" / "enumeration.json").read_text())
UNEQUAL = [(front, end) for front in range(1, 14) for end in range(1, 14) if front != end]


def places(cuts: tuple[Cut, ...]) -> list[list[int]]:
    return [[cut.front, cut.end] for cut in cuts]


@pytest.mark.parametrize("case", GOLDEN["paired_plain"], ids=lambda c: f"{c['depth']}_{c['kernel_size']}_{c['stride']}")
def test_stages_of_equal_depth_have_the_golden_cuts_and_layers(case: dict) -> None:
    cuts = paired(case["depth"], case["kernel_size"], case["stride"])
    assert places(cuts) == case["stitches"]
    assert [cut.layer for cut in cuts] == case["layer_of_stitch"]
    assert count_layers(cuts, case["depth"], case["depth"]) == case["num_layers"]


@pytest.mark.parametrize("case", GOLDEN["unpaired_mapping"], ids=lambda c: f"{c['front_depth']}_{c['end_depth']}")
def test_stages_of_unequal_depth_have_the_golden_cuts_and_layers(case: dict) -> None:
    depths = case["front_depth"], case["end_depth"]
    fronts = case["front_of_end"]
    assert list(front_of_end(*depths)) == fronts
    for legacy in (False, True):
        cuts = unpaired(*depths, legacy_layer_map=legacy)
        assert places(cuts) == case["stitches"]
        assert [cut.layer for cut in cuts] == [fronts[n] if legacy else cut.front for n, cut in enumerate(cuts)]
        assert count_layers(cuts, *depths) == case["num_layers"]


def test_the_published_layers_of_6_and_18_blocks_are_one_cut_off() -> None:
    assert Cut(1, 3, 0) in unpaired(6, 18, legacy_layer_map=True)
    assert Cut(1, 3, 1) in unpaired(6, 18)


@pytest.mark.parametrize("kernel_size", [2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("depth", [1, 2, 3, 7, 12])
def test_forward_cuts_are_the_paired_ones_that_go_on(depth: int, kernel_size: int, stride: int) -> None:
    forward = paired(depth, kernel_size, stride, forward=True)
    assert forward == tuple(cut for cut in paired(depth, kernel_size, stride) if cut.front < cut.end)
    # No layer is left without a cut.
    assert {cut.layer for cut in forward} == set(range(count_layers(forward, depth, depth)))


def test_twelve_blocks_have_34_paired_cuts_and_11_forward_ones() -> None:
    steps = [cut.end - cut.front for cut in paired(12)]
    assert (steps.count(0), steps.count(1), steps.count(-1)) == (12, 11, 11)
    assert paired(12, forward=True) == tuple(Cut(j, j + 1, j) for j in range(11))


@pytest.mark.parametrize(("front", "end"), UNEQUAL)
def test_cuts_of_unequal_depths_move_forward_along_both_stages(front: int, end: int) -> None:
    cuts = unpaired(front, end)
    assert all(0 <= cut.front < front and 1 <= cut.end < end for cut in cuts)
    assert all(a.front <= b.front and a.end < b.end for a, b in pairwise(cuts))
    assert {cut.layer for cut in cuts} == set(range(count_layers(cuts, front, end)))
    # What has run of the front stage is no larger a share than what is left out of the end stage.
    if front < end:
        assert [cut.end for cut in cuts] == list(range(1, end))
        assert all(cut.front * end <= cut.end * front for cut in cuts)
    else:
        for cut in cuts:
            fitting = [j for j in range(front - 1) if j * end // front + 1 == cut.end]
            assert (cut.front, cut.layer) == (fitting[-1], cut.end - 1)
        assert len(cuts) == end - 1


@pytest.mark.parametrize("small", range(1, 9))
@pytest.mark.parametrize("more", range(7))
def test_two_way_cuts_of_any_depths(small: int, more: int) -> None:
    large = small + more
    forth, back = two_way_cuts(small, large)
    fronts = front_of_end(small, large)
    assert [cut.front for cut in forth] == [cut.layer for cut in forth] == list(range(small))
    assert forth[-1].end == large
    assert all(cut.end == fronts.index(cut.front + 1) for cut in forth[:-1])
    assert [cut.end for cut in back] == list(range(1, small))
    assert all(fronts[cut.front] + 1 == cut.end == fronts[cut.front + 1] for cut in back)
    if more:
        assert back == unpaired(large, small)


def test_what_is_no_stage_and_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size must be 1 or more, got 0"):
        paired(4, 0)
    with pytest.raises(ValueError, match="stride must be 1 or more, got -1"):
        paired(4, 2, -1)
    with pytest.raises(ValueError, match="1 block or more, got 0"):
        paired(0)
    with pytest.raises(ValueError, match="1 block or more, got 0"):
        unpaired(3, 0)
    with pytest.raises(ValueError, match="1 block or more, got -2"):
        two_way_cuts(-2, 4)
    with pytest.raises(ValueError, match="equal depth are stitched by `paired`, got 6 blocks twice"):
        unpaired(6, 6)
    with pytest.raises(ValueError, match="got 8 blocks, then 4"):
        two_way_cuts(8, 4)
