"""Which paths are trained: the golden groups, what a draw depends on, how often each path is drawn, what is refused."""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.helpers import stitched_net
from zoo.errors import UnknownStitchError
from zoo.models.stitching.sampling import StitchSampler, groups_by_cost, learning_ids
from zoo.models.stitching.stitches import StitchConfig, enumerate_stitches

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "stitch" / "snnetv2_flops_groups.json").read_text())
COSTS = {int(number): cost for number, cost in GOLDEN["in.flops"].items()}


def published() -> list[StitchConfig]:
    """The stitches of SN-Netv2 S-L, with their costs."""
    return [replace(s, flops=COSTS.get(s.id)) for s in enumerate_stitches([[12], [24]], cuts="two_way")]


@pytest.mark.parametrize("gap", [1, 5])
def test_groups_are_the_golden_ones(gap: int) -> None:
    assert [list(group) for group in groups_by_cost(COSTS, gap * 1e9)] == GOLDEN[f"out.groups_gap_{gap}"]


def test_the_published_width_is_the_default_where_costs_are_wide_apart() -> None:
    sampler = StitchSampler(published(), "flops_groups")
    assert [list(group) for group in sampler.groups] == GOLDEN["out.groups_gap_1"]
    # In the same network a thousand times smaller, a GFLOP would be one group: its width follows the range.
    small = groups_by_cost({number: cost / 1000 for number, cost in COSTS.items()})
    assert 10 <= len(small) <= 13
    assert sorted(number for group in small for number in group) == sorted(COSTS)


def test_groups_are_drawn_evenly_and_so_are_their_paths() -> None:
    sampler = StitchSampler(published(), "flops_groups", width=5e9)
    drawn = Counter(sampler.ids(step)[0] for step in range(20_000))
    assert 13 not in drawn  # it runs no block of its last anchor
    assert set(drawn) == set(COSTS)
    for group in sampler.groups:
        share = sum(drawn[number] for number in group) / 20_000
        assert share == pytest.approx(1 / len(sampler.groups), abs=0.015)
    pair = max(sampler.groups, key=len)
    assert max(drawn[n] for n in pair) < 1.6 * min(drawn[n] for n in pair)


def test_every_usable_path_is_drawn_equally_often() -> None:
    sampler = StitchSampler(published())
    drawn = Counter(sampler.ids(step)[0] for step in range(27_000))
    assert set(drawn) == set(range(135)) - {13}
    assert max(drawn.values()) < 270  # 201 on average
    assert min(drawn.values()) > 140


def test_a_draw_depends_on_seed_update_and_process_alone() -> None:
    one, again = (StitchSampler(published(), seed=7) for _ in range(2))
    later = [again.ids(step, 1) for step in reversed(range(50))]
    torch.manual_seed(3)
    assert [one.ids(step, 1) for step in range(50)] == later[::-1]
    assert [one.ids(step, 0) for step in range(50)] != later[::-1]
    assert [StitchSampler(published(), seed=8).ids(step, 1) for step in range(50)] != later[::-1]
    # As drawn when this was written: a run is resumed by another version, too.
    assert [one.ids(step)[0] for step in range(8)] == [72, 118, 75, 80, 96, 119, 89, 133]


def test_all_processes_can_draw_the_same() -> None:
    sampler = StitchSampler(published(), per_rank=False)
    assert all(sampler.ids(step, 0) == sampler.ids(step, 5) for step in range(50))
    assert len({sampler.ids(step) for step in range(50)}) > 20


def test_a_sandwich_has_the_cheapest_the_dearest_and_others() -> None:
    for count in (0, 1, 3):
        sampler = StitchSampler(published(), "sandwich", count=count)
        for step in range(30):
            cheapest, dearest, *others = sampler.ids(step)
            assert (cheapest, dearest) == (0, 1)  # the two anchors
            assert len(set(others) - {0, 1, 13}) == count
    assert len(StitchSampler(published(), "sandwich", count=999).ids(0)) == 134
    assert StitchSampler(published(), "sandwich", ids=[20]).ids(0) == (20,)


def test_only_given_paths_are_drawn() -> None:
    sampler = StitchSampler(published(), ids=[3, 90, 13])
    assert {sampler.ids(step)[0] for step in range(50)} == {3, 90}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "unifrom"}, "no way of sampling stitches called 'unifrom'; did you mean 'uniform'"),
        ({"width": 1e9}, "width is of mode 'flops_groups', the mode is 'uniform'"),
        ({"mode": "flops_groups", "count": 2}, "count is of mode 'sandwich', the mode is 'flops_groups'"),
        ({"mode": "flops_groups", "width": 0}, "width must be a positive number of FLOPs, got 0"),
        ({"mode": "sandwich", "count": -1}, "count must be a whole number from 0, got -1"),
        ({"ids": [13]}, "there are no stitches to draw from"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StitchSampler(published(), **options)


def test_costs_that_are_not_known_are_asked_for() -> None:
    bare = enumerate_stitches([[4], [4]])
    with pytest.raises(ValueError, match="'flops_groups' goes by the FLOPs of the stitches, and 0 has none"):
        StitchSampler(bare, "flops_groups")
    with pytest.raises(UnknownStitchError, match="there is no stitch 135: they are 0 to 134"):
        StitchSampler(published(), ids=[0, 135])


def test_where_anchors_are_frozen_those_alone_learn_nothing() -> None:
    net = stitched_net(8, 16, 32)
    everything = list(range(9))
    assert learning_ids(net) == everything
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith("stitch_layers."))
    assert learning_ids(net) == everything[3:]
    net.anchors[0].get_parameter("pos_embed").requires_grad_(True)
    assert learning_ids(net) == [0, *everything[3:]]
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith("anchors.1.blocks.0."))
    # Of the cuts of the forward rule none enters the middle anchor at its first block.
    assert learning_ids(net) == [1, 6, 7, 8]


def test_several_paths_at_once_are_those_one_by_one_and_share_their_beginning() -> None:
    net = stitched_net(8, 16, 32, seed=1).eval()
    net.load_state_dict(net.state_dict())  # not as they were drawn
    images = torch.randn(3, 1, 8, 8)
    ids = (5, 2, 0, 7, 8, 5)
    ran: list[str] = []
    for name, module in net.named_modules():
        if name.rpartition(".")[0].endswith(".blocks"):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    together = net(images, stitch=ids)
    count = len(ran)
    for number, answer in zip(ids, together, strict=True):
        with net.using(number):
            assert torch.equal(answer, net(images))
    assert (count, len(ran) - count) == (15, 24)
    together[1].sum().backward()
    assert net.anchors[2].get_parameter("pos_embed").grad is not None
    assert net.anchors[0].get_parameter("pos_embed").grad is None


def test_a_copy_knows_that_its_layers_are_random() -> None:
    net = stitched_net()
    twin = copy.deepcopy(net)
    assert net.has_random_layers
    assert twin.has_random_layers
    twin.load_state_dict(net.state_dict())
    assert not twin.has_random_layers
    assert not copy.deepcopy(twin).has_random_layers
    assert net.has_random_layers
    with pytest.warns(UserWarning, match="the stitching layers of this path are random"):
        copy.deepcopy(net).eval()(torch.zeros(1, 1, 8, 8), stitch=3)


def test_several_paths_at_once_recompute_their_blocks_where_one_does() -> None:
    net = stitched_net(8, 16, 32)
    images = torch.randn(2, 1, 8, 8)
    gradients = []
    for recompute in (False, True):
        net.set_grad_checkpointing(recompute)
        runs: list[None] = []
        handle = net.anchors[0].get_submodule("blocks.0").register_forward_pre_hook(lambda *_, to=runs: to.append(None))
        net.zero_grad()
        torch.stack(net(images, stitch=(0, 3, 4))).square().sum().backward()
        handle.remove()
        assert len(runs) == 1 + recompute
        gradients.append([p.grad for p in net.anchors[0].parameters()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)
