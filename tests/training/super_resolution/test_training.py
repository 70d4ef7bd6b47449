"""Training to enlarge images: the phases, where a run goes on, what is measured and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import zoo
from tests.training.super_resolution.helpers import QUICK, small_pcsr, write_photos
from zoo.layers.pixel_adaptive import make_coords
from zoo.models.super_resolution.fsrcnn import FSRCNN
from zoo.training import Result
from zoo.training.super_resolution.loop import draw
from zoo.training.super_resolution.photos import in_steps


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


def state(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    """The parts of the network that differ."""
    return {name.partition(".")[0] for name in one if not torch.equal(one[name], other[name])}


@pytest.mark.parametrize("backbone", ["srresnet", "carn"])
def test_phases_train_their_own_parts(photos: Path, tmp_path: Path, backbone: str) -> None:
    net, states = small_pcsr(backbone=backbone), []
    states.append(state(net))

    def look(result: Result) -> None:
        states.append(state(result.model))

    result = zoo.finetune(net, photos, phases=(3, 2), out=tmp_path / "run", callbacks=[look], **QUICK)
    # Two updates an epoch: the second epoch of phase 0 has one.
    assert len(states) == 4
    assert changed(states[0], states[1]) == changed(states[1], states[2]) == {"encoder", "heavy_sampler"}
    assert changed(states[2], states[3]) == {"light_sampler", "classifier"}
    assert result.best_epoch == 3
    assert result.monitor == "psnr"
    assert [row["phase"] for row in result.history] == [0, 0, 1]
    assert [row["lr"] for row in result.history][2] > result.history[1]["lr"]  # the schedule begins anew
    assert all(p.requires_grad for p in net.parameters())
    assert net._phase is None


def test_a_run_goes_on_to_the_same_bits(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {**QUICK, "phases": (3, 3), "ema": 0.5}
    whole = zoo.finetune(small_pcsr(), photos, out=tmp_path / "whole", **options)

    ends: list[int] = []

    def stop(result: Result) -> None:
        ends.append(len(result.history))
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            zoo.finetune(small_pcsr(), photos, out=tmp_path / "cut", callbacks=[stop], **options)
    cut = zoo.finetune(small_pcsr(), photos, out=tmp_path / "cut", **options)
    assert not changed(state(whole.model), state(cut.model))
    assert ends == [1, 2, 3]
    columns = ("epoch", "train_loss", "val_psnr", "ema_psnr", "lr")
    assert [[row[c] for c in columns] for row in whole.history] == [[row[c] for c in columns] for row in cut.history]
    assert whole.metrics == cut.metrics


def test_loss_of_a_phase_is_that_of_the_paper(photos: Path, tmp_path: Path) -> None:
    """One update: the loss that is recorded is computed once more by hand from what the model gives."""
    net = small_pcsr()
    calls: list[tuple[Any, Any]] = []
    before = net.query_loss
    net.query_loss = lambda answer, target: calls.append((answer, target)) or before(answer, target)  # type: ignore[method-assign]
    result = zoo.finetune(net, photos, phases=(1, 1), out=tmp_path / "run", **{**QUICK, "batch_size": 8})
    (heavy, target0), (answer, target1) = calls
    assert result.history[0]["train_loss"] == pytest.approx(float((heavy[0] - target0).abs().mean().detach()))
    pred, prob = answer
    count = prob[..., 1].numel() / 2
    second = 1000 * (pred - target1).abs().mean() + 3 * (prob[..., 1].sum() - count).abs() / count
    assert result.history[1]["train_loss"] == pytest.approx(float(second.detach()), rel=1e-5)


def test_it_learns(photos: Path, tmp_path: Path) -> None:
    """Phase 0 comes up to the bilinear image from what it begins with; classes cost between all light and all heavy."""
    begun = zoo.evaluate(small_pcsr(), photos, policy="heavy", progress=False)
    options = {**QUICK, "epoch_patches": 160, "batch_size": 8, "lr": 1e-2, "queries": 256}
    result = zoo.finetune(small_pcsr(), photos, phases=(80, 24), out=tmp_path / "run", **options)
    values = {p: zoo.evaluate(result.model, photos, policy=p, progress=False) for p in ("light", "heavy", "argmax")}
    assert begun["psnr"] < 20
    assert values["heavy"]["psnr"] > values["heavy"]["bilinear_psnr"] - 0.1
    assert values["light"]["flops"] < values["argmax"]["flops"] <= values["heavy"]["flops"] * 1.2
    assert values["light"]["bicubic_psnr"] > values["light"]["bilinear_psnr"]
    assert values["light"]["flops"] < zoo.evaluate(result.model, photos, budget=0.9, progress=False)["flops"]


def test_original_networks_learn_whole_patches(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = FSRCNN(d=8, s=4, m=1)
    before = copy.deepcopy(net)
    result = zoo.finetune(net, photos, epochs=1, out=tmp_path / "run", **{**QUICK, "batch_size": 8})
    assert result.history[0]["train_loss"] > 0
    assert changed(state(net), state(before))
    assert set(result.metrics) >= {"psnr", "ssim", "psnr_y", "ssim_y"}
    with pytest.raises(ValueError, match="is trained in 1, give as many"):
        zoo.finetune(net, photos, phases=(3, 2), out=tmp_path / "other", **QUICK)
    with pytest.raises(ValueError, match=r"^budget=0\.7: fsrcnn has one way to enlarge images"):
        zoo.evaluate(net, photos, budget=0.7, progress=False)
    found = zoo.evaluate(net, photos / "1.png", progress=False)
    assert found["true_flops"] == net.flops((18, 20), 4, convention="true") < found["flops"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": 0.8, "policy": "adm"}, "budget=0.8 .* leave policy and k out"),
        ({"budget": 0.01}, r"a budget \(target\) must be from"),
        ({"policy": "target"}, r"needs budget= \(--budget\)"),
        ({"policy": "lihgt"}, "policy must be one of .*, got 'lihgt'; did you mean 'light'"),
    ],
)
def test_how_pixels_are_decided(photos: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        zoo.evaluate(small_pcsr(), photos / "1.png", progress=False, **options)
    with pytest.raises(TypeError, match="policy takes no argument 'kk'; did you mean 'k'"):
        zoo.evaluate(small_pcsr(), photos / "1.png", progress=False, policy={"kk": 0.5})


def test_psnr_is_of_whole_steps_without_the_border(photos: Path) -> None:
    """Of a network that gives the bilinear image: heavy weights are 0."""
    net = small_pcsr().eval()
    with torch.no_grad():
        for parameter in net.heavy_sampler.parameters():
            parameter.zero_()
    found = zoo.evaluate(net, photos / "1.png", policy="heavy", progress=False)
    from zoo.training.super_resolution.source import open_photos_of

    small, large = open_photos_of(photos / "1.png", "test", scale=4)[2].image(0)
    up = F.interpolate(small[None].float() / 255, scale_factor=4, mode="bilinear", align_corners=False)[0]
    error = (in_steps(up).double() - large.double())[:, 4:-4, 4:-4]
    wanted = 10 * torch.log10(255**2 / error.square().mean())
    assert found["psnr"] == pytest.approx(float(wanted), abs=1e-5)
    assert found["bilinear_psnr"] == pytest.approx(found["psnr"], abs=1e-3)
    assert found["split"] == "all"
    assert found["samples"] == 1


def test_queries_are_places_of_the_patch() -> None:
    large = torch.rand(3, 3, 8, 12)
    everything = draw(large, None)
    assert torch.equal(everything[0][1], make_coords(8, 12))
    assert torch.equal(everything[2].mT.reshape(large.shape), large)
    torch.manual_seed(0)
    coord, cell, values = draw(large, 20)
    assert coord.shape == (3, 20, 2)
    assert torch.equal(cell[0, 0], torch.tensor([2 / 8, 2 / 12]))
    rows = ((coord[..., 0] + 1) * 4).floor().long()
    columns = ((coord[..., 1] + 1) * 6).floor().long()
    for b in range(3):
        assert torch.equal(values[b], large[b][:, rows[b], columns[b]].mT)
        assert len({*zip(rows[b].tolist(), columns[b].tolist(), strict=True)}) == 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mixup": 0.2, "freeze": "backbone"}, "mixup, freeze: not for models that enlarge images"),
        ({"monitor": "psrn"}, "monitor must be 'auto' or one of psnr, .*; got 'psrn'; did you mean"),
        ({"scale": 2.5}, r"scale must be a whole number from 2, got 2\.5"),
        ({"scale": float("nan")}, "scale must be a whole number from 2, got nan"),
        ({"phases": (3,)}, r"pcsr is trained in 2, give as many whole numbers of updates, got \(3,\)"),
        ({"phases": (3, 0)}, "whole numbers of updates"),
        ({"epochs": 1}, "epochs=1: the model is trained in 2 phases, give at least 2"),
        ({"patch_size": 0}, "patch_size must be a whole number from 1, got 0"),
        ({"queries": 0.5}, r"queries must be a whole number from 1, got 0\.5"),
        ({"early_stop": 2}, "is trained in 2 phases of set length"),
        ({"lr": -1}, "lr must be a positive number"),
    ],
)
def test_settings_that_cannot_be(photos: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        zoo.finetune(small_pcsr(), photos, out=tmp_path / "run", **{**QUICK, **options})
    assert not (tmp_path / "run").exists()


def test_another_scale_becomes_the_models_own(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a warning of it, and a single photograph is measured itself."""
    options = {**QUICK, "epoch_patches": 4, "progress": True}
    result = zoo.finetune(small_pcsr(), photos / "1.png", scale=3, phases=(1, 1), out=tmp_path / "run", **options)
    said = capsys.readouterr().err
    assert said.count("the network learns to enlarge by 3, and does so from now on") == 1
    assert "one photograph, none to validate on" in said
    assert "epoch 1/2, phase 0: loss" in said
    assert said.count("(best of phase 0)") == said.count("(best of phase 1)") == 1
    again = zoo.create_model(f"local-dir:{tmp_path / 'run' / 'best'}")
    assert again.scale == result.model.scale == 3
    assert again._model_args["scale"] == 3
    with Image.open(photos / "1.png") as image:
        assert zoo.upscale(tmp_path / "run", image).image.size == (240, 216)
    found = zoo.evaluate(tmp_path / "run", photos / "1.png", progress=False)
    assert found["scale"] == 3
    with pytest.raises(zoo.ZooError, match=r"pcsr enlarges images and names no classes: zoo\.upscale"):
        zoo.predict(tmp_path / "run", photos / "1.png")
    assert result.metrics["split"] == "train"
    assert result.metrics["psnr"] == pytest.approx(found["psnr"], abs=1e-6)
    assert found["hard"] == pytest.approx(1 - found["fraction_0"]) == pytest.approx(found["fraction_1"])


def test_a_module_in_float64_learns_and_leaves_its_weights_alone(photos: Path, tmp_path: Path) -> None:
    net = zoo.PCSR(torch.nn.Conv2d(3, 4, 3, padding=1), [[4], [8]], [], scale=2).double()
    result = zoo.finetune(net, photos, phases=(1, 1), out=tmp_path / "run", **{**QUICK, "epoch_patches": 4})
    assert result.model.classifier.linears[0].weight.dtype == torch.float64
    with pytest.raises(zoo.ZooError, match=r"best holds the weights alone, .*zoo\.load_weights\(model, '.*best'\)"):
        zoo.evaluate(tmp_path / "run", photos, progress=False)


def test_settings_of_photographs_are_for_them_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="phases: for models that enlarge images, which resnet18 does not"):
        zoo.finetune("resnet18", "digits", phases=(2, 3), out=tmp_path / "run", progress=False)


def test_another_run_is_not_gone_on_with(photos: Path, tmp_path: Path) -> None:
    zoo.finetune(small_pcsr(), photos, phases=(1, 1), out=tmp_path / "run", **QUICK)
    with pytest.raises(zoo.ZooError, match=r"lengths was \[1, 1\], is \[2, 1\]"):
        zoo.finetune(small_pcsr(), photos, phases=(2, 1), out=tmp_path / "run", **QUICK)
    with pytest.raises(zoo.ZooError, match=r"\(scale was 4, is 2\)"):
        zoo.finetune(small_pcsr(), photos, phases=(1, 1), scale=2, out=tmp_path / "run", **QUICK)
