"""`create_model`: the table of bad input, and what it builds."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

import zoo
from zoo.errors import (
    ConfigError,
    MissingFileError,
    PickleRefusedError,
    UnknownModelError,
    UnknownModuleError,
    WeightsError,
)

NANO = "medvit2_kan_nano"


@pytest.mark.parametrize(
    ("name", "kwargs", "error", "message"),
    [
        ("resnet5O", {}, UnknownModelError, r"unknown model 'resnet5O'; did you mean 'resnet50'"),
        ("ResNet50", {}, UnknownModelError, r"did you mean 'resnet50'"),
        ("medvit2_kan_tny", {}, UnknownModelError, r"did you mean 'medvit2_kan_tiny'"),
        ("resnet50.foo", {}, UnknownModelError, r"no checkpoint tagged 'foo'.*'a1_in1k' \(default\).*'tv_in1k'"),
        (NANO + ".foo", {}, UnknownModelError, r"no checkpoint tagged 'foo'.*'digits' \(default\)"),
        ("user/repo", {}, ValueError, r"'hf-hub:user/repo'.*'local-dir:user/repo'"),
        ("hf:user/repo", {}, ValueError, r"unknown scheme 'hf'.*'hf-hub:'.*'local-dir:'"),
        ("hf-hub:", {}, ValueError, r"'hf-hub:' needs a repository: 'hf-hub:user/name'"),
        ("hf-hub:a/b@c@d", {}, ValueError, r"'a/b@c@d'.*one '@'"),
        (None, {}, TypeError, r"model name must be a str, got None"),
        (NANO, {"num_class": 3}, TypeError, r"takes no argument 'num_class'; did you mean 'num_classes'.*in_chans"),
        (
            "resnet18",
            {"num_class": 3},
            TypeError,
            r"resnet18 takes no argument 'num_class'; did you mean 'num_classes'",
        ),
        (NANO, {"num_classes": "10"}, TypeError, r"num_classes must be an int ≥ 0, got '10'"),
        ("resnet18", {"num_classes": "10"}, TypeError, r"num_classes must be an int ≥ 0, got '10'"),
        (NANO, {"num_classes": True}, TypeError, r"num_classes must be an int ≥ 0, got True"),
        ("resnet18", {"num_classes": -1}, ValueError, r"num_classes must be an int ≥ 0, got -1"),
        ("resnet18", {"in_chans": 0}, ValueError, r"in_chans must be an int ≥ 1, got 0"),
        (NANO, {"drop_path_rate": 1.5}, ValueError, r"drop_path_rate must be in \[0, 1\), got 1.5"),
        ("resnet18", {"global_pool": "foo"}, ValueError, r"'foo' is not a pooling of resnet18; it has .*'avg'.*'max'"),
        ("vit_tiny_patch16_224", {"global_pool": "foo"}, ValueError, r"is not a pooling of vit_tiny.*'token'"),
        (NANO, {"global_pool": "foo"}, ValueError, r"global_pool.*'foo'.*'avg'"),
        (
            "medvit2_kan_tiny",
            {"pretrained": True},
            RuntimeError,
            r"no pretrained weights for 'medvit2_kan_tiny'.*'medvit2_kan_nano.digits'",
        ),
        (NANO, {"checkpoint_path": "nowhere/model.safetensors"}, FileNotFoundError, r"nowhere/model.safetensors"),
        ("local-dir:nowhere", {}, MissingFileError, r"nowhere"),
    ],
)
def test_bad_input_is_refused_with_a_way_out(name, kwargs, error, message):
    with pytest.raises(error, match=message):
        zoo.create_model(name, **kwargs)


def test_unknown_modules():
    with pytest.raises(UnknownModuleError, match=r"unknown module 'mlp/kann'; did you mean 'mlp/kan'"):
        zoo.create_module("mlp", "kann", 8)
    with pytest.raises(TypeError, match=r"mlp/kan takes no argument 'hidden'; did you mean 'hidden_features'"):
        zoo.create_module("mlp/kan", 8, hidden=3)
    with pytest.raises(UnknownModuleError, match=r"unknown module 'kan'; did you mean .*'mlp/kan'.*'head/kan'"):
        zoo.create_module("kan", 16)
    with pytest.raises(UnknownModuleError, match=r"unknown module 'attentoin'; did you mean 'mixer/attention'"):
        zoo.create_module("attentoin", 16)
    with pytest.raises(TypeError, match=r"name the module: create_module\('mlp', name, …\).*, got 16 for the name"):
        zoo.create_module("mlp", 16)


def test_none_keywords_are_dropped_as_in_timm():
    assert zoo.create_model(NANO, num_classes=None, in_chans=None).num_classes == timm.create_model(NANO).num_classes


def test_alias_and_timm_names():
    assert zoo.create_model("medvit2_kan", num_classes=2).zoo_name == "medvit2_kan_small"
    assert type(zoo.create_model("test_resnet", num_classes=2)) is type(timm.create_model("test_resnet"))


def test_pretrained_equals_timms_way_bit_for_bit():
    x = torch.randn(2, 3, 32, 32)
    ours, theirs = zoo.create_model(NANO, pretrained=True).eval(), timm.create_model(NANO, pretrained=True).eval()
    assert torch.equal(ours(x), theirs(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert ours.pretrained_cfg["tag"] == "digits"
    assert ours.pretrained_cfg["label_names"] == list("0123456789") or tuple(
        ours.pretrained_cfg["label_names"]
    ) == tuple("0123456789")


def test_other_classes_and_channels_adapt():
    whole = zoo.create_model(NANO, pretrained=True)
    fewer = zoo.create_model(NANO, pretrained=True, num_classes=3, in_chans=1)
    own, source = fewer.state_dict(), whole.state_dict()
    changed = {k for k in own if own[k].shape != source[k].shape}
    assert changed == {"stem.0.conv.weight", "proj_head.0.weight", "proj_head.0.bias"}
    assert torch.equal(own["stem.0.conv.weight"], source["stem.0.conv.weight"].sum(1, keepdim=True))
    assert all(torch.equal(own[k], source[k]) for k in own.keys() - changed)


def test_headless_and_features_with_weights():
    x = torch.randn(1, 3, 64, 64)
    whole = zoo.create_model(NANO, pretrained=True).eval()
    bare = zoo.create_model(NANO, pretrained=True, num_classes=0).eval()
    assert torch.equal(bare(x), whole.forward_head(whole.forward_features(x), pre_logits=True))
    maps = zoo.create_model(NANO, pretrained=True, features_only=True).eval()(x)
    expected = whole.forward_intermediates(x, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))


def test_checkpoint_path(tmp_path):
    model = zoo.create_model(NANO, num_classes=4)
    save_file(model.state_dict(), tmp_path / "four.safetensors")
    same = zoo.create_model(NANO, num_classes=4, checkpoint_path=tmp_path / "four.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), same.state_dict().values(), strict=True))
    other = zoo.create_model(NANO, num_classes=7, checkpoint_path=tmp_path / "four.safetensors")
    assert other.num_classes == 7
    assert torch.equal(other.state_dict()["norm.weight"], model.state_dict()["norm.weight"])
    with pytest.raises(WeightsError, match=r"4 classes.*built for 10"):
        zoo.create_model(NANO, checkpoint_path=tmp_path / "four.safetensors")
    with pytest.raises(FileNotFoundError, match=r"five.safetensors.*four.safetensors"):
        zoo.create_model(NANO, checkpoint_path=tmp_path / "five.safetensors")


def test_file_whose_classes_differ_from_the_registered_ones_keeps_its_head(tmp_path):
    """A fine-tuned file given through `pretrained_cfg_overlay` keeps the head that was trained (timm drops it)."""
    model = zoo.create_model(NANO, num_classes=4)
    save_file(model.state_dict(), tmp_path / "four.safetensors")
    again = zoo.create_model(
        NANO, pretrained=True, num_classes=4, pretrained_cfg_overlay={"file": str(tmp_path / "four.safetensors")}
    )
    assert torch.equal(again.get_classifier().weight, model.get_classifier().weight)


def test_folders(tmp_path):
    model = zoo.create_model(NANO, num_classes=3, in_chans=1).eval()
    zoo.save_pretrained(model, tmp_path / "m", license="apache-2.0")
    x = torch.randn(1, 1, 32, 32)
    again = zoo.create_model(f"local-dir:{tmp_path / 'm'}").eval()
    assert torch.equal(model(x), again(x))
    fresh = zoo.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=False).eval()
    assert not torch.equal(model(x), fresh(x))
    assert zoo.create_model(f"local-dir:{tmp_path / 'm'}", num_classes=5).num_classes == 5
    (tmp_path / "m" / "config.json").write_text('{"architecture": ')
    with pytest.raises(ConfigError, match=r"config.json.*line 1"):
        zoo.create_model(f"local-dir:{tmp_path / 'm'}")
    (tmp_path / "m" / "config.json").write_text(json.dumps({"architecture": "medvit3", "zoo": {"format": 1}}))
    with pytest.raises(UnknownModelError, match="medvit3"):
        zoo.create_model(f"local-dir:{tmp_path / 'm'}")


class Exploit:
    def __reduce__(self):
        return (open, ("touched-by-a-pickle", "w"))


def test_the_folder_of_a_run_is_its_best_model(tmp_path):
    model = zoo.create_model("hopfield_mil", dim=3, num_classes=4).eval()
    zoo.save_pretrained(model, tmp_path / "run" / "best", license="mit")
    x = torch.randn(2, 5, 3)
    assert torch.equal(zoo.create_model(f"local-dir:{tmp_path / 'run'}").eval()(x), model(x))


@pytest.mark.parametrize("suffix", [".bin", ".pth", ".pt", ".ckpt"])
def test_pickles_are_refused_unopened(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Exploit()}, tmp_path / f"evil{suffix}")
    with pytest.raises(PickleRefusedError, match="allow_pickle"):
        zoo.create_model(NANO, checkpoint_path=tmp_path / f"evil{suffix}")
    with pytest.raises(WeightsError):
        zoo.create_model(NANO, checkpoint_path=tmp_path / f"evil{suffix}", allow_pickle=True)
    assert not (tmp_path / "touched-by-a-pickle").exists()


def test_allowed_pickle_loads_weights_only(tmp_path):
    model = zoo.create_model(NANO, num_classes=4)
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "ddp.pth")
    again = zoo.create_model(NANO, num_classes=4, checkpoint_path=tmp_path / "ddp.pth", allow_pickle=True)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_device_and_dtype():
    assert all(t.is_meta for t in zoo.create_model(NANO, device="meta").state_dict().values())
    model = zoo.create_model(NANO, pretrained=True, dtype=torch.float64)
    assert model.get_classifier().weight.dtype == torch.float64


def test_create_module_both_ways():
    torch.manual_seed(0)
    a = zoo.create_module("mlp", "kan", 8, 16)
    torch.manual_seed(0)
    b = zoo.create_module("mlp/kan", 8, 16)
    x = torch.randn(3, 8)
    assert torch.equal(a(x), b(x))


def test_image_size_is_checked_and_recorded(tmp_path):
    model = zoo.create_model(NANO, img_size=(48, 64))
    assert zoo.data_config(model)["input_size"] == (3, 48, 64)
    zoo.save_pretrained(model, tmp_path / "m")
    assert zoo.data_config(zoo.create_model(f"local-dir:{tmp_path / 'm'}"))["input_size"] == (3, 48, 64)
    with pytest.raises(ValueError, match=r"96×96 is too small.*smallest side is 97"):
        zoo.create_model("medvit2_kan_tiny", img_size=96, device="meta")


@pytest.fixture
def my_net():
    """A user's plain function, registered and taken back."""
    from torch import nn

    @zoo.register_model(input_size=(3, 16, 16), override=True, cfg={"classifier": "3"})
    def my_plain_net(num_classes=10, in_chans=3):
        "A net of mine."
        layers = [nn.Conv2d(in_chans, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)]
        return nn.Sequential(*layers)

    yield "my_plain_net"
    zoo.registry.default_registry()._entries.pop("my_plain_net")


def test_a_users_function_is_a_model_like_any_other(my_net, tmp_path):
    model = zoo.create_model(my_net, num_classes=3, in_chans=1).eval()
    assert (model.num_classes, model.in_chans) == (3, 1)
    assert zoo.data_config(model)["input_size"] == (1, 16, 16)
    zoo.save_pretrained(model, tmp_path / "m", license="mit")
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(zoo.create_model(f"local-dir:{tmp_path / 'm'}").eval()(x), model(x))
    assert timm.create_model(my_net, num_classes=4)[3].out_features == 4
    with pytest.raises(TypeError, match="no argument 'num_classez'; did you mean 'num_classes'"):
        zoo.create_model(my_net, num_classez=3)


def test_near_names_of_attributes():
    with pytest.raises(AttributeError, match="did you mean 'create_model'"):
        _ = zoo.create_modl
    with pytest.raises(AttributeError, match="did you mean 'NeighborhoodAttention2d'"):
        _ = zoo.layers.NeighborhoodAtention2d
    with pytest.raises(TypeError, match=r"a filter is a wildcard pattern.*got 5"):
        zoo.list_models(5)


def test_a_file_for_a_folder_is_told_what_to_do_with_it(tmp_path):
    (tmp_path / "c.md").write_text("x")
    with pytest.raises(MissingFileError, match=r"c\.md' is a file, not the folder of a saved model$"):
        zoo.create_model(f"local-dir:{tmp_path / 'c.md'}")
    path = tmp_path / "w.safetensors"
    save_file({"w": torch.ones(1)}, path)
    with pytest.raises(MissingFileError, match=r"checkpoint_path='.*w\.safetensors'\), or zoo\.load_weights\(model, "):
        zoo.create_model(f"local-dir:{path}")
    zoo.save_pretrained(zoo.create_model("test_resnet"), tmp_path / "m")
    for name in ("config.json", "model.safetensors"):
        with pytest.raises(MissingFileError, match=f"the folder is 'local-dir:{tmp_path / 'm'}'"):
            zoo.create_model(f"local-dir:{tmp_path / 'm' / name}")
