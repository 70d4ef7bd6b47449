"""The registered stitched networks: anchors, rules, sizes, what the authors measured."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest
import torch

import zoo
from tests.models.stitching.golden import FOLDER, network_of
from zoo.models.stitching.published import published_top1
from zoo.models.stitching.stitches import StitchConfig

#: Registered name -> table, parameters in all, stitching layers by pair of anchors.
PUBLISHED = {
    "snnet_deit_ti_s_b": ("deit_ti_s_b", 118_403_448, [11, 11]),
    "snnet_swin_ti_s_b": ("swin_ti_s_b", 170_009_108, [1, 1, 1, 1, 6, 17]),
    "snnet_resnet18_resnet50": ("resnet18_resnet50", 37_904_976, [2, 2]),
    "snnet_resnet18_swin_ti": ("resnet18_swin_ti", 40_200_010, [1, 2]),
    "snnet_levit_192_256": ("levit_192_256", 30_322_097, [3, 3]),
    "snnetv2_deit3_s_b": ("snnetv2_s_b", 117_136_976, [12, 11]),
    "snnetv2_deit3_s_l": ("snnetv2_s_l", 337_567_312, [12, 11]),
    "snnetv2_deit3_b_l": ("snnetv2_b_l", 411_706_576, [12, 11]),
}
#: Those of which the tests of every day leave out what takes long.
LARGE = ("snnet_swin_ti_s_b", "snnetv2_deit3_s_l", "snnetv2_deit3_b_l")
OPEN = ("snnet_deit", "snnet_swin", "snnet_resnet", "snnet_levit", "snnetv2_deit3")


def on_meta(name: str, **options):
    with torch.device("meta"):
        return zoo.create_model(name, **options)


@cache
def published(name: str):
    """A network that is looked at, not changed."""
    return on_meta(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks(name: str) -> None:
    table, params, layers = PUBLISHED[name]
    rows = json.loads((FOLDER / "tables" / f"{table}.json").read_text())["rows"]
    net, entry = published(name), zoo.registry.model_entry(name)
    assert sum(p.numel() for p in net.parameters()) == params == entry.params
    groups: dict[str, int] = {}
    for key in net.state_dict():
        if key.startswith("stitch_layers.") and key.endswith(".weight"):
            pair = key.rpartition(".transform")[0].rpartition(".")[0]
            groups[pair] = groups.get(pair, 0) + 1
    assert list(groups.values()) == layers
    assert len(net._configs) == len(rows)
    for config, row in zip(net._configs, rows, strict=True):
        assert list(config.anchors) == row["anchors"]
        assert [list(cut) for cut in config.cuts] == row["stitches"]
        assert list(config.layers) == [layer for layer in row["layers"] or [] if layer >= 0]
        assert config.stage == row.get("stage")
    assert net.stitches[net.stitch].macs == entry.macs
    assert net.stitch_norm is (name != "snnet_deit_ti_s_b")  # the one that was trained without


@pytest.mark.parametrize("name", OPEN)
def test_networks_whose_anchors_are_an_argument(name: str) -> None:
    net, entry = on_meta(name), zoo.registry.model_entry(name)
    assert sum(p.numel() for p in net.parameters()) == entry.params
    assert net.stitches[net.stitch].macs == entry.macs
    assert list(net.anchor_names) == entry.args["anchors"]
    assert net.stitch_norm
    assert not net._rules["legacy_layer_map"]


def test_anchors_of_ones_own() -> None:
    net = zoo.create_model("snnet", anchors=["convnext_atto", "convnext_femto"], num_classes=3, in_chans=1, stitch=2)
    assert net(torch.randn(1, 1, 64, 64)).shape == (1, 3)
    assert net.pretrained_cfg["classifier"] == ("anchors.0.head.fc", "anchors.1.head.fc")
    assert zoo.data_config(net)["input_size"] == (1, 224, 224)
    with pytest.raises(TypeError, match="anchors"):
        zoo.create_model("snnet")
    with pytest.raises(TypeError, match="no argument 'kernel_sizes'; did you mean 'kernel_size'"):
        zoo.create_model("snnet_deit", kernel_sizes=3)


@pytest.mark.parametrize("name", [n for n in PUBLISHED if n not in ("snnetv2_deit3_s_b", "snnetv2_deit3_b_l")])
def test_what_the_authors_measured(name: str) -> None:
    rows = json.loads((FOLDER / "tables" / f"{PUBLISHED[name][0]}.json").read_text())["rows"]
    known = {row["id"]: row["top1"] for row in rows if "top1" in row}
    net = published(name)
    assert published_top1(net) == known
    assert net.top1 == {}  # of other weights nothing is known
    if name == "snnet_levit_192_256":
        net = on_meta(name, top1="published")
        assert net.top1 == {}
        net.load_state_dict(net.state_dict(), assign=True)
        assert [config.top1 for config in net.stitches] == [known[i] for i in range(len(rows))]


def test_accuracies_of_other_networks_are_not_known() -> None:
    with pytest.raises(ValueError, match=r"none is of deit_tiny_.*224, deit_small_.*224 stitched so; .*levit_192"):
        on_meta("snnet_deit", top1="published")
    with pytest.raises(ValueError, match="none is of deit_tiny"):  # trained otherwise
        on_meta("snnet_deit_ti_s_b", stitch_norm=True, top1="published")
    with pytest.raises(ValueError, match="1000 classes of ImageNet-1k, this network has 5"):
        on_meta("snnet_levit_192_256", top1="published", num_classes=5)
    with pytest.raises(ValueError, match="or 'published', got 'official'"):
        on_meta("snnet_levit_192_256", top1="official")


def test_a_budget_of_the_published_network() -> None:
    net = on_meta("snnet_deit_ti_s_b", top1="published")
    net.load_state_dict(net.state_dict(), assign=True)
    chosen = net.set_budget(flops=3e9)
    assert isinstance(chosen, StitchConfig)
    assert (chosen.id, net.stitch, round(chosen.top1 or 0, 2)) == (19, 19, 76.48)


def test_classes_channels_and_sizes_are_those_of_all_anchors() -> None:
    net = network_of("snnet_vit_tiny", num_classes=3, in_chans=1, img_size=64)
    assert net(torch.randn(2, 1, 64, 64)).shape == (2, 3)
    assert zoo.data_config(net)["input_size"] == (1, 64, 64)
    with pytest.raises(ValueError, match="takes 3 channels is given for an anchor, and in_chans=1"):
        network_of("snnet_vit_tiny", anchors=list(network_of("snnet_vit_tiny").anchors), in_chans=1)
    given = network_of("snnet_vit_tiny", anchors=list(network_of("snnet_vit_tiny").anchors), num_classes=3)
    assert given(torch.randn(2, 3, 32, 32)).shape == (2, 3)


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys, zoo; names = zoo.list_models('snnet*'); assert len(names) == 14, names; "
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "snnet" not in zoo.list_models()
    assert zoo.list_models("*", family="stitch") == zoo.list_models("snnet*")
