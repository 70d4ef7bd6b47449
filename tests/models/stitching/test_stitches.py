"""Numbers of the networks in a stitched one: the published tables, the golden networks, what is refused."""

from __future__ import annotations

import json
import warnings
from itertools import pairwise
from pathlib import Path

import pytest

from zoo.errors import BudgetError, UnknownStitchError, ZooError
from zoo.models.stitching.stitches import StitchConfig, enumerate_stitches, layer_counts

FOLDER = Path(__file__).parents[2] / "golden" / "stitch"
OFFICIAL = {"cuts": "paired", "legacy_layer_map": True}
SWIN_TI = (2, 2, 6, 2)
#: Depths of the anchors and the rules of every published table, and how many stitching layers each joint has.
TABLES = {
    "deit_ti_s_b": ([[12]] * 3, OFFICIAL, {(None, 0, 1): 11, (None, 1, 2): 11}),
    "swin_ti_s_b": (
        [SWIN_TI, (2, 2, 18, 2), (2, 2, 18, 2)],
        {**OFFICIAL, "stages": [0, 1, 2]},
        {(0, 0, 1): 1, (0, 1, 2): 1, (1, 0, 1): 1, (1, 1, 2): 1, (2, 0, 1): 6, (2, 1, 2): 17},
    ),
    "resnet18_resnet50": (
        [(2, 2, 2, 2), (3, 4, 6, 3)],
        {**OFFICIAL, "stages": [1, 2]},
        {(1, 0, 1): 2, (2, 0, 1): 2},
    ),
    "resnet18_swin_ti": ([(2, 2, 2, 2), SWIN_TI], {**OFFICIAL, "stages": [1, 2]}, {(1, 0, 1): 1, (2, 0, 1): 2}),
    "levit_192_256": ([(4, 4, 4)] * 2, {**OFFICIAL, "stages": [0, 1]}, {(0, 0, 1): 3, (1, 0, 1): 3}),
    "snnetv2_s_b": ([[12], [12]], {"cuts": "two_way"}, {(None, 0, 1): 12, (None, 1, 0): 11}),
    "snnetv2_s_l": ([[12], [24]], {"cuts": "two_way"}, {(None, 0, 1): 12, (None, 1, 0): 11}),
    "snnetv2_b_l": ([[12], [24]], {"cuts": "two_way"}, {(None, 0, 1): 12, (None, 1, 0): 11}),
}
#: The golden networks, likewise.
NETWORKS = {
    "snnet_vit_tiny": ([[3]] * 3, OFFICIAL, {(None, 0, 1): 2, (None, 1, 2): 2}),
    "snnet_swin_tiny": (
        [(2, 2, 2, 2), (2, 2, 5, 2), (2, 2, 5, 2)],
        {**OFFICIAL, "stages": [0, 1, 2]},
        {(0, 0, 1): 1, (0, 1, 2): 1, (1, 0, 1): 1, (1, 1, 2): 1, (2, 0, 1): 2, (2, 1, 2): 4},
    ),
    "snnetv2_tiny": ([[4], [8]], {"cuts": "two_way"}, {(None, 0, 1): 4, (None, 1, 0): 3}),
}


def check_rows(rows: list[dict], case: tuple[list, dict, dict]) -> tuple[StitchConfig, ...]:
    depths, rules, layers = case
    configs = enumerate_stitches(depths, **rules)
    assert len(configs) == len(rows)
    for place, (config, row) in enumerate(zip(configs, rows, strict=True)):
        assert config.id == row["id"] == place
        assert list(config.anchors) == row["anchors"]
        assert [list(cut) for cut in config.cuts] == row["stitches"]
        assert config.stage == row.get("stage")
        if "route" in row:
            # The two-way tables end with a layer -1, which is none, and have null for an anchor alone.
            assert [*config.layers, -1] == (row["layers"] or [-1])
            assert config.route == (row["route"] and tuple(map(tuple, row["route"])))
        else:
            assert list(config.layers) == row["layers"]
        assert config.joins == tuple(
            (config.stage, front, end, layer)
            for (front, end), layer in zip(pairwise(row["anchors"]), config.layers, strict=True)
        )
    assert list(layer_counts(depths, **rules).items()) == list(layers.items())
    return configs


@pytest.mark.parametrize("name", TABLES)
def test_the_published_tables(name: str) -> None:
    check_rows(json.loads((FOLDER / "tables" / f"{name}.json").read_text())["rows"], TABLES[name])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_golden_networks(name: str) -> None:
    check_rows(json.loads((FOLDER / f"{name}.json").read_text())["configs"], NETWORKS[name])


def test_every_published_table_is_checked() -> None:
    assert {path.stem for path in (FOLDER / "tables").glob("*.json")} == set(TABLES)


def test_what_leaves_no_block_of_the_last_anchor_is_not_usable() -> None:
    for small, large, unusable in ((12, 24, 13), (12, 12, 13), (4, 8, 5), (4, 6, 5)):
        configs = enumerate_stitches([[small], [large]], cuts="two_way")
        assert [config.id for config in configs if not config.usable] == [unusable]
        assert configs[unusable].cuts == ((small - 1, large),)
    for case in ("deit_ti_s_b", "swin_ti_s_b"):
        depths, rules, _ = TABLES[case]
        assert all(config.usable for config in enumerate_stitches(depths, **rules))


def test_anchors_that_need_not_be_neighbours_are_stitched_in_rows() -> None:
    configs = enumerate_stitches([[12]] * 3, cuts="paired", nearest=False)
    assert len(configs) == 732
    walks = [config.anchors for config in configs]
    assert list(dict.fromkeys(walks)) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    assert [walks.count(walk) for walk in dict.fromkeys(walks)] == [1, 1, 1, 34, 34, 34, 627]
    rows = [config.cuts for config in configs if len(config.cuts) == 2]
    assert all(first[1] <= second[0] for first, second in rows)
    assert rows[:2] == [((0, 0), (0, 0)), ((0, 0), (0, 1))]
    # The middle anchor runs its blocks between the two cuts, and has one at least.
    assert configs[105].route == ((0, 0), (0, 0), (0, 12))
    assert configs[105].joins == ((None, 0, 1, 0), (None, 1, 2, 0))
    assert layer_counts([[12]] * 3, cuts="paired", nearest=False) == {
        (None, 0, 1): 11,
        (None, 0, 2): 11,
        (None, 1, 2): 11,
    }


def test_four_anchors_are_stitched_to_their_neighbours_or_to_all() -> None:
    near = enumerate_stitches([[4]] * 4)
    assert [c.anchors for c in near if c.cuts] == [(0, 1)] * 3 + [(1, 2)] * 3 + [(2, 3)] * 3
    every = enumerate_stitches([[4]] * 4, nearest=False)
    assert {(0, 3), (0, 1, 3), (0, 1, 2, 3)} < {config.anchors for config in every}
    assert [c.cuts for c in every if c.anchors == (0, 1, 2, 3)] == [((0, 1), (1, 2), (2, 3))]


def test_anchors_of_several_stages_are_stitched_once_however_far_apart() -> None:
    configs = enumerate_stitches([(2, 2)] * 3, nearest=False, stages=[1])
    assert [(c.anchors, c.stage) for c in configs[3:]] == [((0, 1), 1), ((0, 2), 1), ((1, 2), 1)]
    assert configs[4].joins == ((1, 0, 2, 0),)
    assert configs[4].route is None


def test_stitches_of_new_networks_are_no_longer_than_their_anchors() -> None:
    for depths in ([[12]] * 3, [[6], [9]], [[9], [6]], [[5], [12], [7]]):
        for config in enumerate_stitches(depths, nearest=False):
            if not config.cuts:
                continue
            assert config.route is not None
            ends = [*config.route[:-1], (config.route[-1][0], config.route[-1][1] - 1)]
            blocks = [last - first + 1 for first, last in ends]
            assert min(blocks) >= 1
            assert sum(blocks) <= max(depths[anchor][0] for anchor in config.anchors)


def test_anchors_of_one_stage_may_say_so() -> None:
    assert enumerate_stitches([[4], [6]], stages=[0]) == enumerate_stitches([[4], [6]])


def test_new_networks_have_the_layer_of_the_front_block() -> None:
    depths, rules, layers = TABLES["swin_ti_s_b"]
    configs = enumerate_stitches(depths, stages=rules["stages"])
    published = enumerate_stitches(depths, **rules)
    assert [(c.anchors, c.cuts, c.stage) for c in configs] == [(c.anchors, c.cuts, c.stage) for c in published]
    assert all(c.layers == (c.cuts[0][0],) for c in configs if c.cuts)
    assert layer_counts(depths, stages=rules["stages"]) == layers


REFUSED = {
    "no anchors": ([], {}, "two anchors or more, got 0"),
    "one anchor": ([[12]], {}, "two anchors or more, got 1"),
    "stages": ([(2, 2), (2, 2, 2)], {}, "anchor 0 has 2, anchor 1 3"),
    "no stages": ([(), ()], {}, r"anchor 0 has depths \[\]"),
    "no blocks": ([(2, 2), (2, 0)], {"stages": [0]}, r"1 block or more; anchor 1 has depths \[2, 0\]"),
    "kernel": ([[12]] * 2, {"kernel_size": 0}, "kernel_size must be 1 or more, got 0"),
    "stride": ([[12]] * 2, {"stride": 0}, "stride must be 1 or more, got 0"),
    "near cuts": ([[12]] * 2, {"cuts": "pared"}, "'pared'; did you mean 'paired'.*forward, paired, two_way"),
    "cuts": ([[12]] * 2, {"cuts": "x"}, r"'x'\. There are: forward, paired, two_way"),
    "unnamed stages": ([(2, 2), (2, 2)], {}, "2 stages: say in `stages`"),
    "stage too high": ([(2, 2), (2, 2)], {"stages": [2]}, r"some of 0..1, .* got \[2\]"),
    "negative stage": ([(2, 2), (2, 2)], {"stages": [-1, 0]}, r"some of 0..1, .* got \[-1, 0\]"),
    "twice a stage": ([(2, 2), (2, 2)], {"stages": [1, 1]}, r"each once and in order, got \[1, 1\]"),
    "no stitched stage": ([(2, 2), (2, 2)], {"stages": []}, r"got \[\]"),
    "stage of a plain one": ([[2], [2]], {"stages": [1]}, r"some of 0..0, .* got \[1\]"),
    "two-way of three": ([[12]] * 3, {"cuts": "two_way"}, "two anchors of one stage, got 3 anchors of 1"),
    "two-way of stages": ([(2, 2)] * 2, {"cuts": "two_way", "stages": [0]}, "got 2 anchors of 2"),
    "two-way back": ([[8], [4]], {"cuts": "two_way"}, "got 8 blocks, then 4"),
    "no forward cut": ([[12]] * 2, {"kernel_size": 1}, "no cut with cuts='forward' and kernel_size=1"),
    "no usable cut": ([[1], [3]], {"cuts": "two_way"}, "no cut with cuts='two_way'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_stitched_is_refused(case: str) -> None:
    depths, rules, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        enumerate_stitches(depths, **rules)


def test_a_window_that_jumps_over_blocks_is_remarked_on_once() -> None:
    with pytest.warns(UserWarning, match="stride 3 is larger than kernel_size 2") as caught:
        configs = enumerate_stitches([[12]] * 3, stride=3)
    assert len(caught) == 1
    assert [c.cuts for c in configs if c.anchors == (0, 1)] == [((0, 1),), ((3, 4),), ((6, 7),), ((9, 10),)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # No window slides over stages of unequal depth.
        enumerate_stitches([[4], [6]], stride=3)
        enumerate_stitches([[4], [8]], cuts="two_way", stride=3)


@pytest.mark.parametrize("error", [UnknownStitchError, BudgetError])
def test_errors_of_stitches_are_values_and_read_as_sentences(error: type[ZooError]) -> None:
    assert issubclass(error, ZooError)
    assert issubclass(error, ValueError)
    assert str(error("there is no stitch 72; ids are 0..70")) == "there is no stitch 72; ids are 0..70"
