"""The network as a model of the zoo: sizes, stages, tasks, saving, copies, precision, cases."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.models.varifocal import GNet, LNet, VarifocalNet

SMALL = {"img_size": 64, "widths": (4, 6, 8), "depths": (1, 1, 1), "loc_hidden": 8, "mlp_hidden": 12}
#: Trunk of a scale, and everything, as the paper's figure and our design give them.
SIZES = {
    "varifocal_chromosome": (36_472_496, 104_950_193),
    "varifocal_chromosome_w64": (5_846_192, 24_503_729),
    "varifocal_chromosome_w32": (1_466_032, 9_345_457),
    "varifocal_chromosome_r18": (11_170_240, 28_753_873),
    "varifocal_chromosome_r34": (21_278_400, 48_970_193),
}
SCALES = ("g_type", "g_polarity", "l_type", "l_polarity", "type", "polarity")


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _images(count: int = 3, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net() -> VarifocalNet:
    torch.manual_seed(0)
    return VarifocalNet(**SMALL).eval()


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_those_of_the_table(name):
    with torch.device("meta"):
        model = zoo.create_model(name)
    trunk, whole = SIZES[name]
    assert (_count(model.g_net.trunk), _count(model.l_net.trunk), _count(model)) == (trunk, trunk, whole)


def test_parameters_are_those_of_the_catalogue():
    for entry in zoo.registry.default_registry().models:
        if entry.family.name == "varifocal":
            with torch.device("meta"):
                assert _count(zoo.create_model(entry.name)) == entry.params, entry.name


def test_strides_of_wide_networks_change_no_trunk():
    with torch.device("meta"):
        one, two = VarifocalNet(strides=(1, 2, 2)), VarifocalNet()
    assert _count(one.g_net.trunk) == _count(two.g_net.trunk)
    assert (one.g_net.reduction, two.g_net.reduction) == (4, 8)


def test_the_parts_are_the_whole(net):
    x = _images()
    out = net(x)
    g_net, l_net = (
        GNet(**{k: v for k, v in SMALL.items() if k != "mlp_hidden"}),
        LNet(img_size=32, widths=SMALL["widths"], depths=SMALL["depths"]),
    )
    g_net.load_state_dict(net.g_net.state_dict())
    l_net.load_state_dict(net.l_net.state_dict())
    first = g_net.eval()(x)
    torch.testing.assert_close(first.g_type, out.g_type)
    torch.testing.assert_close(first.box, out.box)
    crop = zoo.layers.varifocal_crop(x, first.box, 32)
    second = l_net.eval()(crop)
    torch.testing.assert_close(second.l_polarity, out.l_polarity)
    torch.testing.assert_close(torch.cat([first.features, second.features], 1), out.features)
    torch.testing.assert_close(net.forward_head(net.forward_features(x))[0], out.type)


def test_the_global_stage_runs_no_local_network(net, monkeypatch):
    whole = net(_images())

    def never(*_):
        raise AssertionError("the local network was run")

    for part in (net.l_net, net.fusion):
        monkeypatch.setattr(part, "forward", never)
    out = net(_images(), "global")
    assert [name for name in SCALES if getattr(out, name) is not None] == ["g_type", "g_polarity"]
    assert out.crop is None
    torch.testing.assert_close(out.logits, whole.g_type)
    torch.testing.assert_close(out.box, whole.box)
    net.stage = "global"
    assert net.as_logits(net(_images())) is not None
    assert net.forward_features(_images()).shape == (3, net.g_net.num_features)


def test_each_stage_gives_its_logits(net):
    net.stage = "local"
    out = net(_images())
    assert out.type is None
    assert out.logits is out.l_type
    assert out.polarity_logits is out.l_polarity
    assert out.features.shape == (3, net.num_features)
    out = net(_images(), "fusion")
    assert out.logits is out.type


def test_one_task_or_none():
    types = VarifocalNet(**SMALL, num_classes=5).eval()
    out = types(_images())
    assert out.type.shape == (3, 5)
    assert out.polarity is out.g_polarity is out.l_polarity is out.polarity_logits is None
    assert not any("polarity" in key for key in types.state_dict())
    assert VarifocalNet(**SMALL, num_classes=5, num_polarities=3)(_images()).polarity.shape == (3, 3)
    bare = VarifocalNet(**SMALL, num_classes=0).eval()
    out = bare(_images())
    assert out.logits is None
    assert out.features.shape == (3, bare.num_features)


def test_classifiers_are_made_anew(net):
    x = _images()
    before = net.forward_features(x)
    net.temperature = (2.0, 3.0)
    net.reset_classifier((7, 3))
    assert net.temperature == (1.0, 1.0)  # it was of the classifiers that are gone
    assert (net.num_classes, net.num_polarities) == (7, 3)
    out = net(x)
    assert (out.type.shape, out.g_polarity.shape) == ((3, 7), (3, 3))
    torch.testing.assert_close(out.features, before)
    net.reset_classifier(4)
    out = net(x)
    assert (out.l_type.shape, out.polarity) == ((3, 4), None)
    assert not net.fusion.training
    with pytest.raises(ValueError, match="pools of a varifocal network are part of it"):
        net.reset_classifier(4, "avg")


STAGES = {
    "global": {"g_net.trunk", "g_net.head"},
    "localize": {"g_net.loc"},
    "local": {"g_net.loc", "l_net.trunk", "l_net.head"},
    "fusion": {"fusion.mlp_type", "fusion.mlp_polarity"},
    "joint": {"g_net.trunk", "g_net.head", "g_net.loc", "l_net.trunk", "l_net.head", "fusion.mlp_type"}
    | {"fusion.mlp_polarity"},
}
RUN = {"global": "global", "localize": "global", "local": "local", "fusion": "fusion", "joint": "fusion"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lets_only_its_own_learn(net, stage):
    assert net.freeze_stage(stage) is net
    assert net.stage == RUN[stage]
    learning = {".".join(name.split(".")[:2]) for name, p in net.named_parameters() if p.requires_grad}
    assert learning == STAGES[stage]
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k or "tracked" in k}
    net.train()
    net.train()
    for name in ("g_net.trunk", "l_net.trunk"):
        trunk = net.get_submodule(name)
        assert all(part.training == (name in STAGES[stage]) for part in trunk.modules())
    net(_images())
    moved = {k.partition(".trunk")[0] for k, v in net.state_dict().items() if k in before and (v != before[k]).any()}
    assert moved == {name.partition(".")[0] for name in STAGES[stage] if name.endswith("trunk")}
    net.freeze_stage("joint").train()
    assert all(part.training for part in net.modules())
    assert all(p.requires_grad for p in net.parameters())


def test_the_loss_is_of_every_scale_that_was_run(net):
    target = torch.tensor([1, 5, 23])
    out = net(_images())
    wanted = sum(F.cross_entropy(logits, target) for logits in (out.g_type, out.l_type, out.type))
    torch.testing.assert_close(net.loss(out, target), wanted)
    torch.testing.assert_close(net.loss(net(_images(), "global"), target), F.cross_entropy(out.g_type, target))
    soft = F.one_hot(target, 24).float()
    torch.testing.assert_close(net.loss(out, soft), wanted)


@pytest.mark.parametrize("backbone", [None, {"name": "resnet10t", "channels": (4, 8, 8, 8)}])
def test_saved_and_loaded(tmp_path, backbone):
    torch.manual_seed(0)
    sizes = {key: value for key, value in SMALL.items() if backbone is None or key not in ("widths", "depths")}
    options = {**sizes, "backbone": backbone, "box_mode": "clamp", "min_ratio": 0.3, "local_size": 24}
    model = zoo.create_model("varifocal_chromosome", **options, temperature=(1.5, 0.8)).eval()
    zoo.save_pretrained(model, tmp_path / "net")
    again = zoo.create_model(f"local-dir:{tmp_path / 'net'}").eval()
    x = _images()
    out, same = model(x), again(x)
    for name in (*SCALES, "box", "crop", "features"):
        assert torch.equal(getattr(out, name), getattr(same, name)), name
    config = json.loads((tmp_path / "net/config.json").read_text())
    args = config["model_args"]
    assert config["label_names"] == [*map(str, range(1, 23)), "X", "Y"]
    assert args["polarity_names"] == ["short arm up", "short arm down"]
    assert args["temperature"] == [1.5, 0.8]
    assert (args["num_classes"], args["num_polarities"]) == (24, 2)
    cfg = config["pretrained_cfg"]
    assert (cfg["input_size"], cfg["mean"], cfg["std"], cfg["crop_mode"]) == ([1, 64, 64], [0.0], [1.0], "canvas")
    assert again.temperature == (1.5, 0.8)
    assert again.pretrained_cfg["label_names"][-1] == "Y"
    again.temperature = (2.0, 1.0)
    zoo.save_pretrained(again, tmp_path / "twice")
    assert zoo.create_model(f"local-dir:{tmp_path / 'twice'}").temperature == (2.0, 1.0)


def test_what_its_answers_mean_goes_with_it_through_the_hub(hub, tmp_path):
    """Order of the classes, meaning of the polarities, preparation and temperature, from a folder and a repository."""
    names = ("turned", "upright")
    model = zoo.create_model("varifocal_chromosome", **SMALL, polarity_names=("down", "up")).eval()
    prepared = {"mean": 0.2, "std": 0.3, "crop_pct": 0.5, "interpolation": "nearest"}
    zoo.set_data_config(model, label_names=[*"YX", *map(str, range(22, 0, -1))], **prepared)
    model.temperature, model.polarity_names = (2.5, 0.7), names
    zoo.save_pretrained(model, tmp_path / "net")
    repo = hub.repo_id()
    zoo.push_to_hub(model, repo, license="apache-2.0", token=hub.token)
    picture = (255 * _images(1)[0, 0]).byte().numpy()
    (said,) = zoo.predict(model, picture, top=24)
    assert said["polarity"] in names
    for source, options in ((f"local-dir:{tmp_path / 'net'}", {}), (f"hf-hub:{repo}", {"cache_dir": hub.cache})):
        again = zoo.create_model(source, **options).eval()
        assert again.pretrained_cfg["label_names"] == model.pretrained_cfg["label_names"]
        assert again.polarity_names == names
        assert zoo.data_config(again) == zoo.data_config(model)
        assert zoo.data_config(again)["crop_mode"] == "canvas"
        assert again.temperature == (2.5, 0.7)
        assert zoo.predict(again, picture, top=24) == [said]
    with pytest.raises(ValueError, match="polarity_names has 3 names, the second task 2 classes"):
        model.polarity_names = ("a", "b", "c")
    model.reset_classifier((7, 2))
    assert model.polarity_names == names
    model.reset_classifier((7, 3))
    assert (model.polarity_names, model._model_args["polarity_names"]) == (None, None)


def test_loaded_for_other_classes(tmp_path):
    model = zoo.create_model("varifocal_chromosome", **SMALL)
    zoo.save_pretrained(model, tmp_path / "net")
    other = zoo.create_model(f"local-dir:{tmp_path / 'net'}", num_classes=(5, 0), num_polarities=0)
    assert (other.num_classes, other.num_polarities) == (5, 0)
    for name in ("g_net.trunk.stem.weight", "g_net.loc.fc1.weight", "fusion.mlp_type.0.weight"):
        assert torch.equal(other.get_parameter(name), model.get_parameter(name))
    assert "label_names" not in other.pretrained_cfg


def test_registered_weights_for_other_classes_keep_what_still_holds():
    trained = zoo.create_model("varifocal_chromosome_nano", pretrained=True).eval()
    assert trained.pretrained_cfg["num_classes"] == 24
    image, (types, _) = torch.rand(1, 1, 64, 64), trained.temperature
    said = trained(image)
    for given, temperature in ((24, (types, 1.0)), ((24, 3), (types, 1.0)), (5, (1.0, 1.0)), (0, (1.0, 1.0))):
        other = zoo.create_model("varifocal_chromosome_nano", pretrained=True, num_classes=given).eval()
        assert other.temperature == temperature, given
        out = other(image)
        assert torch.equal(out.features, said.features)
        assert (out.type is None) == (given == 0)
        if temperature[0] == types:
            assert torch.equal(out.type, said.type)
    for same in ({"img_size": 64}, {"stage": "global"}, {"in_chans": 3}, {"box_mode": "clamp"}):
        other = zoo.create_model("varifocal_chromosome_nano", pretrained=True, **same)
        assert other.temperature == trained.temperature, same


def test_backbones_bring_their_weights_once():
    """A saved network brings its weights itself: none are fetched for its trunks."""
    with torch.device("meta"):
        model = zoo.create_model("varifocal", backbone={"name": "resnet10t", "pretrained": False}, img_size=64)
    assert model._model_args["backbone"] == {"name": "resnet10t"}


def test_copies_are_independent(net):
    twin = copy.deepcopy(net)
    x = _images()
    torch.testing.assert_close(twin(x).type, net(x).type, rtol=0, atol=0)
    with torch.no_grad():
        twin.fusion.mlp_type[3].bias += 1
    assert not torch.equal(twin(x).type, net(x).type)
    twin.temperature = (3.0, 1.0)
    assert net.temperature == (1.0, 1.0)


def test_bfloat16(net):
    x = _images()
    wanted = net(x)
    out = net.to(torch.bfloat16)(x.to(torch.bfloat16))
    assert (out.type.dtype, out.box.dtype, out.crop.dtype) == (torch.bfloat16, torch.float32, torch.bfloat16)
    torch.testing.assert_close(out.box, wanted.box, rtol=0, atol=0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net.float()(x).box.dtype == torch.float32


def test_other_sizes_of_image_and_none(net):
    assert net(_images(2, 96)).type.shape == (2, 24)
    assert net(torch.rand(2, 1, 80, 48)).crop.shape == (2, 1, 32, 32)
    assert net(torch.rand(0, 1, 64, 64)).type.shape == (0, 24)


def test_images_are_independent_of_each_other(net):
    x = _images(5)
    together = net(x).type
    alone = torch.cat([net(x[i : i + 1]).type for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_recomputation_changes_no_gradient(net):
    x, twin = _images(), copy.deepcopy(net)
    twin.set_grad_checkpointing()
    target = torch.tensor([1, 5, 23])
    gradients = []
    for model in (net, twin):
        torch.manual_seed(1)  # of the dropout
        model.train()
        model.loss(model(x), target).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)
    for (name, one), two in zip(net.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(one, two, msg=name)
