"""What anchors and profiles say, against what is there: channels, widths, pieces, weights that were let go."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

import zoo
from tests.models.stitching.published import tiny
from tests.models.stitching.test_contract import build, stitched
from tests.models.stitching.test_refused import vit
from zoo.errors import UnknownStitchError, WeightsError
from zoo.models.stitching.network import StitchNet
from zoo.models.stitching.profile import profile_stitches
from zoo.registry import weights_entry

NANO = "snnet_vit_nano"


def spec(width: int, channels: int = 3, **options: Any) -> zoo.AnchorSpec:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))
    blocks = [[nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]]
    said = {"widths": (width,), "layout": "nchw", "reductions": (4,), "img_size": (32, 32), **options}
    return zoo.AnchorSpec(nn.Conv2d(channels, width, 4, 4), blocks, head, **said)


class Patches(nn.Module):
    """Tokens of a linear map of patches."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(16 * channels, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(nn.functional.unfold(x, 4, stride=4).transpose(1, 2))


def test_channels_of_all_anchors_are_the_same() -> None:
    models = [
        timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=8 * c, depth=3, num_heads=2, in_chans=c)
        for c in (1, 3)
    ]
    with pytest.raises(ValueError, match=r"has channels 1, .* 3; anchors agree in it"):
        zoo.stitch(models)
    with pytest.raises(ValueError, match=r"AnchorSpec \(width 8\) has channels 3, AnchorSpec \(width 16\) 1"):
        zoo.stitch([spec(8), spec(16, 1)])
    with pytest.raises(ValueError, match=r"in_chans=1 is asked for, and AnchorSpec \(width 8\) takes images of 3"):
        zoo.stitch([spec(8), spec(16)], in_chans=1)


@pytest.mark.parametrize("size", [(32, 32), None])
def test_channels_of_ones_own_networks_are_found(size: Any) -> None:
    net = zoo.stitch([spec(8, 1, img_size=size), spec(16, 1, img_size=size)])
    assert net.in_chans == net.export(3).in_chans == 1
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 5)
    stem, other = Patches(1, 8), Patches(1, 16)
    heads = [nn.Sequential(nn.Flatten(), nn.Linear(64 * w, 5)) for w in (8, 16)]
    said: dict[str, Any] = {"layout": "tokens", "img_size": (32, 32)}
    linear = [
        zoo.AnchorSpec(s, [[nn.Linear(w, w) for _ in range(3)]], h, widths=(w,), **said)
        for s, w, h in zip((stem, other), (8, 16), heads, strict=True)
    ]
    assert zoo.stitch(linear).in_chans == 1


def test_widths_and_layouts_that_blocks_do_not_give() -> None:
    said = r"AnchorSpec says width 9 and layout 'nchw' of stage 0, whose block 0 gives the shape \(1, 8, 8, 8\)"
    with pytest.raises(ValueError, match=said.replace("AnchorSpec", r"AnchorSpec \(width 9\)")):
        zoo.stitch([spec(8, widths=(9,)), spec(16)])
    with pytest.raises(ValueError, match=r"layout 'tokens' of stage 0, .* gives the shape \(1, 16, 8, 8\)"):
        zoo.stitch([spec(8), spec(16, layout="tokens")])
    # Maps of 8x8 places and 8 channels: a second size of images tells rows from channels.
    with pytest.raises(ValueError, match=r"layout 'nhwc' of stage 0, whose block 0 gives the shape \(1, 8, 16, 16\)"):
        zoo.stitch([spec(8, layout="nhwc"), spec(16)])
    net = zoo.stitch([spec(8, widths=(9,), img_size=None), spec(16, img_size=None)])
    with pytest.raises(ValueError, match=r"anchor 0 says width 9 .* gives the shape \(8, 8, 8, 8\)"):
        net.init_stitches(torch.randn(8, 3, 32, 32))


def test_one_module_for_two_anchors_and_no_anchors_at_all() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=8, depth=3, num_heads=2)
    for make in (zoo.stitch, StitchNet):
        with pytest.raises(ValueError, match="one module is given for two anchors"):
            make([model, model])
    with pytest.raises(ValueError, match="an anchor is a name, a mapping with a 'name', or a model; got 1"):
        zoo.stitch(json.loads("[1, 2]"))
    with pytest.raises(ValueError, match="needs two anchors or more, from small to large; got None"):
        zoo.stitch(json.loads("null"))
    with pytest.raises(ValueError, match="ridge must be at least 0 and finite, got inf"):
        tiny().init_stitches(torch.randn(8, 3, 32, 32), ridge=math.inf)


def test_a_path_by_its_number_and_by_its_config() -> None:
    net, other = tiny(top1={1: 50.0}), zoo.create_model(NANO)
    x = torch.randn(1, 3, 32, 32)
    for number in (np.int64(1), torch.tensor(1), net.stitches[1]):
        chosen = net.set_stitch(number)
        assert chosen == net.stitches[1]
        assert torch.equal(net(x, stitch=1), net(x))
    assert chosen.top1 == 50.0
    assert net.set_stitch(other.stitches[2]).id == 2  # the same place in both
    with pytest.raises(UnknownStitchError, match=r"stitch 5 of another network .* at cuts \(\(3, 4\),\); here it runs"):
        tiny((12, 24), 4, cuts="paired").set_stitch(tiny((12, 24), 4, cuts="two_way").stitches[5])
    with pytest.raises(UnknownStitchError, match="no stitch True"):
        net.set_stitch(True)


def test_profiles_are_of_the_network_that_they_were_measured_in() -> None:
    profile = profile_stitches(tiny(), repeats=1)
    for other, said in (
        (tiny((12, 16)), "it has a time of .*2.*, which is not here"),
        (tiny((12, 16, 32)), r"2 stem 0.0 has \d+ parameters in it, \d+ here"),
        (tiny(depth=4), "it has no time of 0 block 0.3"),
        (tiny(img_size=64), r"has \d+ parameters in it|for images of \(32, 32\)"),
    ):
        with pytest.raises(ValueError, match=said):
            profile.use_for(other)
        assert other.latency == {}
    with pytest.raises(TypeError, match=r"a Linear is no stitched network: make one with zoo\.stitch"):
        profile.use_for(nn.Linear(1, 1))


@pytest.mark.parametrize("family", ["vit", "swin"])
@pytest.mark.parametrize("by", ["load_weights", "load_state_dict", "assign"])
def test_weights_that_were_let_go_are_loaded_again(family: str, by: str) -> None:
    net, x = build(family)
    state = copy.deepcopy(net.state_dict())
    numbers = [0, 1, stitched(net)]
    wanted = [net(x, stitch=number) for number in numbers]
    net.set_stitch(0)
    net.offload_unused()
    with pytest.raises(UnknownStitchError, match=r"let go by offload_unused\(\): zoo.load_weights\(net"):
        net(x, stitch=1)
    if by == "load_weights":
        zoo.load_weights(net, state)
    else:
        net.load_state_dict(state, assign=by == "assign")
    assert all(torch.equal(net(x, stitch=number), y) for number, y in zip(numbers, wanted, strict=True))
    assert not any(tensor.is_meta for tensor in (*net.parameters(), *net.buffers()))


def test_what_is_left_can_be_moved_and_is_not_saved(tmp_path: Path) -> None:
    net, x = build("swin")
    state = copy.deepcopy(net.state_dict())
    net.set_stitch(stitched(net))
    wanted, other = net(x), net(x, stitch=0)
    net.offload_unused()
    assert torch.equal(net.cpu().to("cpu")(x), wanted)
    gone = sum(p.is_meta for p in net.parameters())
    assert gone
    net.to("cpu", torch.float64)
    torch.testing.assert_close(net(x.double()).float(), wanted)
    assert all(p.dtype == torch.float64 for p in net.parameters())
    assert sum(p.is_meta for p in net.parameters()) == gone
    with pytest.raises(
        WeightsError, match=r"no values \(meta device\) and cannot be saved: load .* net.export\(\) can"
    ):
        zoo.save_pretrained(net, tmp_path / "net", license="apache-2.0")
    net.float().load_state_dict(state)
    assert torch.equal(net(x, stitch=0), other)
    net.offload_unused("meta")
    assert not any(p.is_meta for p in net.to_empty(device="cpu").parameters())


def test_accuracies_come_with_the_weights_of_a_name() -> None:
    known = {int(number): value for number, value in weights_entry(f"{NANO}.digits").known["top1"].items()}
    net: Any = zoo.create_model(NANO, stitch=4)
    zoo.load_weights(net, f"{NANO}.digits")
    assert net.top1 == known
    net.offload_unused()
    zoo.load_weights(net, f"{NANO}.digits")
    assert net.top1 == known
    for options in ({"num_classes": 5}, {"in_chans": 3}, {"stitch_norm": False}):
        net = zoo.create_model(NANO, **options)
        zoo.load_weights(net, f"{NANO}.digits")
        assert net.top1 == {}


def test_anchors_of_other_channels_by_name() -> None:
    with pytest.raises(ValueError, match="channels"):
        zoo.create_model("snnet", anchors=[vit(8), vit(16, in_chans=1)])
