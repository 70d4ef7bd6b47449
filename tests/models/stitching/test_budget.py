"""Budgets: the best published stitches within them, ties, accuracies that are not known, what no stitch keeps to."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.models.stitching.published import published, rows_of_table, tiny
from zoo.errors import BudgetError, UnknownStitchError
from zoo.models.stitching.budget import accuracies, best_stitch, number_of
from zoo.models.stitching.network import StitchNet
from zoo.models.stitching.sampling import StitchSampler
from zoo.models.stitching.stitches import StitchConfig

#: GFLOPs, and the best of the published stitches within them.
BEST = {
    "deit_ti_s_b": {2: 33, 3: 19, 4: 14, 5: 1, 8: 62, 10: 61, 12: 53, 15: 46},
    "swin_ti_s_b": {5: 23, 6: 19, 7: 16, 8: 13, 9: 1, 10: 39, 12: 32, 14: 25},
}


def rated(**options: Any) -> StitchNet:
    """A network whose stitches have accuracies, the more the later."""
    return tiny(top1={stitch: 50 + stitch for stitch in range(7)}, **options)


@pytest.mark.parametrize("name", BEST)
def test_the_best_published_stitches_within_a_budget(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = published(name)
    monkeypatch.setattr(net, "top1", {row["id"]: row["top1"] for row in rows_of_table(name)})
    for giga, best in BEST[name].items():
        chosen = net.set_budget(flops=giga * 1e9)
        assert (chosen.id, net.stitch) == (best, best)
        assert chosen.top1 == rows_of_table(name)[best]["top1"]
        assert chosen == net.stitches[best]


def test_limits_on_everything_that_is_known() -> None:
    net = rated(cuts="paired")
    for name in ("flops", "macs", "params"):
        for stitch in net.stitches:
            chosen = net.set_budget(**{name: getattr(stitch, name)}, prefer="flops")
            within = [s for s in net.stitches if getattr(s, name) <= getattr(stitch, name)]
            assert chosen.flops == max(s.flops or 0 for s in within)
            assert chosen in within
    flops, params = net.stitches[1].flops, net.stitches[0].params
    assert net.set_budget(flops=flops, params=params).id == 0  # the second limit decides


def test_accuracy_is_preferred_to_size_and_the_cheaper_of_equals() -> None:
    net = tiny()
    small, middle, large = (net.stitches[a] for a in range(3))
    net.top1 = {small.id: 70.0, middle.id: 80.0, large.id: 75.0}
    assert net.set_budget(flops=1e12).id == middle.id
    assert net.set_budget(flops=1e12, prefer="flops").id == large.id
    net.top1 = {small.id: 80.0, middle.id: 80.0, large.id: 75.0}
    assert net.set_budget(flops=1e12).id == small.id


def stitch(number: int, **known: Any) -> StitchConfig:
    return replace(StitchConfig(number, (0,), (), (), None, flops=10, macs=10, params=10), **known)


def test_of_equal_size_the_one_with_fewer_parameters_then_the_quicker_then_the_first() -> None:
    limits = {"flops": 100}
    assert best_stitch([stitch(0), stitch(1, params=9)], limits, "flops").id == 1
    assert best_stitch([stitch(0, latency=2.0), stitch(1, latency=1.0)], limits, "flops").id == 1
    assert best_stitch([stitch(1), stitch(0)], limits, "flops").id == 0
    assert best_stitch([stitch(0, flops=9), stitch(1)], limits, "flops").id == 1


def test_without_known_accuracies_the_largest_within_the_budget_is_taken_with_a_warning() -> None:
    net = tiny()
    with pytest.warns(UserWarning, match="no accuracy is known.*set net.top1.*prefer='flops'"):
        assert net.set_budget(flops=1e12).id == max(net.stitches, key=lambda s: s.flops or 0).id
    net.top1 = {2: 80.0}  # of one that is too large, which does not help
    with pytest.warns(UserWarning, match="no accuracy is known"):
        assert net.set_budget(flops=net.stitches[0].flops).id == 0
    assert net.set_budget(flops=1e12).id == 2


def test_latencies_are_limits_once_they_are_measured() -> None:
    net = rated()
    with pytest.raises(ValueError, match=r"latency_ms needs.*profile_stitches\(net\)"):
        net.set_budget(latency_ms=5)
    net.latency = {number: float(number + 1) for number in range(len(net.stitches))}
    assert net.set_budget(latency_ms=5).id == 4
    assert net.stitches[4].latency == 5.0


def test_a_stitch_that_is_not_run_is_not_chosen() -> None:
    for allowed in (False, True):
        net = tiny((12, 24), 4, cuts="two_way", allow_empty_end=allowed)
        last = next(s for s in net.stitches if not s.usable)
        net.top1 = {0: 10.0, last.id: 90.0}
        assert net.set_budget(flops=1e12).id == (last.id if allowed else 0)


def test_budgets_below_the_cheapest_stitch_name_it() -> None:
    net = rated()
    before = net.stitch
    least = net.stitches[0]
    with pytest.raises(BudgetError, match=f"flops=1,000: stitch 0 is the cheapest, with {least.flops:,}$"):
        net.set_budget(flops=1000)
    with pytest.raises(BudgetError, match=r"flops=1e\+12: stitch 0 .*; of params=0.5: stitch 0 is the cheapest"):
        net.set_budget(flops=1.0000000000001e12 + 0.5, params=0.5)
    assert net.stitch == before
    assert issubclass(BudgetError, ValueError)


@pytest.mark.parametrize("limit", [0, -1, float("nan"), True])
def test_what_is_no_limit_is_refused(limit: Any) -> None:
    with pytest.raises(ValueError, match="flops must be a positive number"):
        best_stitch([stitch(0)], {"flops": limit})


def test_a_budget_needs_a_limit_and_a_known_preference() -> None:
    net = rated()
    with pytest.raises(ValueError, match="a budget needs a limit: one of flops, macs, params, latency_ms"):
        net.set_budget()
    with pytest.raises(ValueError, match=r"prefer must be one of 'top1', 'flops', got 'top-1'.*'top1'"):
        net.set_budget(flops=1e9, prefer="top-1")


# --- accuracies that are given --------------------------------------------------------------------------------------


def test_accuracies_are_kept_by_number_whatever_json_makes_of_the_keys() -> None:
    net = tiny(top1=json.loads(json.dumps({0: 70, 2: 80.5})))
    assert net.top1 == {0: 70.0, 2: 80.5}
    assert json.loads(json.dumps(net.top1)) == {"0": 70.0, "2": 80.5}
    assert [s.top1 for s in net.stitches][:3] == [70.0, None, 80.5]
    assert tiny().top1 == {}


@pytest.mark.parametrize("key", [-1, 99, "small", True])
def test_accuracies_of_no_stitch_are_refused(key: Any) -> None:
    with pytest.raises(UnknownStitchError, match=r"top1 has the key .*; stitches are 0 to 6"):
        accuracies({key: 70.0}, 7)


@pytest.mark.parametrize("value", [-1.0, 101.0, float("nan")])
def test_accuracies_that_are_no_percentages_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="top1 of stitch 0 must be a percentage"):
        tiny(top1={0: value})


# --- numbers that are no stitch -------------------------------------------------------------------------------------


def test_a_cost_given_for_a_number_names_stitches_of_about_that_cost() -> None:
    net = tiny()
    wanted = net.stitches[4].flops
    assert wanted is not None
    with pytest.raises(UnknownStitchError, match=rf"no stitch {wanted}: they are 0 to 6\. .* FLOPs are 4 \(\d+ k\), "):
        net.set_stitch(wanted)
    with pytest.raises(UnknownStitchError, match=r"no stitch 7: they are 0 to 6$"):
        net.set_stitch(7)


def test_a_stitch_that_is_not_run_names_others_of_its_cost() -> None:
    net = tiny((12, 24), 4, cuts="two_way")
    with pytest.raises(UnknownStitchError, match=r"only its head.*Of about its cost in FLOPs are \d+ \("):
        net.set_stitch(next(s for s in net.stitches if not s.usable))


# --- what other libraries and files make of numbers -------------------------------------------------------------------


def test_accuracies_that_are_set_are_checked_like_those_that_are_given() -> None:
    net = rated()
    before = dict(net.top1)
    for given, error, said in (
        ([1, 2], TypeError, r"top1 is a mapping from numbers of stitches .*, got \[1, 2\]$"),
        ("published", TypeError, "'published' is for the constructor's option$"),
        ({99: 3}, UnknownStitchError, "top1 has the key 99; stitches are 0 to 6"),
        ({1: 300}, ValueError, "top1 of stitch 1 must be a percentage, got 300"),
        ({0: "90"}, ValueError, "top1 of stitch 0 must be a percentage, got '90'"),
        ({0: float("nan"), 1: 50.0}, ValueError, "top1 of stitch 0 must be a percentage, got nan"),
    ):
        with pytest.raises(error, match=said):
            net.top1 = given
        assert net.top1 == before
    net.top1 = {"0": 90, 1: np.float32(91)}  # pyright: ignore[reportAttributeAccessIssue]
    assert net.top1 == {0: 90.0, 1: 91.0}
    assert [stitch.top1 for stitch in net.stitches[:3]] == [90.0, 91.0, None]


def test_numbers_of_numpy_are_numbers() -> None:
    net = rated()
    flops = net.stitches[1].flops
    assert net.set_budget(flops=np.float32(flops)).id == net.set_budget(flops=np.int64(flops)).id
    assert accuracies({np.int64(2): np.float64(70)}, 7) == {2: 70.0}
    assert StitchSampler(net, ids=[np.int64(1), 2, np.int8(2)]).stitch_ids == (1, 2)
    assert StitchSampler(net, "flops_groups", width=np.float32(1e9)).groups
    assert len(StitchSampler(net, "sandwich", count=np.int64(2)).ids(0)) == 4
    for number in (True, 1.0, "1", np.ones(2), None):
        assert number_of(number) is None
    with pytest.raises(UnknownStitchError, match="there is no stitch True"):
        StitchSampler(net, ids=[True])


def test_an_error_inside_a_property_is_told() -> None:
    """torch makes of an AttributeError in a property that there is no such property."""
    net = tiny()
    del net._anchors[0].model.blocks
    with pytest.raises(RuntimeError, match=r"stitches of a StitchNet: .*no attribute 'blocks'"):
        _ = net.stitches


def test_to_choose_a_path_counts_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny()
    before = net.set_stitch(3)
    assert before == net.stitches[3]
    with monkeypatch.context() as patch:
        patch.setattr(net, "costs", None)
        assert net.set_stitch(3) == before
        net.top1 = {3: 50.0}
        assert net.set_stitch(3).top1 == 50.0
    net.reset_classifier(2)
    assert net.set_stitch(3).flops == net.stitches[3].flops != before.flops
