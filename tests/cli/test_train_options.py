"""Options of `zoo train` that decide how a run survives, is recorded and is made small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_training import QUICK, digits, invoke

__all__ = ["digits"]  # a fixture


def options_of(folder: Path) -> dict:
    return json.loads((folder / "args.json").read_text())["options"]


def test_the_words_reach_the_run(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    flags = ["--batch-size", "auto:32", "--on-nan", "skip", "--tracker", "tensorboard", "--quiet", "--json"]
    out, err = invoke("train", "test_resnet", digits, "--out", run, *QUICK[:2], *QUICK[4:], *flags)
    assert json.loads(out)["folder"] == str(run)
    assert err == ""
    assert (options_of(run)["batch_size"], options_of(run)["accum"], options_of(run)["on_nan"]) == (32, 1, "skip")
    assert "skipped" in (run / "history.csv").read_text().splitlines()[0]
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4", {"r": 4, "alpha": 8, "dropout": 0.0, "target": None}),
        ('{"r": 2, "alpha": 1, "target": "fc1"}', {"r": 2, "alpha": 1, "dropout": 0.0, "target": ["fc1"]}),
    ],
)
def test_lora(digits: Path, tmp_path: Path, text: str, expected: dict) -> None:
    pytest.importorskip("peft")
    invoke("train", "test_vit", digits, "--out", tmp_path / "run", *QUICK, "--lora", text, "--quiet")
    assert options_of(tmp_path / "run")["lora"] == expected
    out, _ = invoke("eval", tmp_path / "run", digits)
    assert "accuracy" in out


def test_a_teacher(digits: Path, tmp_path: Path) -> None:
    invoke("train", "test_resnet", digits, "--out", tmp_path / "first", *QUICK, "--quiet")
    flags = ["--teacher", tmp_path / "first", "--distillation", "soft", "--distillation-alpha", "0.7"]
    invoke("train", "test_vit", digits, "--out", tmp_path / "second", *QUICK, *flags, "--quiet")
    names = ("teacher", "distillation", "distillation_alpha", "distillation_tau", "stitch_sampling")
    assert [options_of(tmp_path / "second")[name] for name in names] == ["first", "soft", 0.7, 1.0, None]


@pytest.mark.parametrize(
    ("flags", "message", "code"),
    [
        (["--batch-size", "many"], "'many' is neither a whole number nor 'auto'", 2),
        (["--batch-size", "auto:x"], "error: batch_size must be a whole number from 1, 'auto' or e.g. 'auto:256'", 1),
        (["--lora", "qkv"], "'qkv' is neither a rank such as 8 nor a JSON object", 2),
        (["--lora", "true"], "neither a rank such as 8 nor a JSON object", 2),
        (["--lora", '{"rank": 3}'], "error: lora has no option 'rank'", 1),
        (["--lora", "8", "--freeze", "backbone"], "error: lora trains adapters in the backbone", 1),
        (["--distillation", "soft"], "error: distillation='soft' says how a teacher teaches", 1),
        (["--stitch-sampling", "unifrom"], "error: there is no way of sampling stitches called 'unifrom'", 1),
        (["--stitch-sampling", '{"mode": '], "is not JSON", 2),
        (["--stitch-lr", "0.1", "--img-size", "32"], "error: stitch_lr is for stitched networks", 1),
        (["--no-stitch-init", "--img-size", "32"], "error: stitch_init is for stitched networks", 1),
        (["--tracker", "tensorbord"], "did you mean 'tensorboard'?", 1),
        (["--on-nan", "ignore"], "error: on_nan must be 'raise' or 'skip', got 'ignore'", 1),
    ],
)
def test_what_is_wrong_is_one_line(
    flags: list[str], message: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, err = invoke("train", "test_resnet", "digits", *flags, code=code)
    assert message in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "runs").exists()


def test_they_can_stand_in_a_file(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('batch_size = "auto:16"\ntracker = "tensorboard"\nlora = {r = 2, target = ["qkv"]}\n')
    run = tmp_path / "run"
    options = ["--epochs", 1, "--img-size", 32, "--config", recipe, "--quiet"]
    invoke("train", "test_vit", digits, "--out", run, *options)
    assert options_of(run)["batch_size"] == 16
    assert options_of(run)["lora"]["target"] == ["qkv"]
    assert (run / "tensorboard").is_dir()
