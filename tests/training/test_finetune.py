"""What `zoo.finetune` promises: selection, early stopping, EMA, class weights, mixing, what it leaves behind."""

from __future__ import annotations

import csv
import inspect
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from tests.training.helpers import QUICK, TinyNet, few_digits, tiny_net, two_shades
from zoo.errors import DataError, TrainingError
from zoo.training.data import ArrayImages, Splits
from zoo.training.loss import build_loss, build_mixup, resolve_class_weights


def test_linear_probe_of_random_features_on_an_easy_set(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = zoo.create_model("resnet10t", num_classes=2)
    data = {"train": two_shades(120, seed=0), "val": two_shades(40, seed=1), "test": two_shades(60, seed=2)}
    result = zoo.finetune(
        model, data, out=tmp_path, epochs=8, batch_size=16, freeze="backbone", img_size=32, aug="none", progress=False
    )
    assert result.metrics["accuracy"] > 0.95
    assert result.metrics["split"] == "test"


def test_a_whole_run_of_a_named_model(tmp_path: Path) -> None:
    result = zoo.finetune(
        "test_resnet", few_digits(), out=tmp_path, img_size=32, **{**QUICK, "lr": 1e-3}, model_args={"in_chans": 1}
    )
    assert {p.name for p in tmp_path.iterdir()} == {
        "args.json",
        "best",
        "checkpoints",
        "history.csv",
        "history.json",
        "metrics.json",
    }
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["val_accuracy"]) == result.history[1]["val_accuracy"]
    args = json.loads((tmp_path / "args.json").read_text())
    assert args["model"] == "test_resnet"
    assert args["data"]["images"] == {"train": 96, "val": 40, "test": 40}
    assert args["options"]["lr"] == 1e-3
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert np.array(metrics["test"]["confusion"]).sum() == 40
    assert metrics["test"]["accuracy"] == result.metrics["accuracy"]

    again = zoo.create_model(f"local-dir:{tmp_path / 'best'}").eval()
    assert again.pretrained_cfg["label_names"] == tuple("0123456789")
    assert zoo.data_config(again)["input_size"] == (1, 32, 32)
    images = torch.randn(4, 1, 32, 32)
    assert not result.model.training
    with torch.no_grad():
        assert torch.equal(again(images), result.model(images))
    config = json.loads((tmp_path / "best" / "config.json").read_text())
    assert {row["name"]: row["value"] for row in config["zoo"]["metrics"]}["accuracy"] == result.metrics["accuracy"]
    assert config["zoo"]["training"]["data"] == {"name": "few", "split": "train", "samples": 96}
    measured = zoo.evaluate(tmp_path, few_digits())
    assert {k: pytest.approx(v, abs=1e-6) if isinstance(v, float) else v for k, v in measured.items()} == result.metrics


def test_what_is_said_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, freeze="backbone", **{**QUICK, "epochs": 1, "progress": True})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "zoo: tinynet, 10,026 parameters (5,130 learn); few: 96 train, 40 val, 40 test images, 10 classes; "
        "adamw, lr 0.005, cpu"
    )
    assert lines[1].startswith("epoch 1/1: loss ")
    assert "holds the weights alone, for zoo.load_weights: the model was not made by a registered name" in lines[2]
    assert lines[3].startswith("zoo: best epoch 1: accuracy ")


def test_a_model_that_cannot_be_described_is_trained_all_the_same(tmp_path: Path) -> None:
    model = zoo.create_model("test_resnet", num_classes=10, act_layer=nn.SiLU)
    result = zoo.finetune(model, few_digits(), out=tmp_path, img_size=32, **{**QUICK, "epochs": 1})
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["model.safetensors"]
    assert result.metrics["samples"] == 40


def test_training_learns(tmp_path: Path) -> None:
    result = zoo.finetune(
        tiny_net(), few_digits(train=600, test=200), out=tmp_path, **{**QUICK, "epochs": 6}, aug="none"
    )
    assert result.metrics["accuracy"] > 0.85
    assert result.history[-1]["train_loss"] < 0.5 * result.history[0]["train_loss"]


def test_best_epoch_is_kept_not_the_last(tmp_path: Path) -> None:
    # A learning rate that wrecks the model after a warm-up: the early epochs are the best.
    options = {**QUICK, "epochs": 5, "lr": 3.0, "clip_grad": None, "sched": "constant", "warmup_epochs": 4}
    result = zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **options, opt="sgd")
    accuracies = [row["val_accuracy"] for row in result.history]
    best = max(accuracies)
    assert result.val_metrics is not None
    assert result.val_metrics["accuracy"] == best
    assert result.best_epoch == max(range(1, 6), key=lambda e: (accuracies[e - 1], -result.history[e - 1]["val_loss"]))


def test_early_stop_counts_epochs_without_improvement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_net()
    options = {**QUICK, "epochs": 20, "lr": 1e-12, "progress": True}
    result = zoo.finetune(model, few_digits(), out=tmp_path, early_stop=2, monitor="f1", aug="none", **options)
    assert len(result.history) == result.best_epoch + 2
    assert len(result.history) < 20
    assert "f1 has not improved for 2 epochs: stopped early" in capsys.readouterr().err


@pytest.mark.parametrize(("monitor", "sign"), [("loss", -1), ("ece", -1), ("balanced_accuracy", 1)])
def test_monitor_chooses_the_epoch(tmp_path: Path, monitor: str, sign: int) -> None:
    result = zoo.finetune(tiny_net(), few_digits(), out=tmp_path, monitor=monitor, **{**QUICK, "epochs": 4})
    values = [sign * row[f"val_{monitor}"] for row in result.history]
    assert values[result.best_epoch - 1] == max(values)


def test_grades_are_measured_as_grades(tmp_path: Path) -> None:
    def graded(split: Any) -> ArrayImages:
        images = np.stack([split.image(i) for i in range(len(split))])
        return ArrayImages(images, split.labels, split.classes, name=split.name, flip=False, ordinal=True)

    data = {name: graded(split) for name, split in few_digits().present().items()}
    result = zoo.finetune(tiny_net(), data, out=tmp_path, monitor="mae", **{**QUICK, "epochs": 4})
    values = [row["val_mae"] for row in result.history]
    assert values[result.best_epoch - 1] == min(values)
    assert "quadratic_kappa" in result.metrics
    with pytest.raises(ValueError, match="monitor must be 'auto' or one of accuracy, auprc"):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "b", monitor="mae", **QUICK)


def test_without_validation_the_last_epoch_is_the_best(tmp_path: Path) -> None:
    splits = Splits("few", few_digits().train)
    result = zoo.finetune(tiny_net(), splits, out=tmp_path, val=False, **QUICK)
    assert result.best_epoch == 2
    assert result.metrics == {}
    assert not any(key.startswith("val_") for row in result.history for key in row)


def test_moving_average_is_measured_and_may_win(tmp_path: Path) -> None:
    # With a rate this high the raw weights jump about and their mean is the better model.
    options = {**QUICK, "epochs": 6, "lr": 0.05, "sched": "constant", "batch_size": 8}
    result = zoo.finetune(tiny_net(), few_digits(train=300), out=tmp_path, ema=0.9, **options)
    assert all("ema_accuracy" in row and "val_accuracy" in row for row in result.history)
    best = result.history[result.best_epoch - 1]
    assert result.val_metrics is not None
    assert result.val_metrics["accuracy"] == best[f"{best['best']}_accuracy"]
    assert max(max(r["val_accuracy"], r["ema_accuracy"]) for r in result.history) == result.val_metrics["accuracy"]
    assert any(row.get("best") == "ema" for row in result.history)


def test_moving_average_follows_its_formula(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, ema=0.5, save_every=1, keep_last=99, **{**QUICK, "epochs": 1})
    saved = sorted((tmp_path / "checkpoints").iterdir())
    assert len(saved) == 6
    for step, (before, after) in enumerate(itertools.pairwise(saved), start=2):
        mean, model = load_file(before / "ema.safetensors"), load_file(after / "model.safetensors")
        decay = min(0.5, 1 - (1 + (step - 1)) ** (-2 / 3))  # timm's warm-up of the decay
        expected = decay * mean["fc.weight"] + (1 - decay) * model["fc.weight"]
        assert torch.allclose(load_file(after / "ema.safetensors")["fc.weight"], expected, atol=1e-6), step


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path) -> None:
    def run(folder: Path, **options: Any) -> nn.Module:
        model = tiny_net()
        model.stem[1], model.body[1], model.drop = nn.Identity(), nn.Identity(), nn.Identity()
        common = {**QUICK, "epochs": 2, "opt": "sgd", "lr": 0.05, "val": False}
        return zoo.finetune(model, Splits("few", few_digits(train=60).train), out=folder, **{**common, **options}).model

    large = run(tmp_path / "a", batch_size=24)
    small = run(tmp_path / "b", batch_size=8, accum=3)  # the last update has 12 images: 8 and 4
    for (name, one), two in zip(large.named_parameters(), small.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-6), name


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = zoo.finetune("test_resnet", few_digits(), out=tmp_path / "a", img_size=32, **QUICK).model
    torch.manual_seed(2)
    expected = torch.rand(3)
    torch.manual_seed(2)
    two = zoo.finetune("test_resnet", few_digits(), out=tmp_path / "b", img_size=32, **QUICK).model
    assert torch.equal(torch.rand(3), expected)  # the caller's generator is where it was
    other = zoo.finetune("test_resnet", few_digits(), out=tmp_path / "c", img_size=32, seed=1, **QUICK).model
    ours = one.state_dict()
    assert all(torch.equal(v, ours[k]) for k, v in two.state_dict().items())
    assert not torch.equal(other.state_dict()["fc.weight"], ours["fc.weight"])


@pytest.mark.parametrize(
    "options",
    [
        {"mixup": 0.4},
        {"cutmix": 1.0},
        {"mixup": 0.2, "cutmix": 0.2},
        {"amp": "bf16"},
        {"aug": "timm"},
        {"layer_decay": 0.7},
        {"label_smoothing": 0.1, "class_weights": "balanced"},
        {"opt": "sgd", "sched": "linear"},
    ],
)
def test_each_feature_runs_and_learns(tmp_path: Path, options: dict[str, Any]) -> None:
    result = zoo.finetune(
        tiny_net(), few_digits(train=320), out=tmp_path, **{**QUICK, "epochs": 3, "lr": "auto", **options}
    )
    assert np.isfinite([row["train_loss"] for row in result.history]).all()
    assert result.history[-1]["val_loss"] < result.history[0]["val_loss"]


def test_several_labels_an_image(tmp_path: Path) -> None:
    whole = few_digits(train=400, val=120).present()

    def several(split: Any, name: str) -> ArrayImages:
        labels = np.stack([split.labels % 2, split.labels > 4, split.labels % 3 == 0], 1)
        images = np.stack([split.image(i) for i in range(len(split))])
        return ArrayImages(images, labels, ["odd", "large", "third"], name=name, flip=False)

    data = {k: several(v, k) for k, v in whole.items()}
    result = zoo.finetune(
        tiny_net(num_classes=3), data, out=tmp_path, class_weights="balanced", **{**QUICK, "epochs": 6}
    )
    assert result.monitor == "auroc"
    assert result.metrics["auroc"] > 0.8
    numbers = {"loss", "accuracy", "exact", "f1", "f1_micro", "auroc", "auprc", "ece"}
    assert set(result.metrics) == {"split", "dataset", "samples", *numbers}
    image = whole["test"].image(0)
    answer = zoo.predict(result.model, image, top=3)[0]
    with torch.no_grad():
        logits = result.model((torch.from_numpy(image).float()[None, None] / 255 - 0.5) / 0.5)
    expected = sorted(logits.sigmoid()[0].tolist(), reverse=True)
    assert [t["probability"] for t in answer["top"]] == pytest.approx(expected, abs=1e-5)


def test_grey_images_for_a_model_of_three_channels(tmp_path: Path) -> None:
    result = zoo.finetune(tiny_net(in_chans=3), few_digits(), out=tmp_path, **QUICK)
    assert zoo.data_config(result.model)["input_size"] == (3, 8, 8)


def test_ready_tensors_are_left_alone(tmp_path: Path) -> None:
    images = torch.randn(40, 1, 8, 8) * 3
    labels = [i % 2 for i in range(40)]
    pairs = list(zip(images, labels, strict=True))
    result = zoo.finetune(tiny_net(num_classes=2), pairs, out=tmp_path, transform=None, **QUICK)
    assert len(result.history) == 2
    with pytest.raises(DataError, match="transform=None"):
        zoo.finetune(tiny_net(num_classes=2), pairs, out=tmp_path / "b", **QUICK)


# ------------------------------------------------------------------------------------------------------ class numbers


def test_a_model_of_another_size_gets_a_new_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_net(num_classes=7)
    result = zoo.finetune(model, few_digits(), out=tmp_path, **{**QUICK, "progress": True})
    assert result.model is model
    assert model.fc.out_features == 10
    assert "the model had 7 outputs, the data has 10 classes: new classifier" in capsys.readouterr().err


def test_a_model_that_cannot_change_is_refused(tmp_path: Path) -> None:
    model = tiny_net(num_classes=7)
    model.reset_classifier = None  # type: ignore[assignment]
    with pytest.raises(DataError, match="tinynet has 7 classes, train has 10, and the model has no reset_classifier"):
        zoo.finetune(model, few_digits(), out=tmp_path, **QUICK)


class Strange(TinyNet):
    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": super().forward(x)}


def test_models_with_other_answers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the model answered dict to 16 images of 10 classes"):
        zoo.finetune(Strange(), few_digits(), out=tmp_path, **QUICK)
    narrow = nn.Sequential(nn.Flatten(), nn.Linear(64, 9))
    narrow.pretrained_cfg = {"input_size": (1, 8, 8), "mean": (0.5,), "std": (0.5,)}  # type: ignore[assignment]
    with pytest.raises(
        TrainingError, match=r"answered \(16, 9\) to 16 images of 10 classes; expected logits \(16, 10\)"
    ):
        zoo.finetune(narrow, few_digits(), out=tmp_path / "b", **QUICK)


def test_half_precision_parameters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"half precision.*model\.float\(\)"):
        zoo.finetune(tiny_net().bfloat16(), few_digits(), out=tmp_path, **QUICK)


# ---------------------------------------------------------------------------------------------------------- bad inputs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number from 1, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number from 1, got 1.5"),
        ({"batch_size": -1}, "batch_size must be a whole number from 1"),
        ({"accum": 0}, "accum must be a whole number from 1"),
        ({"lr": 0.0}, "lr must be a positive number, or 'auto', got 0.0"),
        ({"lr": "fast"}, "lr must be a positive number, or 'auto', got 'fast'"),
        ({"opt": "adamww"}, "unknown optimiser 'adamww'; did you mean"),
        ({"weight_decay": -0.1}, "weight_decay must be a number from 0"),
        ({"layer_decay": 2.0}, "layer_decay must lie in"),
        ({"sched": "plateau"}, "sched must be one of cosine, linear, step, constant"),
        ({"warmup_epochs": 2}, r"warmup_epochs must be less than epochs \(2\)"),
        ({"mixup": -1.0}, "mixup must be a number from 0"),
        ({"label_smoothing": 1.5}, "label_smoothing must be a number from 0 to 1"),
        ({"class_weights": "equal"}, "class_weights must be None, 'balanced'"),
        ({"class_weights": [1.0]}, "class_weights has 1 numbers, the data has 10 classes"),
        ({"class_weights": {"eleven": 2.0}}, "class_weights: no class 'eleven'"),
        ({"ema": 1.0}, "ema must be None or a decay between 0 and 1"),
        ({"amp": "fp8"}, "amp must be one of auto, no, bf16, fp16"),
        ({"clip_grad": -1.0}, "clip_grad must be None or a positive number"),
        ({"val": 0}, r"between 0 and 1, got 0; val=False \(--val no\) goes without"),
        ({"freeze": "head"}, "freeze pattern 'head' matches no parameter"),
        ({"unfreeze": {"2": None}}, "unfreeze: epochs are whole numbers"),
        ({"early_stop": 0}, "early_stop must be None or a whole number from 1"),
        ({"monitor": "recall"}, "monitor must be 'auto' or one of accuracy, auprc, auroc"),
        ({"aug": "heavy"}, "aug must be one of none, light, timm"),
        ({"hflip": 2.0}, "hflip must be a number from 0 to 1"),
        ({"transform": "mine"}, "transform must be 'auto' or None, got 'mine'"),
        ({"scale": 0}, "scale must be None or a positive number"),
        ({"img_size": 0}, "img_size must be a whole number from 1"),
        ({"on_bad": "ignore"}, "on_bad must be one of"),
        ({"resume": "yes"}, "resume must be 'auto', True or False"),
        ({"save_every": 0}, "save_every must be None or a whole number from 1"),
        ({"keep_last": 0}, "keep_last must be a whole number from 1"),
        ({"seed": -1, "val": 0.3}, "seed must be a whole number from 0, got -1"),
        ({"opt": "adahessian"}, "'adahessian' needs gradients of gradients"),
        ({"unfreeze": {1: None}}, "unfreeze={1: None} does nothing without freeze"),
        ({"unfreeze": {1: "none"}, "freeze": "none"}, "does nothing without freeze"),
        ({"unfreeze": {2: None}, "freeze": "backbone"}, r"after 2 epochs the run of epochs=2 is over; use 1 to 1"),
        ({"min_lr": 0.1}, r"min_lr must be at most lr \(0\.005\): the rate would grow, got 0\.1"),
        ({"workers": "many"}, "workers must be a whole number from 0, or 'auto'"),
        ({"device": "tpu"}, "device must be None, 'cpu', 'cuda' or 'mps'"),
        ({"pretrained": True}, "for a model given by name"),
        ({"val": 1.0}, "between 0 and 1, got 1.0"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "run", **{**QUICK, **options})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("call", "given", "near"), [("finetune", "epoch", "epochs"), ("evaluate", "batchsize", "batch_size")]
)
def test_unknown_settings_have_near_names(call: str, given: str, near: str) -> None:
    with pytest.raises(TypeError, match=f"zoo.{call} takes no argument '{given}'; did you mean '{near}'"):
        getattr(zoo, call)(tiny_net(), few_digits(), **{given: 2})
    with pytest.raises(TypeError, match=r"zoo\.predict takes no argument 'topk'; did you mean 'top'"):
        zoo.predict(tiny_net(), [], topk=2)
    assert "epochs" in inspect.signature(zoo.finetune).parameters


@pytest.mark.parametrize("slot", ["head", "mlp", "mixer", "pool", "act"])
def test_parts_of_a_model_are_no_settings(slot: str) -> None:
    given: dict[str, Any] = {slot: "kan"}
    way = rf"zoo\.create_model\(name, {slot}='kan'\).*given by name, by model_args={{\"{slot}\": 'kan'}}"
    with pytest.raises(TypeError, match=rf"zoo\.finetune takes no argument '{slot}': .*{way}"):
        zoo.finetune("test_vit", "digits", **given)


def test_no_limit_and_no_validation_as_the_command_line_says_them(tmp_path: Path) -> None:
    result = zoo.finetune(tiny_net(), few_digits(), out=tmp_path, clip_grad=0, val="no", **{**QUICK, "epochs": 1})
    assert json.loads((tmp_path / "args.json").read_text())["options"]["clip_grad"] is None
    assert result.val_metrics is None


def test_half_precision_needs_cuda(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="amp='fp16' needs a CUDA device"):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **{**QUICK, "amp": "fp16", "device": "cpu"})


def test_a_monitor_without_a_value(tmp_path: Path) -> None:
    splits = few_digits(val=3)
    with pytest.raises(
        TrainingError,
        match=r"monitor='auroc' has no value on the validation split: no image of .*; monitor \(--monitor\) one of",
    ):
        zoo.finetune(tiny_net(), splits, out=tmp_path, monitor="auroc", **QUICK)


# --------------------------------------------------------------------------------------------------------------- parts


def test_balanced_weights_follow_sklearn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    data = ArrayImages(np.zeros((12, 8, 8), np.uint8), np.array([0] * 7 + [1] * 4 + [2]), ["a", "b", "c"], name="x")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=data.labels)
    assert resolve_class_weights("balanced", data) == pytest.approx(expected.tolist())
    assert resolve_class_weights({"b": 5}, data) == [1.0, 5.0, 1.0]
    with pytest.raises(ValueError, match="class 'd' does not occur"):
        resolve_class_weights("balanced", ArrayImages(data.images, data.labels, ["a", "b", "c", "d"], name="x"))


def test_losses_follow_their_definitions() -> None:
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    plain = build_loss(multi_label=False, class_weights=None, label_smoothing=0.0)(logits, targets)
    assert plain == pytest.approx(-logits.log_softmax(1)[torch.arange(6), targets].mean().item(), rel=1e-5)
    smooth = build_loss(multi_label=False, class_weights=None, label_smoothing=0.3)(logits, targets)
    soft = 0.7 * torch.nn.functional.one_hot(targets, 3) + 0.1
    assert smooth == pytest.approx(-(soft * logits.log_softmax(1)).sum(1).mean().item(), rel=1e-5)
    several = (torch.rand(6, 3) > 0.5).float()
    weighted = build_loss(multi_label=True, class_weights=[1.0, 2.0, 3.0], label_smoothing=0.0)(logits, several)
    p = logits.sigmoid()
    terms = several * torch.tensor([1.0, 2.0, 3.0]) * p.log() + (1 - several) * (1 - p).log()
    assert weighted == pytest.approx(-terms.mean().item(), rel=1e-5)


def test_mixup_mixes_images_and_targets_alike() -> None:
    mix = build_mixup(1.0, 0.0, 2, multi_label=False)
    assert mix is not None
    assert build_mixup(0.0, 0.0, 2, multi_label=False) is None
    np.random.seed(0)
    images, targets = mix(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).repeat(1, 1, 2, 2), torch.tensor([0, 1]))
    assert torch.allclose(images.mean((1, 2, 3)), targets[:, 1], atol=1e-6)
    assert torch.allclose(targets.sum(1), torch.ones(2))
    assert 0 < targets[0, 1] < 1


# -------------------------------------------------------------------------------------------------------- where from


def test_a_tag_starts_from_its_weights_a_plain_name_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {**QUICK, "epochs": 1, "progress": True}
    tagged = zoo.finetune("medvit2_kan_nano.digits", few_digits(), out=tmp_path / "a", freeze="backbone", **options)
    assert tagged.metrics["accuracy"] > 0.9
    assert "random weights" not in capsys.readouterr().err
    zoo.finetune("medvit2_kan_nano", few_digits(train=16, val=8, test=8), out=tmp_path / "b", **options)
    assert "medvit2_kan_nano starts from random weights; pretrained=True" in capsys.readouterr().err
    again = zoo.finetune(
        tmp_path / "a", few_digits(), out=tmp_path / "c", freeze="backbone", **{**options, "lr": 1e-12}
    )
    assert again.metrics["accuracy"] == tagged.metrics["accuracy"]
