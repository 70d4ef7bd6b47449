"""Stitched networks written and read back: the same tensors, path, anchors and accuracies."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import zoo
from tests.models.stitching.golden import OPEN, network_of, options_of
from zoo.errors import ConfigError
from zoo.models.stitching.anchors import AnchorSpec
from zoo.models.stitching.network import StitchNet

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def quiet(net: Any) -> Any:
    net._unsure = False
    return net.eval()


def saved(net: nn.Module, folder: Path) -> dict[str, Any]:
    zoo.save_pretrained(net, folder)
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("name", OPEN)
def test_saved_and_loaded_bit_for_bit(name: str, tmp_path: Path) -> None:
    net = quiet(zoo.create_model(OPEN[name], **options_of(name)))
    net.set_stitch(4)
    config = saved(net, tmp_path / "net")
    assert config["model_args"]["stitch"] == 4
    again = quiet(zoo.create_model(f"local-dir:{tmp_path / 'net'}"))
    assert again.stitch == 4
    assert again._rules == net._rules
    assert (again.stitch_norm, again.lora_rank, again.allow_empty_end) == (
        net.stitch_norm,
        net.lora_rank,
        net.allow_empty_end,
    )
    assert again.state_dict().keys() == net.state_dict().keys()
    for config in net._configs:
        assert torch.equal(again(X, stitch=config.id), net(X, stitch=config.id))
    frozen = [key for key, p in net.named_parameters() if not p.requires_grad]
    assert [key for key, p in again.named_parameters() if not p.requires_grad] == frozen
    by_timm = timm.create_model(f"local-dir:{tmp_path / 'net'}", pretrained=True).eval()
    assert torch.equal(by_timm(X), net(X))
    assert zoo.data_config(again) == zoo.data_config(net)


def test_low_rank_layers_in_any_order_of_modes(tmp_path: Path) -> None:
    """Nothing is ever merged, so no order of train, eval, save and load changes what is computed."""
    net = quiet(zoo.create_model("snnetv2_deit3", **options_of("snnetv2_tiny")))
    for layer in net._layers():
        nn.init.normal_(layer.transform.lora_B)
    wanted = net(X, stitch=9)
    for order in ((net.train, net.eval), (net.eval,), (net.eval, net.train)):
        for mode in order:
            mode()
        saved(net, tmp_path / "net")
        other = network_of("snnetv2_tiny").eval()
        other.load_state_dict(zoo.create_model(f"local-dir:{tmp_path / 'net'}").state_dict())
        assert torch.equal(quiet(other)(X, stitch=9), wanted)


def test_what_changed_since_is_saved(tmp_path: Path) -> None:
    net = quiet(zoo.create_model("snnet_deit", **options_of("snnet_vit_tiny"), top1={2: 60}))
    net.reset_classifier(4, "avg")
    net.set_input_size(64)
    net.set_stitch("deit_tiny_patch16_224 (width 16)")
    assert net.top1 == {}  # that of other classes and images
    net.top1 = {3: 71.5}
    config = saved(net, tmp_path / "net")
    assert config["num_classes"] == 4
    assert config["model_args"]["img_size"] == [64, 64]
    assert all("num_classes" not in anchor for anchor in config["model_args"]["anchors"])
    assert all(anchor["global_pool"] == "avg" for anchor in config["model_args"]["anchors"])
    assert config["pretrained_cfg"]["input_size"] == [3, 64, 64]
    again = quiet(zoo.create_model(f"local-dir:{tmp_path / 'net'}"))
    assert again.top1 == {3: 71.5}
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(again(x), net(x))
    assert torch.equal(again(x, stitch=5), net(x, stitch=5))


def test_windows_that_followed_the_size_are_saved(tmp_path: Path) -> None:
    net = quiet(zoo.create_model("snnet_swin", **options_of("snnet_swin_tiny")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about how timm resamples its tables
        net.set_input_size(64)
    saved(net, tmp_path / "net")
    again = quiet(zoo.create_model(f"local-dir:{tmp_path / 'net'}"))
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(again(x, stitch=7), net(x, stitch=7))


def test_names_are_saved_as_names(tmp_path: Path) -> None:
    net = quiet(zoo.create_model("snnet", anchors=["test_vit.r160_in1k", "test_vit2"], num_classes=2))
    config = saved(net, tmp_path / "net")
    assert config["model_args"]["anchors"] == ["test_vit.r160_in1k", "test_vit2"]
    assert config["architecture"] == "snnet"
    direct = StitchNet(["test_vit", "test_vit2"], num_classes=2)
    assert saved(direct, tmp_path / "direct")["architecture"] == "snnet"


def test_models_that_have_a_name_are_saved_by_it(tmp_path: Path) -> None:
    anchors = [
        timm.create_model(
            "vit_tiny_patch16_224", depth=2, img_size=32, patch_size=8, embed_dim=w, num_heads=2, num_classes=3
        )
        for w in (16, 32)
    ]
    net = quiet(zoo.create_model("snnet", anchors=anchors))
    assert net.anchors[0] is anchors[0]
    config = saved(net, tmp_path / "net")
    assert config["model_args"]["anchors"][1] == {
        "name": "vit_tiny_patch16_224",
        "depth": 2,
        "patch_size": 8,
        "embed_dim": 32,
        "num_heads": 2,
    }
    again = quiet(zoo.create_model(f"local-dir:{tmp_path / 'net'}"))
    assert torch.equal(again(X, stitch=2), net(X, stitch=2))


def test_anchors_of_no_name_cannot_be_saved(tmp_path: Path) -> None:
    def anchor(width: int) -> AnchorSpec:
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))
        return AnchorSpec(
            nn.Conv2d(3, width, 4, 4),
            [[nn.Conv2d(width, width, 1) for _ in range(3)]],
            head,
            widths=(width,),
            layout="nchw",
        )

    net = quiet(StitchNet([anchor(4), anchor(8)]))
    assert net(X).shape == (2, 5)
    with pytest.raises(ConfigError, match=r"anchor 0 is a AnchorSpec that no name stands for.*@zoo\.register_model"):
        saved(net, tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_copies_and_pickles(tmp_path: Path) -> None:
    net = quiet(network_of("snnet_vit_tiny"))
    net.set_stitch(6)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(X), net(X))
        assert other.anchors[0] is not net.anchors[0]
        with torch.no_grad():
            for p in other.parameters():
                p.zero_()
        assert other(X).abs().max() == 0
        assert net(X).abs().max() > 0  # which shares nothing with the copy


def test_loaded_layers_are_not_taken_for_random(tmp_path: Path) -> None:
    net = quiet(zoo.create_model("snnet_deit", **options_of("snnet_vit_tiny")))
    saved(net, tmp_path / "net")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):
            zoo.create_model(f"local-dir:{tmp_path / 'net'}").eval()(X, stitch=4)
        built = network_of("snnet_vit_tiny").eval()
        built.load_state_dict({k: v.clone() for k, v in net.state_dict().items()}, assign=True)
        built(X, stitch=4)
    with pytest.warns(UserWarning, match="are random"):
        network_of("snnet_vit_tiny").eval()(X, stitch=4)
