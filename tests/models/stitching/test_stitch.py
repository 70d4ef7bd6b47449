"""`zoo.stitch`: anchors by name, with their weights, of folders, models, and networks of one's own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import zoo
from tests.models.stitching.test_exported import spec
from zoo.errors import UnknownModelError, WeightsError

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
VIT = {"name": "vit_tiny_patch16_224", "img_size": 32, "patch_size": 8, "num_heads": 2, "num_classes": 7, "depth": 3}


def vit(width: int, **options: Any) -> Any:
    own = {**VIT, **options}
    return timm.create_model(own.pop("name"), embed_dim=width, **own)


def test_names_and_options() -> None:
    net = zoo.stitch(["test_vit", "test_vit2"], kernel_size=1, cuts="paired", num_classes=3, stitch_norm=False)
    assert net.anchor_names == ("test_vit", "test_vit2")
    assert (net.num_classes, net.stitch_norm, net._rules["kernel_size"]) == (3, False, 1)
    assert net.stitch == 1
    assert net.has_random_layers


@pytest.mark.parametrize("pretrained", [True, False])
def test_weights_of_folders(pretrained: bool, tmp_path: Path) -> None:
    """A folder stands for its weights, whether they are asked for or not."""
    models = [vit(width).eval() for width in (16, 24)]
    for name, model in zip("ab", models, strict=True):
        zoo.set_data_config(model, mean=(0.3, 0.2, 0.1))
        model.pretrained_cfg["label_names"] = list("tuvwxyz")
        zoo.save_pretrained(model, tmp_path / name)
    net = zoo.stitch([f"local-dir:{tmp_path / name}" for name in "ab"], pretrained=pretrained).eval()
    for number, model in enumerate(models):
        assert torch.equal(net(X, stitch=number), model(X))
    assert zoo.data_config(net)["mean"] == (0.3, 0.2, 0.1)
    net.init_stitches(X)
    zoo.save_pretrained(net, tmp_path / "net")
    again: Any = zoo.create_model(f"local-dir:{tmp_path / 'net'}").eval()
    assert all(torch.equal(again(X, stitch=c.id), net(X, stitch=c.id)) for c in net._configs)
    assert list(again.pretrained_cfg["label_names"]) == net.pretrained_cfg["label_names"] == list("tuvwxyz")
    other = zoo.stitch([f"local-dir:{tmp_path / name}" for name in "ab"], num_classes=2, in_chans=1).eval()
    assert other(X[:, :1], stitch=0).shape == (2, 2)
    kept = other.anchors[1].get_submodule("blocks.0.attn.qkv").weight
    assert torch.equal(kept, models[1].blocks[0].attn.qkv.weight)


def test_models_mappings_and_specs() -> None:
    model = vit(16)
    net = zoo.stitch([model, {**VIT, "embed_dim": 24}], drop_path_rate=[0.0, 0.1])
    assert net.anchors[0] is model
    assert net.anchor_names == ("vit_tiny_patch16_224",) * 2
    drops = [m.drop_prob for m in net.anchors[1].modules() if type(m).__name__ == "DropPath"]
    assert max(drops) == pytest.approx(0.1)
    own = zoo.stitch([spec(4), spec(8)], pretrained=True)
    assert own(X).shape == (2, 5)
    assert isinstance(own.anchors[0], zoo.AnchorSpec)


def test_images_of_a_size_where_an_anchor_has_one() -> None:
    net = zoo.stitch(["resnet18", {"name": "swin_tiny_patch4_window7_224", "window_size": 4}], img_size=64, stages=[1])
    assert net(torch.randn(1, 3, 64, 64)).shape == (1, 1000)


def test_what_is_no_stitched_network() -> None:
    without = {"name": "vit_base_patch16_gap_224", "depth": 1, "embed_dim": 8, "num_heads": 2}
    with pytest.raises(WeightsError, match="no pretrained weights for 'vit_base_patch16_gap_224'"):
        zoo.stitch([without, "test_vit"], pretrained=True)
    with pytest.raises(UnknownModelError, match="did you mean 'resnet18'"):
        zoo.stitch(["resnet81", "resnet34"])
    with pytest.raises(TypeError, match=r"zoo\.stitch takes no argument 'kernel'; did you mean 'kernel_size'"):
        zoo.stitch(["resnet18", "resnet34"], kernel=3)
    for anchors in ("resnet18", ["resnet18"], nn.Identity()):
        with pytest.raises(ValueError, match="two anchors or more"):
            zoo.stitch(anchors)
    with pytest.raises(ValueError, match="drop_path_rate has 3 entries for 2 anchors"):
        zoo.stitch(["resnet18", "resnet34"], drop_path_rate=[0, 0, 0])
    with pytest.raises(ValueError, match=r"width 16\) has num_classes 7, .*width 24\) 5"):
        zoo.stitch([vit(16), vit(24, num_classes=5)])


def test_the_models_that_were_given_are_not_copied() -> None:
    models = [vit(16), vit(24)]
    state = copy.deepcopy(models[0].state_dict())
    net = zoo.stitch(models)
    assert all(torch.equal(value, state[key]) for key, value in net.anchors[0].state_dict().items())
