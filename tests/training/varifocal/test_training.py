"""Training in stages: what learns when, where a run goes on, what is kept, what is measured and what is refused."""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import zoo
from tests.training.test_resume import Killing
from tests.training.varifocal.helpers import QUICK, RECIPE, few, polarity_of, small_net
from zoo.karyotype import case_metrics, dispatch, fit_temperature
from zoo.layers.varifocal.region import foreground_region, pseudo_region
from zoo.models.varifocal.network import VarifocalNet
from zoo.training import Result
from zoo.training.data import ArrayImages, Splits
from zoo.training.data.chromosomes import ChromosomeSet, rendered_set
from zoo.training.data.rendered_chromosomes import TYPES
from zoo.training.data.transform import eval_transform
from zoo.training.model_source import describe_data, model_for
from zoo.training.phases import shares
from zoo.training.varifocal.calibrate import calibrate
from zoo.training.varifocal.options import EPOCHS
from zoo.training.varifocal.stages import Stages

PARTS = ("g_net.trunk", "g_net.head", "g_net.loc", "l_net", "fusion")


def state(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    """The parts of the network, buffers included, that differ."""
    return {part for name in one for part in PARTS if name.startswith(part) and not torch.equal(one[name], other[name])}


def inputs(net: VarifocalNet, data: Any) -> Tensor:
    transform = eval_transform(zoo.data_config(net))
    return torch.stack([transform(data.image(i)) for i in range(len(data))])


@pytest.mark.parametrize("aug", ["none", "light"])
def test_stages_train_their_own_parts(tmp_path: Path, aug: str) -> None:
    net, states = small_net(), []
    states.append(state(net))

    def look(result: Result) -> None:
        states.append(state(result.model))

    result = zoo.finetune(net, few(), out=tmp_path / "run", callbacks=[look], aug=aug, **QUICK)
    steps = [changed(one, other) for one, other in itertools.pairwise(states)]
    assert steps[0] == {"g_net.trunk", "g_net.head"}
    assert steps[1] == {"g_net.loc"}
    assert steps[2] == steps[3] == {"g_net.loc", "l_net"}  # through the crop
    assert steps[4] == {"fusion"}
    assert [row["stage"] for row in result.history] == ["global", "localize", "local", "local", "fusion"]
    rates = [row["lr"] for row in result.history]
    assert rates[0] == rates[1] == rates[4] < rates[2]  # each stage has a cosine of its own
    assert rates[3] < rates[2]
    assert "val_region_loss" in result.history[1]
    assert result.best_epoch == 5
    assert net.stage == "fusion"
    assert all(p.requires_grad for p in net.parameters())
    assert net.train().l_net.training


@pytest.mark.parametrize("aug", ["none", "light"])
def test_a_run_goes_on_to_the_same_bits(tmp_path: Path, aug: str) -> None:
    """Cut off in the middle of every stage, and between two."""
    options: dict[str, Any] = {**QUICK, "aug": aug, "ema": 0.5, "save_every": 1}
    whole = zoo.finetune(small_net(), few(), out=tmp_path / "whole", **options)
    for at in (20, 20, 40, 20, 20, 20, 20):
        rendered = rendered_set([0], size=16)
        train = ChromosomeSet(Killing(rendered.images, at, signal.SIGINT), rendered.polarity, rendered.groups)
        with pytest.raises(KeyboardInterrupt):
            zoo.finetune(small_net(), few(train), out=tmp_path / "cut", **options)
    cut = zoo.finetune(small_net(), few(), out=tmp_path / "cut", **options)
    assert not changed(state(whole.model), state(cut.model))
    columns = ("epoch", "stage", "train_loss", "val_accuracy", "ema_accuracy", "lr")
    assert [[row[c] for c in columns] for row in whole.history] == [[row[c] for c in columns] for row in cut.history]
    assert whole.metrics == cut.metrics


def test_loss_of_the_first_update_by_hand(tmp_path: Path) -> None:
    net, data = small_net(), few()
    images, polarities = inputs(net, data.train), torch.from_numpy(polarity_of(data.train))
    types = torch.from_numpy(data.train.labels)  # type: ignore[union-attr]
    net.freeze_stage("global").train()
    out = net(images)
    wanted = F.cross_entropy(out.g_type, types) + F.cross_entropy(out.g_polarity, polarities)
    options = {**QUICK, "batch_size": 46, "aug": "none"}
    result = zoo.finetune(small_net(), data, out=tmp_path / "run", **options)
    assert result.history[0]["train_loss"] == pytest.approx(float(wanted.detach()), rel=1e-5)


@pytest.mark.parametrize("region", ["foreground", "pseudo"])
def test_what_is_kept_says_what_would_be_computed(region: str) -> None:
    from zoo.training.varifocal.options import VarifocalOptions

    net = small_net()
    images = inputs(net, rendered_set([4], size=16))
    options: Any = type("O", (), {"region": region, "half": 0.25, "threshold": 0.25, "ranking": 0.0})
    assert set(vars(options)) >= {"region", "half"} <= set(VarifocalOptions.__dataclass_fields__)
    stages = Stages(net, options, (torch.zeros(1, 1, 1), torch.ones(1, 1, 1)))
    for stage in ("localize", "local", "fusion"):
        net.freeze_stage(stage).eval()
        plain, kept = stages(images, stage), stages(images, stage, stages.once(images, stage))
        names = {"localize": ["box"], "local": ["l_type", "l_polarity", "box", "crop"], "fusion": ["type", "polarity"]}
        for name in names[stage]:
            assert torch.allclose(getattr(plain.output, name), getattr(kept.output, name), atol=1e-6), (stage, name)
        if stage == "localize":
            assert torch.equal(plain.rough, kept.rough)
    net.freeze_stage("local").train()
    loss = stages(images, "local", stages.once(images, "local")).output.l_type.logsumexp(1).sum()
    loss.backward()
    assert net.g_net.loc.fc2.weight.grad is not None
    assert float(net.g_net.loc.fc2.weight.grad.abs().max()) > 0
    assert all(p.grad is None for p in net.g_net.trunk.parameters())


def test_rough_boxes_are_of_the_pixels_before_they_were_normalised() -> None:
    net = small_net()
    pixels = inputs(net, rendered_set([4], size=16))
    options: Any = type("O", (), {"region": "foreground", "threshold": 0.3})
    mean, std = torch.full((1, 1, 1), 0.4), torch.full((1, 1, 1), 0.2)
    stages = Stages(net, options, (mean, std))
    found = stages.rough((pixels - mean) / std, pixels)
    assert torch.allclose(found, foreground_region(pixels, 0.3, net.g_net.min_ratio), atol=1e-5)
    assert found[:, 2].unique().numel() > 3
    options.region, options.half = "pseudo", 0.2
    assert torch.equal(stages.rough(pixels, pixels), pseudo_region(pixels, 0.2))


def test_a_model_by_name_is_built_for_both_tasks_and_learns(tmp_path: Path) -> None:
    sizes = {"img_size": 16, "stem": 4, "widths": [4, 4, 8], "depths": [1, 1, 1], "strides": [1, 2, 2]}
    heads = {"head_pool": 2, "loc_pool": 2, "loc_hidden": 8, "mlp_hidden": 8}
    result = zoo.finetune(
        "varifocal_chromosome_nano",
        few(rendered_set(range(3), size=16)),
        out=tmp_path / "run",
        epochs=10,
        model_args={**sizes, **heads},
        **{**QUICK, "recipe": "varifocal"},
    )
    net = result.model
    assert isinstance(net, VarifocalNet)
    assert (net.num_classes, net.num_polarities) == (24, 2)
    losses = [row["train_loss"] for row in result.history]
    assert losses[3] < losses[0] - 0.2
    assert [row["stage"] for row in result.history] == [*["global"] * 4, *["localize"] * 2, *["local"] * 3, "fusion"]
    config = json.loads((tmp_path / "run/best/config.json").read_text())
    assert config["zoo"]["training"]["task"] == "types and polarities"
    assert config["pretrained_cfg"]["crop_mode"] == "canvas"
    again = zoo.create_model(f"local-dir:{tmp_path / 'run/best'}").eval()
    images = inputs(net, few().test)
    with torch.no_grad():
        assert torch.equal(again(images).type, net(images).type)
    args = json.loads((tmp_path / "run/args.json").read_text())
    assert args["options"]["recipe"] == {
        "name": "varifocal", "epochs": [4, 2, 3, 1], "region": "foreground", "half": 0.25, "threshold": 0.25,
        "ranking": 0.0,
    }  # fmt: skip


def test_metrics_of_both_tasks_and_of_cases_by_hand() -> None:
    net, data = small_net().eval(), few().test
    assert isinstance(data, ChromosomeSet)
    found = zoo.evaluate(net, data, progress=False)
    with torch.no_grad():
        out = net(inputs(net, data))
    types, numbers = out.type.argmax(1).numpy(), data.case_numbers
    assert found["samples"] == 92
    assert found["accuracy"] == pytest.approx((types == data.labels).mean())
    assert found["polarity_accuracy"] == pytest.approx((out.polarity.argmax(1).numpy() == data.polarity).mean())
    assert found["global_accuracy"] == pytest.approx((out.g_type.argmax(1).numpy() == data.labels).mean())
    assert found["local_accuracy"] == pytest.approx((out.l_type.argmax(1).numpy() == data.labels).mean())
    assert found["case_accuracy"] == pytest.approx(case_metrics(types, data.labels, numbers).accuracy_per_case)
    dispatched = np.concatenate([dispatch(rows.log_softmax(1).numpy()).types for rows in out.type.split(46)])
    assert found["dispatch_accuracy"] == pytest.approx((dispatched == data.labels).mean())
    net.temperature = (50.0, 3.0)
    soft = zoo.evaluate(net, data, progress=False)
    assert soft["accuracy"] == found["accuracy"]
    sure = (out.type / 50).softmax(1).max(1).values.mean()  # all below 1/15, one bin
    assert soft["ece"] == pytest.approx(abs(soft["accuracy"] - float(sure)), abs=1e-6)
    assert soft["loss"] == pytest.approx(float(F.cross_entropy(out.type / 50, torch.from_numpy(data.labels))), abs=1e-6)
    wanted = float(F.cross_entropy(out.polarity / 3, torch.from_numpy(data.polarity)))
    assert soft["polarity_loss"] == pytest.approx(wanted, abs=1e-6)
    assert soft["global_accuracy"] == found["global_accuracy"]


def test_polarities_that_are_not_known_are_left_out_of_the_metric() -> None:
    net, data = small_net().eval(), few().test
    assert isinstance(data, ChromosomeSet)
    everything = zoo.evaluate(net, data, progress=False)
    data.polarity[40:] = -1
    with torch.no_grad():
        right = net(inputs(net, data)).polarity.argmax(1).numpy()[:40] == data.polarity[:40]
    found = zoo.evaluate(net, data, progress=False)
    assert found["polarity_accuracy"] == pytest.approx(right.mean())
    assert found["accuracy"] == everything["accuracy"]
    data.polarity[:] = -1
    assert "polarity_accuracy" not in zoo.evaluate(net, data, progress=False)


def test_prediction_tells_both_tasks_and_the_box() -> None:
    net, data = small_net().eval(), few().test
    assert data is not None
    net.temperature = (2.0, 4.0)
    picture = data.image(3)
    found = zoo.predict(net, picture, top=2)[0]
    with torch.no_grad():
        out = net(inputs(net, data)[3:4])
    best = (out.type / 2).softmax(1)[0].max(0)
    assert found["probability"] == pytest.approx(float(best.values), rel=1e-4)
    assert found["label"] == data.classes[int(best.indices)]
    polarity = (out.polarity / 4).softmax(1)[0].max(0)
    assert found["polarity"] == ("short arm up", "short arm down")[int(polarity.indices)]
    assert found["polarity_probability"] == pytest.approx(float(polarity.values), rel=1e-4)
    assert found["box"] == pytest.approx(out.box[0].tolist(), abs=1e-5)


def test_types_alone(tmp_path: Path) -> None:
    """A network without a second task; one with it, and data that know no polarities: its heads stay as they were."""
    plain = zoo.finetune(small_net(num_classes=24), few(), out=tmp_path / "one", **QUICK)
    assert "polarity_accuracy" not in plain.metrics
    bare = few()
    for name in ("train", "val", "test"):
        polarity_of(getattr(bare, name))[:] = -1
    net = small_net()
    before = state(net)
    result = zoo.finetune(net, bare, out=tmp_path / "other", **QUICK)
    assert "polarity_accuracy" not in result.metrics
    for name, value in result.model.state_dict().items():
        if "polarity" in name:  # no gradient reaches them, so nothing decays either
            assert torch.equal(value, before[name])
    assert changed(before, state(result.model)) == set(PARTS)


def test_the_plain_recipe_is_another_way(tmp_path: Path) -> None:
    options = {**QUICK, "recipe": "plain", "epochs": 1, "mixup": 0.0}
    net = small_net(num_classes=24)
    net.temperature = (3.0, 1.0)
    result = zoo.finetune(net, few(), out=tmp_path / "run", **options)
    assert net.temperature == (1.0, 1.0)
    assert "stage" not in result.history[0]
    assert result.history[0]["train_loss"] > 0


def test_a_temperature_is_of_the_network_as_it_is_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a calibrated checkpoint: fitted again on the validation split; 1 without one, and by the plain recipe."""
    name = "varifocal_chromosome_nano"
    val = rendered_set([1, 2], name="val")
    wrong = np.array([7, 60])  # without errors no temperature is the best
    val.polarity[wrong] ^= 1
    val.labels[wrong] = (val.labels[wrong] + 1) % 24
    options: dict[str, Any] = {**QUICK, "recipe": {**RECIPE, "epochs": [1, 1, 1, 1]}, "lr": 1e-3, "progress": True}
    before = zoo.create_model(name, pretrained=True).temperature  # type: ignore[attr-defined]
    data = Splits(name="few", train=rendered_set([0]), val=val)
    net = zoo.finetune(name, data, pretrained=True, out=tmp_path / "run", **options).model
    with torch.no_grad():
        out = net(inputs(net, val))
    for found, logits, labels in zip(
        net.temperature, (out.type, out.polarity), (val.labels, val.polarity), strict=True
    ):
        assert found == pytest.approx(fit_temperature(logits.numpy(), labels).temperature, rel=1e-3)
    assert set(net.temperature).isdisjoint({*before, 1.0})
    assert zoo.create_model(f"local-dir:{tmp_path / 'run'}").temperature == net.temperature
    told = capsys.readouterr().err
    assert f"the temperature {before} was of the model before this training: it is 1 again" in told
    assert (
        f"temperature {net.temperature[0]:.4g} of types, {net.temperature[1]:.4g} of polarities, fitted on 92" in told
    )
    small = small_net()
    small.temperature = before
    zoo.finetune(small, few(), val=False, out=tmp_path / "no", **{**QUICK, "progress": True})
    assert "temperature 1: no validation split to fit it on" in capsys.readouterr().err
    assert small.temperature == (1.0, 1.0)


CHOSEN = "which the epoch was chosen by, too"


def test_temperatures_that_cannot_be_fitted_stay_1() -> None:
    net, data = small_net(), few().val
    assert isinstance(data, ChromosomeSet)
    data.polarity[::2] = -1  # these say nothing
    targets = torch.from_numpy(data.labels)
    sure = 5.0 * F.one_hot(targets, 24)
    noisy = torch.randn(46, 2, generator=torch.Generator().manual_seed(0))
    noisy[torch.arange(46), torch.from_numpy(data.polarity).clamp(min=0)] += 1.0
    said = calibrate(net, data, torch.cat([sure, noisy, torch.zeros(46, 3)], 1), targets)
    wanted = fit_temperature(noisy[1::2].numpy(), data.polarity[1::2]).temperature
    assert net.temperature == (1.0, pytest.approx(wanted, rel=1e-3))
    fitted, _, left = said.partition("; ")
    assert fitted == f"temperature {net.temperature[1]:.4g} of polarities, fitted on 46 val chromosomes, {CHOSEN}"
    assert left.startswith("temperature of types not fitted, stays 1: every label of the 46 is the likeliest class")


def named(*names: str) -> ArrayImages:
    return ArrayImages(np.zeros((len(names), 8, 8), np.uint8), np.arange(len(names)), names, name="x")


def test_a_classifier_for_other_classes_is_told_with_their_names(tmp_path: Path) -> None:
    """By name and as a module: a part of the classes, a folder "24" for "Y", one more than there are."""
    name = "varifocal_chromosome_nano"
    typo, more = [*TYPES[:23], "24"], [*TYPES, "24"]
    for model, begin in ((name, True), (zoo.create_model(name, pretrained=True), None)):
        part, notes = model_for(copy.deepcopy(model), named("1", "X"), pretrained=begin, model_args=None)
        assert part.num_classes == 2
        assert notes[0].startswith("the model had 24 outputs, the data has 2 classes (missing: '2', '3', ")
        assert notes[0].endswith("): new classifier. Data that name all of the model's classes keep the trained one: "
                                 "images.with_classes(names)")  # fmt: skip
        _, notes = model_for(copy.deepcopy(model), named(*more), pretrained=begin, model_args=None)
        assert notes[0] == "the model had 24 outputs, the data has 25 classes (new: '24'): new classifier"
        kept, notes = model_for(copy.deepcopy(model), named(*typo), pretrained=begin, model_args=None)
        notes += describe_data(kept, named(*typo), trained=True)
        assert notes[-1].startswith(
            "1 of the 24 classes of the model are 'Y', those of the data '24': its classifier is"
        )
    all_of_them = named("1", "X").with_classes(TYPES)
    _, notes = model_for(name, all_of_them, pretrained=True, model_args=None)
    assert not any("classifier" in note for note in notes)
    zoo.save_pretrained(zoo.create_model(name, pretrained=True), tmp_path / "net")
    _, notes = model_for(f"local-dir:{tmp_path / 'net'}", named("1", "X"), pretrained=None, model_args=None)
    assert "the data has 2 classes (missing: '2', " in notes[0]


def test_bf16(tmp_path: Path) -> None:
    """Weights stay in float32, all parts learn, also the box through the crop, as they do without it."""
    options: dict[str, Any] = {**QUICK, "aug": "none"}
    plain = zoo.finetune(small_net(), few(), out=tmp_path / "plain", **options)
    net = small_net()
    before = state(net)
    result = zoo.finetune(net, few(), out=tmp_path / "run", **{**options, "amp": "bf16"})
    assert changed(before, state(net)) == set(PARTS)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    for one, other in zip(plain.history, result.history, strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=0.02)
    assert plain.history[0]["train_loss"] != result.history[0]["train_loss"]
    assert net(inputs(net, few().test)).box.dtype == torch.float32


def test_shares_of_the_epochs() -> None:
    parts = (60, 20, 40, 20)
    assert shares(140, parts) == parts
    assert shares(7, parts) == (3, 1, 2, 1)
    assert shares(4, parts) == (1, 1, 1, 1)
    for epochs in range(4, 60):
        assert sum(shares(epochs, parts)) == epochs
        assert all(abs(n - epochs * p / 140) <= 1 for n, p in zip(shares(epochs, parts), parts, strict=True))


def test_the_epochs_that_nobody_gave_are_the_default() -> None:
    assert inspect.signature(zoo.finetune).parameters["epochs"].default == EPOCHS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mixup": 0.2, "freeze": "backbone"}, "mixup, freeze: not for training in stages; recipe='plain'"),
        ({"early_stop": 2}, "early_stop: not for training in stages"),
        ({"recipe": "varifocla"}, "recipe must be one of auto, plain, varifocal, .* did you mean 'varifocal'"),
        ({"recipe": "auto", "epochs": 3}, "epochs=3: training has 4 stages .*, give one each"),
        ({"epochs": 8}, r"epochs=8, and the stages of the recipe have 5 \(1, 1, 2, 1\): leave one of them out"),
        ({"recipe": {**RECIPE, "epochs": [1, 2]}}, "four whole numbers from 1, of global, localize, local, fusion"),
        ({"recipe": {**RECIPE, "region": "all"}}, "region must be one of foreground, pseudo, got 'all'"),
        ({"recipe": {**RECIPE, "half": 0.7}}, r"half must be a number from 0 to 0\.5, got 0\.7"),
        ({"recipe": {**RECIPE, "ranking": -1}}, "ranking must be a number from 0 to inf, got -1"),
        ({"recipe": {"name": "plain", "ranking": 1}}, "recipe 'plain' has no options, got ranking"),
        ({"lr": -1}, "lr must be a positive number"),
        ({"aug": "timm"}, "aug must be 'none' or 'light' for images whose size counts"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        zoo.finetune(small_net(), few(), out=tmp_path / "run", **{**QUICK, **options})
    assert not (tmp_path / "run").exists()


def test_three_polarities_are_not_those_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(zoo.errors.DataError, match=r"has 2 polarities .*, the second task of the model 3 classes"):
        zoo.finetune(small_net(num_classes=(24, 3)), few(), out=tmp_path / "run", **QUICK)


def test_the_recipe_is_for_networks_that_look_twice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trains networks that look twice .*, resnet18 is none"):
        zoo.finetune("resnet18", "digits", recipe="varifocal", out=tmp_path / "run", progress=False)
    with pytest.raises(TypeError, match="rankin"):
        zoo.finetune(small_net(), few(), recipe={"name": "varifocal", "rankin": 1}, out=tmp_path / "run")


def test_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    zoo.finetune(small_net(), few(), out=tmp_path / "run", **QUICK)
    other = {**QUICK, "recipe": {**RECIPE, "ranking": 1.0}}
    with pytest.raises(zoo.ZooError, match="holds a run with other settings"):
        zoo.finetune(small_net(), few(), out=tmp_path / "run", **other)


def test_ordinary_models_learn_types_of_chromosomes(tmp_path: Path) -> None:
    from tests.training.helpers import tiny_net

    result = zoo.finetune(
        tiny_net(num_classes=24, size=16),
        few(),
        epochs=1,
        batch_size=16,
        out=tmp_path / "run",
        progress=False,
        amp="no",
    )
    assert result.metrics["samples"] == 92
    assert "dispatch_accuracy" not in result.metrics
    assert os.path.exists(tmp_path / "run/metrics.json")
