"""Official checkpoints of stitched networks in our layout."""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

import zoo
from tests.models.stitching.golden import FOLDER, OPEN, golden, network_of, official_state
from tests.models.stitching.test_registered import LARGE, PUBLISHED, published
from zoo.errors import ConversionError, PickleRefusedError
from zoo.weights.converters.stitch import convert_official, infer_variant
from zoo.weights.converters.stitch_anchors import family_of


@pytest.mark.parametrize("name", OPEN)
def test_the_report_of_a_network_of_any_size_rebuilds_it(name: str) -> None:
    """Of the golden sizes everything but the heads of a ViT is read off the tensors."""
    converted = zoo.weights.convert(official_state(name), OPEN[name])
    report, (facts, data) = converted.report, golden(name)
    assert (report.num_classes, report.in_chans) == (facts["kwargs"]["num_classes"], 3)
    net = zoo.create_model(OPEN[name], num_classes=report.num_classes, **report.options).eval()
    net.load_state_dict(converted, strict=True)
    ours = network_of(name)
    assert net._rules == ours._rules
    assert (net.stitch_norm, net.lora_rank) == (ours.stitch_norm, ours.lora_rank)
    if name == "snnet_swin_tiny":  # whose heads are in the tensors
        for row in facts["configs"]:
            logits = net(data["in.x"], stitch=row["id"])
            torch.testing.assert_close(logits, data[f"out.logits.{row['id']}"], rtol=2e-4, atol=2e-5)
        assert not [note for note in report.notes if "heads" in note]
    else:
        assert any("weights do not tell how many heads" in note for note in report.notes)


def test_what_is_said_of_names() -> None:
    swin = official_state("snnet_swin_tiny")
    swin["anchors.0.layers.0.blocks.1.attn_mask"] = torch.zeros(1)
    swin["anchors.0.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(1)
    made, notes = convert_official(swin)
    assert not [key for key in made if "attn_mask" in key or "relative_position_index" in key]
    assert any(note.startswith("anchor 0: dropped 2 buffers that are computed") for note in notes)
    assert any("merged at the start of a stage" in note for note in notes)
    assert "anchors.2.layers.1.downsample.reduction.weight" in made
    assert "anchors.2.head.fc.weight" in made
    scaled, notes = convert_official(official_state("snnetv2_tiny"))
    assert "anchors.1.blocks.7.ls2.gamma" in scaled
    assert any("gamma_1, gamma_2" in note for note in notes)


@pytest.mark.parametrize("name", OPEN)
def test_our_own_layout_stays(name: str) -> None:
    ours = network_of(name).state_dict()
    made, _ = convert_official(ours)
    assert made.keys() == ours.keys()
    assert all(torch.equal(made[key], ours[key]) for key in ours)


def test_a_levit_of_its_authors_gives_the_same_in_timm() -> None:
    facts = json.loads((FOLDER / "levit_tiny.json").read_text())
    data = load_file(FOLDER / "levit_tiny.safetensors")
    state = {k.removeprefix("state."): v for k, v in data.items() if k.startswith("state.")}
    assert any(key.endswith("attention_bias_idxs") for key in state)
    state = {key: value for key, value in state.items() if not key.endswith("attention_bias_idxs")}
    family = family_of(state, 0)
    made, notes = family.convert(state)
    assert notes
    spec = family.spec(made)
    assert isinstance(spec, dict)
    kwargs = facts["kwargs"]
    assert {key: spec[key] for key in kwargs if key != "num_classes"} == {k: kwargs[k] for k in kwargs if k in spec}
    model = timm.create_model(**{"model_name": spec.pop("name"), **spec}, num_classes=kwargs["num_classes"]).eval()
    model.load_state_dict(made, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(model(data["in.x"]), data["out.logits"], **facts["tolerance"])


def official_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names of the authors' Swin, of timm's."""
    made = {}
    for key, value in state.items():
        part = key.split(".")
        if "downsample" in part:
            at = part.index("downsample") - 1
            part[at] = str(int(part[at]) - 1)
        made[".".join(part).replace(".head.fc.", ".head.")] = value
    return made


_EVERY_DAY = [name for name in PUBLISHED if name not in LARGE]
_LARGE = [pytest.param(name, marks=pytest.mark.ci_long) for name in LARGE]


@pytest.mark.parametrize("name", [*_EVERY_DAY, *_LARGE])
def test_published_sizes_are_recognised(name: str) -> None:
    """On the meta device: the tensors of each published network are told apart, by its name and by any."""
    net = published(name)
    state = net.state_dict()
    if "swin" in name:
        old = {k: v for k, v in state.items() if k.startswith("anchors.") and (".layers." in k or ".head.fc" in k)}
        state = {k: v for k, v in state.items() if k not in old} | official_names(old)
    converted = zoo.weights.convert(state, name)
    parameters = dict(net.named_parameters())
    assert sum(value.numel() for key, value in converted.items() if key in parameters) == PUBLISHED[name][1]
    assert converted.report.options == {}
    found = infer_variant(converted, "snnet")
    assert found["anchors"] == list(net.anchor_names)
    rules = {key: found[key] for key in net._rules if key in found}
    assert rules == {key: value for key, value in net._rules.items() if key in found}
    assert found.get("lora_rank", 0) == net.lora_rank
    assert found.get("stitch_norm", True) == net.stitch_norm


def test_a_kernel_of_a_map_is_a_matrix_where_tokens_are_stitched() -> None:
    state = official_state("snnet_vit_tiny")
    as_kernel = {k: v[..., None, None] if k.startswith("stitch") and v.ndim == 2 else v for k, v in state.items()}
    made, _ = convert_official(as_kernel)
    assert all(torch.equal(made[key], state[key]) for key in state if key.startswith("stitch"))


def test_other_numbers_of_layers_say_by_which_rules_they_fit() -> None:
    options = {"anchors": ["deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224"]}
    with torch.device("meta"):
        wide = zoo.create_model("snnet_deit", **options, cuts="paired", kernel_size=3, stride=3).state_dict()
        every = zoo.create_model("snnet_deit", **options, nearest=False).state_dict()
    with pytest.raises(ConversionError, match=r"\[4, 4\] stitching layers .* model \[11, 11\]; .*kernel_size=3, st"):
        zoo.weights.convert(wide, "snnet_deit_ti_s_b")
    with pytest.raises(ConversionError, match=r"\[11, 11, 11\] stitching layers .*nearest=False"):
        zoo.weights.convert(every, "snnet_deit_ti_s_b")
    without = {key: value for key, value in wide.items() if key != "stitch_layers.0.3.transform.weight"}
    with pytest.raises(ConversionError, match=r"\[3, 4\] .* with no kernel_size, stride"):
        zoo.weights.convert(without, "snnet_deit_ti_s_b")


def test_what_is_no_stitched_network() -> None:
    with pytest.raises(ConversionError, match=r"2 of 2 names are not a stitched network's .*: a, blocks\.0"):
        convert_official({"a": torch.zeros(1), "blocks.0": torch.zeros(1)})
    one = {k: v for k, v in official_state("snnet_vit_tiny").items() if k.startswith("anchors.0.")}
    with pytest.raises(ConversionError, match=r"two or more; found \[0\]"):
        convert_official(one)
    with pytest.raises(ConversionError, match=r"anchor 0 is none of Swin.*it has encoder\.x"):
        convert_official({"anchors.0.encoder.x": torch.zeros(1), "anchors.1.encoder.x": torch.zeros(1)})


def container(state: dict[str, Any]) -> dict[str, Any]:
    return {"model": OrderedDict(state), "optimizer": {"state": {}}, "epoch": 49, "scaler": {}}


def test_on_disk(tmp_path: Path) -> None:
    state = official_state("snnet_vit_tiny")
    torch.save({**container(state), "args": argparse.Namespace(lr=1e-4)}, tmp_path / "snnet_tiny.pth")
    with pytest.raises(PickleRefusedError, match="allow_pickle"):
        zoo.weights.convert_file(tmp_path / "snnet_tiny.pth", tmp_path / "out", "snnet_deit")
    report = zoo.weights.convert_file(tmp_path / "snnet_tiny.pth", tmp_path / "out", "snnet_deit", allow_pickle=True)
    assert report.tensors == len(state)
    net = zoo.create_model(f"local-dir:{tmp_path / 'out'}", stitch=4)
    assert net.stitch == 4
    assert (net.num_classes, net.stitch_norm, net._rules["cuts"]) == (7, False, "paired")
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


class Config(dict):
    """As the released Swin network has one beside its weights: yacs's, which is a dict with attributes of its own."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.frozen = True


def test_settings_of_other_packages_are_left_alone(tmp_path: Path) -> None:
    state = official_state("snnet_swin_tiny")
    torch.save({**container(state), "config": Config(MODEL=Config(TYPE="swin"))}, tmp_path / "snnet_swin.pth")
    with pytest.raises(PickleRefusedError, match="allow_pickle"):
        zoo.weights.convert_file(tmp_path / "snnet_swin.pth", tmp_path / "out", "snnet_swin")
    with pytest.warns(UserWarning, match=r"read as plain values, without their classes: tests\..*\.Config$"):
        zoo.weights.convert_file(tmp_path / "snnet_swin.pth", tmp_path / "out", "snnet_swin", allow_pickle=True)
    net = zoo.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    facts, data = golden("snnet_swin_tiny")
    for row in facts["configs"]:
        logits = net(data["in.x"], stitch=row["id"])
        torch.testing.assert_close(logits, data[f"out.logits.{row['id']}"], rtol=2e-4, atol=2e-5)


class Code:
    """What runs when it is read."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit",)


def test_pickles_with_code_are_refused_even_then(tmp_path: Path) -> None:
    torch.save({**container(official_state("snnet_vit_tiny")), "config": Code()}, tmp_path / "snnet.pth")
    with pytest.raises(PickleRefusedError, match="holds more than tensors"):
        zoo.weights.convert_file(tmp_path / "snnet.pth", tmp_path / "out", "snnet_deit", allow_pickle=True)
    assert not (tmp_path / "out").exists()
