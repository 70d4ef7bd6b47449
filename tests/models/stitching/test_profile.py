"""Times of paths: they are the sum of their pieces', in a run as in the profile, and a budget can be of them."""

import json
import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.models.stitching.published import tiny
from zoo.errors import BudgetError
from zoo.models.stitching.anchors import AnchorSpec
from zoo.models.stitching.exporting import recalibrate_bn
from zoo.models.stitching.network import StitchNet
from zoo.models.stitching.profile import StitchProfile, profile_stitches


class Slow(nn.Module):
    """A piece of a network that takes its time."""

    def __init__(self, milliseconds: float, then: nn.Module | None = None) -> None:
        super().__init__()
        self.milliseconds, self.then = milliseconds, then or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.milliseconds / 1e3)
        return self.then(x)


def slow(width: int, stem: float, blocks: tuple[float, ...], head: float) -> AnchorSpec:
    return AnchorSpec(
        Slow(stem, nn.Conv2d(3, width, 4, 4)),
        [[Slow(block) for block in blocks]],
        Slow(head, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))),
        widths=(width,),
        layout="nchw",
        img_size=(8, 8),
    )


def of_known_times() -> tuple[StitchNet, dict[int, float]]:
    """A network whose times are known, and these."""
    anchors = [(5.0, (8.0, 10.0, 12.0), 5.0), (10.0, (30.0, 40.0, 50.0), 10.0)]
    net = StitchNet([slow(4, *anchors[0]), slow(8, *anchors[1])]).eval()
    known = {}
    for config in net._configs:
        (stem, front, head), *rest = (anchors[a] for a in config.anchors)
        known[config.id] = stem + sum(front) + head
        if rest:
            (j, k), (_, end, head) = config.cuts[0], rest[0]
            known[config.id] = stem + sum(front[: j + 1]) + sum(end[k:]) + head
    net.init_stitches(torch.randn(20, 3, 8, 8))
    return net, known


def run_times(
    net: StitchNet, x: Tensor, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Medians of whole forward passes, of all paths in turn."""
    spent: dict[int, list[float]] = {config.id: [] for config in net._configs}
    with torch.no_grad():
        for _ in range(repeats):
            for number, times in spent.items():
                begin = clock()
                net(x, stitch=number)
                times.append(1e3 * (clock() - begin))
    return {number: statistics.median(times) for number, times in spent.items()}


@pytest.mark.parametrize("profile_first", [True, False])
def test_times_of_paths_are_those_of_whole_runs(profile_first: bool) -> None:
    net, known = of_known_times()
    x = torch.randn(1, 3, 8, 8)
    if profile_first:
        profile_stitches(net, repeats=5)
    runs = run_times(net, x, 5)
    if not profile_first:
        profile_stitches(net, repeats=5)
    assert set(net.latency) == set(known) == set(runs)
    for number, least in known.items():
        # Sleeping takes longer than asked for, on a busy machine some milliseconds for each of the five to six pieces.
        assert least <= net.latency[number] <= 1.2 * least + 20
        assert net.latency[number] == pytest.approx(runs[number], rel=0.2, abs=10)
    by_time = sorted(known, key=lambda number: known[number])
    assert sorted(known, key=lambda number: net.latency[number]) == by_time


def test_times_of_real_networks_are_those_of_whole_runs() -> None:
    torch.manual_seed(0)
    net = tiny((24, 48, 96), 6, cuts="paired").eval()
    net.init_stitches(torch.randn(8, 3, 32, 32))
    x = torch.randn(4, 3, 32, 32)
    profile_stitches(net, batch_size=4, repeats=30)
    # On a busy machine whole runs are interrupted where short pieces are not: what counts is the processor's time.
    runs = run_times(net, x, 15, time.process_time)
    ratios = [net.latency[number] / spent for number, spent in runs.items()]
    assert all(0.5 < ratio < 2 for ratio in ratios)
    assert 0.7 < statistics.median(ratios) < 1.4


def test_profiles_survive_json_and_serve_another_copy() -> None:
    net = tiny()
    profile = profile_stitches(net, batch_size=2, dtype=torch.bfloat16, repeats=2)
    assert (profile.device, profile.dtype, profile.batch_size, profile.img_size) == ("cpu", "bfloat16", 2, (32, 32))
    assert (profile.repeats, profile.threads) == (2, torch.get_num_threads())
    again = StitchProfile.from_json(profile.to_json())
    assert again == profile
    other = tiny()
    assert other.stitches[3].latency is None
    again.use_for(other)
    assert other.latency == net.latency
    assert all(s.latency == net.latency[s.id] > 0 for s in other.stitches)
    assert json.loads(profile.to_json())["milliseconds"]["0>1 layer 0.0"] > 0


def test_a_budget_of_time_is_kept() -> None:
    net, known = of_known_times()
    net.top1 = {number: float(number) for number in known}
    profile_stitches(net, repeats=3)
    limit = sorted(net.latency.values())[len(known) // 2]
    chosen = net.set_budget(latency_ms=limit)
    assert chosen.latency is not None
    assert chosen.latency <= limit
    assert chosen.id == max(number for number, spent in net.latency.items() if spent <= limit)
    with pytest.raises(BudgetError, match=r"latency_ms=0\.01: stitch 0 is the cheapest"):
        net.set_budget(latency_ms=0.01)


@pytest.mark.parametrize("options", [{"cuts": "two_way", "lora_rank": 2}, {"cuts": "paired", "nearest": False}])
def test_every_path_of_every_rule_has_a_time(options: dict) -> None:
    net = tiny((12, 24) if "lora_rank" in options else (12, 16, 24), 4, **options)
    profile_stitches(net, repeats=1)
    assert set(net.latency) == {config.id for config in net._configs}
    assert min(net.latency.values()) > 0


def test_profiling_leaves_the_network_as_it_is() -> None:
    net = StitchNet(["levit_128s", "levit_128"], num_classes=3).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    profile_stitches(net, repeats=1, dtype=torch.bfloat16)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(m.attention_bias_cache for m in net.modules() if hasattr(m, "attention_bias_cache"))


def test_what_cannot_be_measured_is_refused() -> None:
    net = tiny()
    for name in ("batch_size", "repeats"):
        with pytest.raises(ValueError, match=f"{name} must be 1 or more, got 0"):
            profile_stitches(net, **{name: 0})
    with pytest.raises(ValueError, match='on the device "meta" has no values'):
        profile_stitches(tiny(device="meta"))
    other = profile_stitches(tiny((12, 24)), repeats=1)
    with pytest.raises(ValueError, match="of another network: it has no time of 2 stem"):
        other.use_for(net)
    for text in ("{}", "", other.to_json()[:-9]):
        with pytest.raises(ValueError, match="a profile is a JSON object of batch_size, device"):
            StitchProfile.from_json(text)
    for options, error, message in (
        ({"dtype": "bf16"}, TypeError, r"dtype must be a floating type such as torch.bfloat16, got 'bf16'"),
        ({"dtype": torch.int8}, TypeError, "got torch.int8"),
        ({"device": "cudaa"}, ValueError, "there is no device 'cudaa' on this machine, only cpu.*; leave device"),
        ({"img_size": (16, 16)}, ValueError, r"img_size=\(16, 16\) is asked for, .* takes images of 32x32"),
        ({"img_size": 0}, ValueError, r"img_size is a number of pixels from 1, or \(height, width\), got 0"),
        ({"img_size": "32"}, ValueError, "got '32'"),
    ):
        with pytest.raises(error, match=message):
            profile_stitches(net, **options)
    assert profile_stitches(net, img_size=32, repeats=1).img_size == (32, 32)
    assert net.costs(32) == net.costs((32, 32)) == net.costs()
    with pytest.raises(ValueError, match="takes images of 32x32"):
        net.costs(16)
    for call in (profile_stitches, lambda given: recalibrate_bn(given, torch.randn(2, 3, 32, 32))):
        with pytest.raises(TypeError, match=r"a Linear is no stitched network: make one with zoo\.stitch, or see zoo"):
            call(nn.Linear(1, 1))
        with pytest.raises(TypeError, match=r"a name is no stitched network: give that of zoo.create_model\('snnet'\)"):
            call("snnet")
