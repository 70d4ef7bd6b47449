"""LoRA: what learns is small, what is saved and returned is a plain model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from tests.training.test_processes import launch
from zoo.errors import MissingExtraError, TrainingError
from zoo.training.lora import Adapters, resolve_lora

peft = pytest.importorskip("peft")

VIT: dict[str, Any] = {**QUICK, "img_size": 32, "lora": {"r": 4, "target": ["qkv", "fc1"]}}


def vit(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return timm.create_model("test_vit", num_classes=10, img_size=32)


def kinds(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """Which kinds of parameters differ from `before`, without block numbers."""
    import re

    after = model.state_dict()
    assert after.keys() == before.keys()
    return {re.sub(r"^.*\.\d+\.", "", n) for n in before if not torch.equal(before[n], after[n])}


def test_only_adapted_layers_and_the_classifier_change_and_the_result_is_plain(tmp_path: Path) -> None:
    model = vit()
    model.norm.weight.requires_grad_(False)  # type: ignore[union-attr]
    before = {n: t.clone() for n, t in model.state_dict().items()}
    result = zoo.finetune(model, few_digits(), out=tmp_path, **VIT)
    assert result.model is model
    assert kinds(model, before) == {"attn.qkv.weight", "mlp.fc1.weight", "head.weight", "head.bias"}
    rank = torch.linalg.matrix_rank(model.blocks[0].attn.qkv.weight - before["blocks.0.attn.qkv.weight"], atol=1e-6)  # type: ignore[union-attr, index, operator]
    assert 1 <= int(rank) <= 4
    assert not any("lora" in type(m).__module__ or "peft" in type(m).__module__ for m in model.modules())
    assert "peft_config" not in vars(model)
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["norm.weight"]  # as the caller had it
    config = json.loads((tmp_path / "args.json").read_text())["options"]["lora"]
    assert config == {"r": 4, "alpha": 8, "dropout": 0.0, "target": ["qkv", "fc1"]}


def test_best_loads_without_peft(tmp_path: Path) -> None:
    options = {**VIT, "ema": 0.9, "epochs": 2}
    result = zoo.finetune("test_vit", few_digits(), out=tmp_path / "run", **options)
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = result.model(images)
    torch.save(images, tmp_path / "images.pt")
    code = """
import sys, torch
sys.modules["peft"] = None
import zoo
model = zoo.create_model("local-dir:" + sys.argv[1] + "/run/best").eval()
with torch.no_grad():
    torch.save(model(torch.load(sys.argv[1] + "/images.pt")), sys.argv[1] + "/answer.pt")
"""
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert ran.returncode == 0, ran.stderr
    assert torch.equal(torch.load(tmp_path / "answer.pt"), expected)
    measured = zoo.evaluate(tmp_path / "run", few_digits(), progress=False)
    assert measured["accuracy"] == result.metrics["accuracy"]


def test_it_learns_and_what_was_measured_is_what_is_kept(tmp_path: Path) -> None:
    options = {**VIT, "lora": 8, "epochs": 4, "lr": 3e-3, "aug": "none"}
    result = zoo.finetune(vit(), few_digits(train=600, val=180), out=tmp_path, **options)
    best = result.history[result.best_epoch - 1]
    assert result.val_metrics is not None
    # In training the adapters are beside the weights, afterwards in them.
    assert result.val_metrics["loss"] == pytest.approx(best["val_loss"], abs=1e-4)
    assert result.val_metrics["accuracy"] == pytest.approx(best["val_accuracy"], abs=0.01)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"] - 0.2


def test_checkpoints_hold_what_learns(tmp_path: Path) -> None:
    zoo.finetune(vit(), few_digits(), out=tmp_path, ema=0.9, **VIT)
    newest = max((tmp_path / "checkpoints").iterdir())
    for file in ("model", "ema"):
        names = set(load_file(newest / f"{file}.safetensors"))
        assert {n.rpartition(".")[0] for n in names if "lora_" not in n} == {"head"}
        assert len([n for n in names if "lora_" in n]) == 6 * 2 * 2
    with safe_open(newest / "optim.safetensors", "pt") as file:
        assert len(file.keys()) == 3 * (6 * 2 * 2 + 2)
    whole = sum(p.numel() * 4 for p in vit().parameters())
    assert sum(f.stat().st_size for f in newest.iterdir()) < whole / 2


@pytest.mark.parametrize("options", [{}, {"layer_decay": 0.7, "amp": "bf16", "mixup": 0.3, "accum": 2, "ema": 0.9}])
def test_resuming_ends_in_the_same_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    settings = {**VIT, "lora": {"r": 4, "dropout": 0.1}, "save_every": 1, "keep_last": 99, **options}
    whole = zoo.finetune(vit(), few_digits(), out=tmp_path / "a", **settings)
    saved = sorted((tmp_path / "a" / "checkpoints").iterdir())
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "best")
    for path in saved[1:]:
        shutil.rmtree(tmp_path / "b" / "checkpoints" / path.name)
    again = zoo.finetune(vit(), few_digits(), out=tmp_path / "b", **settings)
    for file in ("model", "optim"):
        one, two = (load_file(tmp_path / run / "checkpoints" / saved[-1].name / f"{file}.safetensors") for run in "ab")
        assert all(torch.equal(one[name], two[name]) for name in one)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    with pytest.raises(TrainingError, match="the model's own weights are not those that the run"):
        zoo.finetune(vit(seed=1), few_digits(), out=tmp_path / "a", **settings)


def test_layer_decay_and_freeze_hold_for_adapters(tmp_path: Path) -> None:
    model = vit()
    adapters = Adapters(model, {"r": 4, "alpha": 8, "dropout": 0.0, "target": None}, torch.randn(2, 3, 32, 32))
    from zoo.training.optimise import build_optimiser

    optimiser = build_optimiser(model, "adamw", 1e-3, weight_decay=0.05, layer_decay=0.5)
    scale = {id(p): group["lr_scale"] for group in optimiser.param_groups for p in group["params"]}
    names = {n: scale[id(p)] for n, p in model.named_parameters() if p.requires_grad}
    assert names["head.weight"] == 1.0
    for block in range(6):
        assert names[f"blocks.{block}.attn.qkv.lora_A.default.weight"] == pytest.approx(0.5 ** (6 - block))
    assert len(names) == len(scale)
    adapters.take_off()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    zoo.finetune(model, few_digits(), out=tmp_path, freeze="blocks:-3", **{**VIT, "lora": 4})
    changed = {
        n.split(".")[1] for n, t in model.state_dict().items() if "blocks" in n and not torch.equal(t, before[n])
    }
    assert changed == {"4", "5"}  # the last group is norm and head
    assert not torch.equal(model.state_dict()["head.weight"], before["head.weight"])
    with pytest.raises(ValueError, match="lora trains adapters in the backbone, freeze='backbone' would fix them"):
        zoo.finetune(vit(), few_digits(), out=tmp_path / "b", freeze="backbone", **VIT)


def test_layers_of_ours_learn_as_a_whole(tmp_path: Path) -> None:
    model = zoo.create_model("medvit2_kan_nano", num_classes=10)
    adapters = Adapters(model, {"r": 2, "alpha": 4, "dropout": 0.0, "target": None}, torch.randn(2, 3, 64, 64))
    learns = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n in learns if ".kan." in n} == {n for n, _ in model.named_parameters() if ".kan." in n}
    assert not any("lora" in n for n in learns if ".kan." in n)
    assert all(n in learns for n, _ in model.named_parameters() if n.endswith("rpb"))
    assert any(n.endswith("attn.qkv.lora_A.default.weight") for n in learns)
    assert not any(n.endswith("base_layer.weight") or ".conv.conv.0." in n for n in learns)
    adapters.take_off()
    del tmp_path


class ReadsWeights(nn.Module):
    """A layer like BEiT's, which reads the weights of its linear layer instead of calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(nn.functional.linear(x, self.qkv.weight, self.qkv.bias))


def reading_net() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), ReadsWeights(), nn.Linear(64, 10))
    model.pretrained_cfg = {  # type: ignore[assignment]
        "input_size": (1, 8, 8), "mean": (0.5,), "std": (0.5,), "classifier": "2",
    }  # fmt: skip
    return model


def test_layers_that_are_not_called_get_no_adapter(tmp_path: Path) -> None:
    model = reading_net()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    zoo.finetune(model, few_digits(), out=tmp_path / "a", lora=2, **QUICK)
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"1.proj.weight", "2.weight", "2.bias"}
    with pytest.raises(ValueError, match=r"reads the weights of '1\.qkv' itself.*It calls 1\.proj \(1\)"):
        zoo.finetune(reading_net(), few_digits(), out=tmp_path / "b", lora={"target": ["qkv"]}, **QUICK)


def test_targets_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"target 'qkw' matches no linear layer; did you mean 'qkv'.*"
        r"The model has attn\.qkv \(6\), attn\.proj \(6\), mlp\.fc1 \(6\), mlp\.fc2 \(6\)",
    ):
        zoo.finetune(vit(), few_digits(), out=tmp_path / "a", **{**VIT, "lora": {"target": ["qkw"]}})
    model = tiny_net()
    with pytest.raises(ValueError, match="lora needs linear layers outside the classifier that the model calls"):
        zoo.finetune(model, few_digits(), out=tmp_path / "b", lora=8, **QUICK)
    assert all(p.requires_grad for p in model.parameters())
    assert model.training


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0, "a rank from 1 such as 8"),
        (True, "a rank from 1 such as 8"),
        ("8", "a rank from 1 such as 8"),
        ({"rank": 8}, "lora has no option 'rank'; it has r, alpha, dropout, target"),
        ({"alpha": -1}, "alpha must be a positive number, got -1"),
        ({"dropout": 1.0}, "dropout must be a number from 0 and below 1"),
        ({"target": []}, "target must be None, or names of layers"),
    ],
)
def test_values_out_of_range(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_lora(given)


def test_an_error_leaves_a_plain_model(tmp_path: Path) -> None:
    model = vit()
    names = set(model.state_dict())
    with pytest.raises(ValueError, match="matches no parameter"):
        zoo.finetune(model, few_digits(), out=tmp_path, freeze="nothing.*", **VIT)
    assert set(model.state_dict()) == names
    assert all(p.requires_grad for p in model.parameters())


def test_merging_keeps_the_answers() -> None:
    model = vit().eval()
    names, images = set(model.state_dict()), torch.randn(3, 3, 32, 32)
    peft.inject_adapter_in_model(peft.LoraConfig(r=4, target_modules=["qkv", "fc2"]), model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
        expected = model(images)
        assert zoo.merge_lora(model) is model
        assert set(model.state_dict()) == names
        assert torch.allclose(model(images), expected, atol=1e-5)
    with pytest.raises(ValueError, match="VisionTransformer has no LoRA adapters"):
        zoo.merge_lora(model)
    wrapped = peft.get_peft_model(vit().eval(), peft.LoraConfig(r=4, target_modules=["qkv"]))
    assert set(zoo.merge_lora(wrapped).state_dict()) == names


def test_without_peft_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"lora=….*'peft'.*\[lora\]"):
        zoo.finetune(vit(), few_digits(), out=tmp_path, **VIT)


SCRIPT = """
import json, sys
from tests.training.test_lora import few_digits, vit
import zoo
result = zoo.finetune(vit(), few_digits(), out=sys.argv[1], **json.loads(sys.argv[2]))
print(json.dumps(result.metrics))
"""


@pytest.mark.ci_long
def test_two_processes_equal_one(tmp_path: Path) -> None:
    options = {**VIT, "opt": "sgd", "lr": 0.05, "lora": 4}
    alone = zoo.finetune(vit(), few_digits(), out=tmp_path / "one", **options)
    answers = launch(tmp_path / "two", script=SCRIPT, **{**options, "batch_size": 8})
    assert answers[0] == answers[1]
    assert answers[0]["loss"] == pytest.approx(alone.metrics["loss"], abs=1e-4)
