"""Training stitched networks: which paths learn, at which rates, from where, and resuming to the same bits."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import zoo
from tests.training.helpers import QUICK, few_digits, stitched_net, tiny_net
from tests.training.test_processes import launch
from tests.training.test_resume import assert_equal, weights, without_times
from zoo.errors import NonFiniteLossError
from zoo.models.stitching.network import StitchNet
from zoo.models.stitching.sampling import StitchSampler
from zoo.training.checkpoint import checkpoints
from zoo.training.stitching import param_groups

RUN: dict[str, Any] = {**QUICK, "lr": 1e-3, "epochs": 2, "stitch_init": False}
#: Of the networks here: two anchors of four blocks, and the three paths of the forward cuts.
PATHS = 5


def paths_of(net: StitchNet, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a network is asked for in training, as it goes on."""
    asked: list[Any] = []
    forward = StitchNet.forward

    def noting(self: StitchNet, x: Any, stitch: Any = None) -> Any:
        if self is net and self.training:
            asked.append(stitch)
        return forward(self, x, stitch)

    monkeypatch.setattr(StitchNet, "forward", noting)
    return asked


@pytest.mark.parametrize("mode", ["uniform", "flops_groups", {"mode": "sandwich", "count": 2}])
def test_the_sampler_says_which_paths_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any) -> None:
    net = stitched_net()
    asked = paths_of(net, monkeypatch)
    zoo.finetune(net, few_digits(), out=tmp_path / "run", stitch_sampling=mode, accum=2, seed=3, **RUN)
    options: dict[str, Any] = {"mode": mode} if isinstance(mode, str) else mode
    sampler = StitchSampler(stitched_net(), seed=3, **options)
    drawn = [sampler.ids(step, number) for step in range(6) for number in range(2)]
    assert [path if isinstance(path, tuple) else (path,) for path in asked] == drawn
    assert net.stitch == 1  # what was set before


def test_the_loss_of_a_sandwich_is_the_mean_of_its_paths(tmp_path: Path) -> None:
    net, data = stitched_net(), few_digits(train=16)
    before = copy.deepcopy(net)
    options: dict[str, Any] = {**RUN, "epochs": 1, "aug": "none", "hflip": 0.0, "opt": "sgd", "clip_grad": None}
    result = zoo.finetune(net, data, out=tmp_path / "run", stitch_sampling={"mode": "sandwich", "count": 1}, **options)
    train = data.train
    assert train is not None
    images = torch.stack([(torch.from_numpy(train.image(i)).float()[None] / 255 - 0.5) / 0.5 for i in range(16)])
    ids = StitchSampler(before, "sandwich", count=1).ids(0)
    losses = [nn.functional.cross_entropy(before(images, stitch=i), torch.as_tensor(train.labels)) for i in ids]
    assert len(set(ids)) == 3
    assert result.history[0]["train_loss"] == pytest.approx(float(torch.stack(losses).mean().detach()), rel=1e-5)


def test_layers_begin_by_least_squares_on_training_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, data = stitched_net(), few_digits()
    expected = copy.deepcopy(net)
    assert data.train is not None
    train = data.train
    images = torch.stack([(torch.from_numpy(train.image(i)).float()[None] / 255 - 0.5) / 0.5 for i in range(96)])
    expected.init_stitches(images, num_samples=96)
    options: dict[str, Any] = {**RUN, "lr": 1e-12, "weight_decay": 0.0, "stitch_init": True, "progress": True}
    zoo.finetune(net, data, out=tmp_path / "run", **options)
    assert "stitching layers: least squares on 96 training images" in capsys.readouterr().err
    for name, value in expected.state_dict().items():
        assert torch.allclose(net.state_dict()[name], value, atol=1e-5), name
    # They are no longer random, so another run leaves them.
    zoo.finetune(net, data, out=tmp_path / "more", **options)
    assert "least squares" not in capsys.readouterr().err
    zoo.finetune(stitched_net(), data, out=tmp_path / "without", **{**options, "stitch_init": False})
    assert "least squares" not in capsys.readouterr().err


def test_anchors_can_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = stitched_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    asked = paths_of(net, monkeypatch)
    zoo.finetune(net, few_digits(), out=tmp_path / "run", freeze="anchors", stitch_sampling="sandwich", **RUN)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]) is name.startswith("anchors."), name
    assert {path for paths in asked for path in paths} == {2, 3, 4}  # the anchors alone would learn nothing
    asked.clear()
    plan: dict[str, Any] = {"freeze": "anchors", "unfreeze": {1: None}, "epochs": 3}
    zoo.finetune(net, few_digits(), out=tmp_path / "later", **{**RUN, **plan})
    assert set(asked[:6]) <= {2, 3, 4}
    assert {0, 1} & set(asked[6:])


def test_layers_have_a_rate_of_their_own() -> None:
    net = stitched_net(8, 16, 32)
    groups = param_groups(net, lr_anchors=1e-4, lr_stitch=1e-3, weight_decay=0.02)
    names = {id(p): name for name, p in net.named_parameters()}
    seen: list[str] = []
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert group["lr"] == (1e-3 if name.startswith("stitch_layers.") else 1e-4)
            plain = parameter.ndim < 2 or name.endswith(("pos_embed", "cls_token"))
            assert group["weight_decay"] == (0 if plain else 0.02), name
            seen.append(name)
    assert sorted(seen) == sorted(names.values())
    net.anchors.requires_grad_(False)
    frozen = param_groups(net, lr_anchors=1e-4, lr_stitch=1e-3)
    assert {id(p) for group in frozen for p in group["params"]} == {id(p) for p in net.stitch_layers.parameters()}
    torch.optim.AdamW(frozen)


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_the_rate_of_the_layers_is_what_they_learn_at(tmp_path: Path, layer_decay: float | None) -> None:
    """At a rate of next to nothing the anchors stay, and the layers learn; and the reverse."""
    options = {**RUN, "weight_decay": 0.0, "layer_decay": layer_decay, "warmup_epochs": 0, "sched": "constant"}
    for rates, moved in (((1e-12, 1e-2), "stitch_layers."), ((1e-2, 1e-12), "anchors.")):
        net = stitched_net()
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        out = tmp_path / f"{moved}{layer_decay}"
        result = zoo.finetune(net, few_digits(), out=out, **{**options, "lr": rates[0], "stitch_lr": rates[1]})
        assert result.history[0]["lr"] == pytest.approx(1e-2)
        net.load_state_dict(load_file(checkpoints(out / "checkpoints")[-1] / "model.safetensors"))
        for name, tensor in net.state_dict().items():
            still = torch.allclose(tensor, before[name], atol=1e-7)
            assert still is not name.startswith(moved), name


EVERYTHING: dict[str, Any] = {
    **RUN, "stitch_init": True, "stitch_lr": 3e-3, "ema": 0.9, "mixup": 0.2, "accum": 2, "save_every": 1,
    "keep_last": 99,
}  # fmt: skip


@pytest.mark.parametrize(
    "extra",
    [
        {"stitch_sampling": "sandwich", "amp": "bf16"},
        {"stitch_sampling": "flops_groups", "freeze": "anchors", "unfreeze": {1: None}},
        pytest.param({"layer_decay": 0.8, "batch_size": "auto:16"}, marks=pytest.mark.ci_long),
    ],
)
@pytest.mark.parametrize("left", [1, 4])
def test_a_run_that_was_cut_off_ends_in_the_same_bits(tmp_path: Path, extra: dict[str, Any], left: int) -> None:
    """In the middle of the first epoch and of the second; six updates in all."""
    options = {**EVERYTHING, **extra}
    whole = zoo.finetune(stitched_net(drop_path_rate=0.1), few_digits(), out=tmp_path / "whole", **options)
    assert len(checkpoints(tmp_path / "whole" / "checkpoints")) == 6
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for path in checkpoints(tmp_path / "cut" / "checkpoints")[left:]:
        shutil.rmtree(path)
    cut = zoo.finetune(stitched_net(seed=9, drop_path_rate=0.1), few_digits(), out=tmp_path / "cut", **options)
    assert_equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    assert_equal(dict(cut.model.state_dict()), dict(whole.model.state_dict()))
    assert without_times(cut.history) == without_times(whole.history)


def test_epochs_are_compared_by_the_path_that_is_set(tmp_path: Path) -> None:
    for stitch in (0, 3):
        net = stitched_net(stitch=stitch)
        result = zoo.finetune(net, few_digits(), out=tmp_path / str(stitch), ema=0.5, **RUN)
        assert net.stitch == stitch
        last = checkpoints(tmp_path / str(stitch) / "checkpoints")[-1]
        for prefix, file in (("val", "model"), ("ema", "ema")):
            net.load_state_dict(load_file(last / f"{file}.safetensors"))
            again = zoo.evaluate(net, few_digits(), "val", progress=False, device="cpu")
            assert again["loss"] == pytest.approx(result.history[-1][f"{prefix}_loss"], rel=1e-5)


def test_a_path_that_is_not_finite_is_told(tmp_path: Path) -> None:
    net = stitched_net()

    def spoil(module: nn.Module, inputs: Any, output: Any) -> Any:
        return output * float("nan")

    layer = next(layer for layer in net.stitch_layers.modules() if type(layer).__name__ == "StitchLayer")
    layer.register_forward_hook(spoil)
    with pytest.raises(NonFiniteLossError, match=r"first module with a non-finite output: 'stitch_layers\.0\.0'"):
        zoo.finetune(net, few_digits(), out=tmp_path / "run", stitch_sampling="sandwich", **{**RUN, "epochs": 9})


SCRIPT = """
import json, sys
from tests.training.helpers import few_digits, stitched_net
import zoo
result = zoo.finetune(stitched_net(), few_digits(), out=sys.argv[1], **json.loads(sys.argv[2]))
print(json.dumps(result.metrics))
"""


@pytest.mark.parametrize(
    "extra",
    [
        {"stitch_sampling": {"mode": "uniform", "per_rank": False}},
        pytest.param({"stitch_sampling": {"mode": "sandwich", "per_rank": False}}, marks=pytest.mark.ci_long),
    ],
)
def test_two_processes_that_draw_the_same_equal_one(tmp_path: Path, extra: dict[str, Any]) -> None:
    options = {**RUN, "opt": "sgd", "lr": 0.01, "ema": 0.5, **extra}
    zoo.finetune(stitched_net(), few_digits(), out=tmp_path / "one", **options)
    answers = launch(tmp_path / "two", script=SCRIPT, **{**options, "batch_size": 8})
    assert answers[0] == answers[1]
    for file in ("model", "ema"):
        one, two = (
            load_file(checkpoints(tmp_path / run / "checkpoints")[-1] / f"{file}.safetensors") for run in ("one", "two")
        )
        for name in one:
            assert torch.allclose(one[name], two[name], atol=1e-5), (file, name)


@pytest.mark.ci_long
def test_processes_draw_for_themselves_and_a_run_is_resumed(tmp_path: Path) -> None:
    """Each trains other blocks: what one does not use gets the other's gradient, with batches added up, too."""
    options = {**RUN, "batch_size": 8, "accum": 2, "ema": 0.5, "save_every": 1, "keep_last": 99, "stitch_init": True}
    launch(tmp_path / "two", script=SCRIPT, **options)
    shutil.copytree(tmp_path / "two", tmp_path / "cut")
    for path in checkpoints(tmp_path / "cut" / "checkpoints")[2:]:
        shutil.rmtree(path)
    launch(tmp_path / "cut", script=SCRIPT, **options)
    assert_equal(weights(tmp_path / "cut"), weights(tmp_path / "two"))
    ids = [StitchSampler(stitched_net()).ids(step, place) for step in range(6) for place in range(4)]
    assert len(set(ids)) == PATHS


@pytest.mark.parametrize(
    ("stitched", "options", "error", "message"),
    [
        (False, {"stitch_sampling": "sandwich"}, ValueError, "stitch_sampling is for stitched networks .*, TinyNet is"),
        (False, {"stitch_lr": 1e-3}, ValueError, "stitch_lr is for stitched networks"),
        (False, {"freeze": "anchors"}, ValueError, "freeze pattern 'anchors' matches no parameter"),
        (True, {"stitch_sampling": "unifrom"}, ValueError, "called 'unifrom'; did you mean 'uniform'"),
        (True, {"stitch_sampling": {"mode": "sandwich", "cuont": 1}}, TypeError, "did you mean 'count'"),
        (True, {"stitch_lr": 0}, ValueError, "stitch_lr must be None or a positive number, got 0"),
        (True, {"stitch_lr": 1e-5, "min_lr": 1e-4}, ValueError, r"stitch_lr must be at least min_lr \(0.0001\)"),
        (True, {"stitch_init": "yes"}, ValueError, "stitch_init must be True or False, got 'yes'"),
        (True, {"lora": 4}, ValueError, "a stitched network has many; build it with lora_rank="),
    ],
)
def test_what_is_refused(
    tmp_path: Path, stitched: bool, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        zoo.finetune(
            stitched_net() if stitched else tiny_net(), few_digits(), out=tmp_path / "run", **{**QUICK, **options}
        )
    assert not (tmp_path / "run").exists()


def test_the_settings_are_stored_for_stitched_networks_alone(tmp_path: Path) -> None:
    for name, net in (("stitched", stitched_net()), ("plain", tiny_net())):
        zoo.finetune(net, few_digits(), out=tmp_path / name, **{**QUICK, "epochs": 1})
    stitched, plain = (
        json.loads((tmp_path / name / "args.json").read_text())["options"] for name in ("stitched", "plain")
    )
    names = ("stitch_sampling", "stitch_lr", "stitch_init")
    assert [stitched[name] for name in names] == ["uniform", None, True]
    assert [plain[name] for name in names] == [None, None, None]
    assert "stitch" not in zoo.report(tmp_path / "plain").read_text().split("zoo train")[-1].split("<")[0]
