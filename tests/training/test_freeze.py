"""What is frozen stays as it is, bit for bit; what is not learns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from zoo.training.freeze import FreezePlan, FreezeSpec, classifier_names, frozen_names, train_mode


def changed(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_linear_probe_changes_the_classifier_alone(tmp_path: Path) -> None:
    model = tiny_net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    zoo.finetune(model, few_digits(), out=tmp_path, freeze="backbone", **QUICK)
    assert changed(before, model.state_dict()) == {"fc.weight", "fc.bias"}  # batch norm's statistics among the rest
    assert all(p.requires_grad for p in model.parameters())  # given back as it was


def test_frozen_parameters_get_no_optimiser_state(tmp_path: Path) -> None:
    from safetensors import safe_open

    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, freeze="backbone", **QUICK)
    newest = max((tmp_path / "checkpoints").iterdir())
    with safe_open(newest / "optim.safetensors", "pt") as file:
        assert len(file.keys()) == 2 * 3  # exp_avg, exp_avg_sq and step of fc.weight and fc.bias


def test_gradual_unfreezing(tmp_path: Path) -> None:
    model = tiny_net()
    snapshots: list[dict[str, torch.Tensor]] = [{k: v.clone() for k, v in model.state_dict().items()}]
    options = {**QUICK, "epochs": 3}
    zoo.finetune(
        model, few_digits(), out=tmp_path, freeze="backbone", unfreeze={1: ["stem.*"], 2: None}, keep_last=3, **options
    )
    from safetensors.torch import load_file

    snapshots += [load_file(p / "model.safetensors") for p in sorted((tmp_path / "checkpoints").iterdir())]
    moved = [{n.split(".")[0] for n in changed(a, b)} for a, b in itertools.pairwise(snapshots)]
    assert moved == [{"fc"}, {"fc", "body"}, {"fc", "body", "stem"}]


def test_groups_are_counted_like_slices() -> None:
    model = tiny_net()
    assert {n.split(".")[0] for n in frozen_names(model, "blocks:1")} == {"stem"}
    assert {n.split(".")[0] for n in frozen_names(model, "blocks:-1")} == {"stem", "body"}
    assert frozen_names(model, "blocks:-2") == frozen_names(model, "blocks:1")
    vit = timm.create_model("test_vit", num_classes=3)
    trained = {n for n, _ in vit.named_parameters()} - frozen_names(vit, "blocks:-2")
    assert {n.split(".")[0] for n in trained} == {"blocks", "norm", "head"}
    assert {n.split(".")[1] for n in trained if n.startswith("blocks")} == {"5"}


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "deit_tiny_distilled_patch16_224"])
def test_classifier_is_found(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=3)
    heads = classifier_names(model)
    free = {n for n, _ in model.named_parameters()} - frozen_names(model, "backbone")
    assert free == {f"{h}.{p}" for h in heads for p in ("weight", "bias")}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("blocks:-3", "this model has 3 groups; use ±1 to ±2"),
        ("blocks:0", "use ±1"),
        ("blocks:x", "whole number after 'blocks:'"),
        ("backbones", "matches no parameter; did you mean 'backbone'"),
        (["stem.*", "bodi.*"], "'bodi.*' matches no parameter"),
        ("*", "nothing would be learned"),
    ],
)
def test_specs_that_cannot_be_used(spec: FreezeSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("*", r"\*").replace("±", "±")):
        frozen_names(tiny_net(), spec)


def test_near_names_of_stitched_networks() -> None:
    with pytest.raises(ValueError, match="'anchor' matches no parameter; did you mean 'anchors'"):
        frozen_names(zoo.create_model("snnet_vit_nano"), "anchor")


def test_models_that_cannot_be_probed() -> None:
    headless = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="needs a model with a classifier"):
        frozen_names(headless, "backbone")
    with pytest.raises(ValueError, match="needs a model with group_matcher"):
        frozen_names(headless, "blocks:-1")
    model = tiny_net().requires_grad_(False)
    with pytest.raises(ValueError, match="every parameter of the model has requires_grad=False"):
        FreezePlan(model)
    with pytest.raises(ValueError, match="Identity has no parameters: nothing would be learned"):
        FreezePlan(nn.Identity())
    with pytest.raises(
        ValueError, match=r"a memory learns by storing, model\.store\(images, labels\); with learnable=True"
    ):
        FreezePlan(zoo.create_model("hopfield_memory"))
    FreezePlan(zoo.create_model("hopfield_memory", learnable=True, num_patterns=4))
    with pytest.raises(ValueError, match="epochs are whole numbers from 1, got 0"):
        FreezePlan(tiny_net(), "backbone", {0: None})


def test_what_the_caller_froze_stays_frozen() -> None:
    model = tiny_net()
    model.stem[0].weight.requires_grad_(False)
    plan = FreezePlan(model, "backbone", {2: None})
    assert "stem.0.weight" not in plan.ever_trained()
    plan.apply(5)
    assert not model.stem[0].weight.requires_grad
    assert model.body[0].weight.requires_grad
    plan.apply(0)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}
    plan.restore()
    assert not model.stem[0].weight.requires_grad
    assert sum(not p.requires_grad for p in model.parameters()) == 1


def test_training_mode_leaves_frozen_modules_alone() -> None:
    model = tiny_net()
    FreezePlan(model, "blocks:1").apply(0)
    train_mode(model)
    assert not model.stem[1].training
    assert model.body[1].training
    assert model.drop.training
