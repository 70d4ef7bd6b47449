"""`zoo train`, `zoo eval`, `zoo predict`: what goes in, what comes out, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.training.helpers import few_digits
from zoo.cli import app
from zoo.training import finetune

QUICK = ["--epochs", "1", "--batch-size", "16", "--img-size", "32", "--lr", "0.001"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few digits as an image folder with splits."""
    root = tmp_path_factory.mktemp("digits")
    for name, split in few_digits(train=60, val=60, test=60).present().items():
        for i in range(len(split)):
            folder = root / name / split.classes[split.labels[i]]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.image(i)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def run_folder(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    finetune("test_resnet", digits, out=folder, epochs=1, batch_size=16, img_size=32, progress=False)
    return folder


def invoke(*args: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, result.output + str(result.exception)
    return result.stdout, result.stderr


def test_train_prints_results_on_stdout_and_progress_on_stderr(digits: Path, tmp_path: Path) -> None:
    out, err = invoke("train", "test_resnet", digits, "--out", tmp_path, *QUICK)
    rows = dict(line.split("\t") for line in out.splitlines())
    assert rows["folder"] == str(tmp_path)
    assert rows["split"] == "test"
    assert rows["samples"] == "60"
    assert 0 <= float(rows["accuracy"]) <= 1
    assert "epoch 1/1: loss" in err
    assert "epoch" not in out
    again, notes = invoke("train", "test_resnet", digits, "--out", tmp_path, *QUICK)
    assert again == out
    assert "nothing left to train" in notes


def test_train_takes_every_kind_of_option(digits: Path, tmp_path: Path) -> None:
    flags = "--freeze backbone --unfreeze 1:blocks:-2 --class-weights balanced --ema 0.9 --early-stop 3 --val 0.2 "
    flags += (
        "--sched linear --aug none --hflip 0 --model-arg in_chans=1 --mixup 0.2 --seed 3 --save-every 2 --quiet --json"
    )
    options = [*QUICK, "--epochs", "2", *flags.split()]
    out, err = invoke("train", "test_resnet", digits, "--out", tmp_path, *options)
    assert json.loads(out)["folder"] == str(tmp_path)
    assert err == ""
    stored = json.loads((tmp_path / "args.json").read_text())
    assert stored["options"]["unfreeze"] == {"1": "blocks:-2"}
    assert len(stored["options"]["class_weights"]) == 10
    assert stored["data"]["images"]["val"] == 12  # a fifth of train, not the folder's own
    assert json.loads((tmp_path / "best" / "config.json").read_text())["model_args"]["in_chans"] == 1


def test_train_reads_a_file_and_the_command_line_wins(digits: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('epochs = 2\nlr = 0.01\nbatch_size = 16\nimg_size = 32\nfreeze = ["conv1.*"]\nprogress = false\n')
    invoke("train", "test_resnet", digits, "--out", tmp_path / "run", "--config", recipe, "--epochs", 1, "--seed", 4)
    options = json.loads((tmp_path / "run" / "args.json").read_text())["options"]
    assert (options["epochs"], options["lr"], options["seed"], options["freeze"]) == (1, 0.01, 4, ["conv1.*"])
    recipe.write_text("epoch = 2\n")
    _, err = invoke("train", "test_resnet", digits, "--config", recipe, code=1)
    assert "takes no argument 'epoch'; did you mean 'epochs'" in err
    recipe.write_text("epochs = \n")
    assert "cannot read" in invoke("train", "test_resnet", digits, "--config", recipe, code=1)[1]
    assert "there is no file" in invoke("train", "test_resnet", digits, "--config", tmp_path / "no.toml", code=1)[1]


def test_eval(run_folder: Path, digits: Path) -> None:
    out, _ = invoke("eval", run_folder, digits)
    rows = dict(line.split("\t") for line in out.splitlines())
    measured = json.loads(invoke("eval", run_folder, digits, "--json")[0])
    assert float(rows["accuracy"]) == pytest.approx(measured["accuracy"], abs=5e-5)
    assert np.array(measured["confusion"]).sum() == measured["samples"] == 60
    assert measured["classes"] == list("0123456789")
    assert json.loads((run_folder / "metrics.json").read_text())["test"]["accuracy"] == measured["accuracy"]
    train = dict(line.split("\t") for line in invoke("eval", run_folder, digits, "--split", "train")[0].splitlines())
    assert train["samples"] == "60"
    whole, err = invoke("eval", f"local-dir:{run_folder / 'best'}", digits / "val")
    assert "samples\t60" in whole
    assert "has no splits: all 60 images" in err
    assert "split\tall" in whole


def test_predict(run_folder: Path, digits: Path, tmp_path: Path) -> None:
    folder = digits / "test" / "3"
    files = sorted(folder.glob("*.png"))
    answers = json.loads(invoke("predict", run_folder, folder, "--top", 2, "--json")[0])
    assert sorted(a["image"] for a in answers) == sorted(map(str, files))
    assert all(len(a["top"]) == 2 for a in answers)
    lines = invoke("predict", run_folder, files[0], "--top", 3)[0].splitlines()
    assert len(lines) == 3
    assert lines[0].split("\t")[0] == str(files[0])
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nonsense")
    assert "(--on-bad skip)" in invoke("predict", run_folder, files[0], bad, code=1)[1]
    some, notes = invoke("predict", run_folder, files[0], bad, "--top", 3, "--on-bad", "skip")
    assert some.splitlines() == lines
    assert f"left out an unreadable image: {bad}" in notes


@pytest.mark.parametrize(
    ("args", "message", "code"),
    [
        (["train", "test_resnett", "digits"], "error: unknown model 'test_resnett'; did you mean", 1),
        (["train", "test_resnet", "no/such/folder"], "error: no data at 'no/such/folder'", 1),
        (["train", "test_resnet", "digits", "--opt", "adamm"], "error: unknown optimiser 'adamm'", 1),
        (["train", "test_resnet", "digits", "--monitor", "acc"], "error: monitor must be 'auto' or one of", 1),
        (["train", "test_resnet", "digits", "--model-arg", "widht=2"], "error:", 1),
        (["train", "test_resnet", "digits", "--lr", "fast"], "neither a number nor 'auto'", 2),
        (["train", "test_resnet", "digits", "--epochs", "many"], "for '--epochs'", 2),
        (["train", "test_resnet", "digits", "--unfreeze", "backbone"], "is not EPOCHS:FREEZE", 2),
        (["train", "test_resnet", "digits", "--model-arg", "width"], "is not KEY=VALUE", 2),
        (["train", "test_resnet", "digits", "--class-weights", "a,b"], "numbers separated by commas", 2),
        (["train", "test_resnet"], "Missing argument", 2),
        (["eval", "medvit2_kan_base", "digits"], "error: there are no pretrained weights", 1),
        (["predict", "no/such/run", "image.png"], "error:", 1),
    ],
)
def test_errors_are_one_line(
    args: list[str], message: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, err = invoke(*args, code=code)
    assert message in " ".join(err.replace("│", " ").split())
    if code == 1:
        assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_hints_name_the_options(digits: Path, run_folder: Path, tmp_path: Path) -> None:
    changed = " ".join(invoke("train", "test_resnet", digits, "--out", run_folder, *QUICK, code=1)[1].split())
    assert "take another out (--out), or start anew with resume=False (--no-resume)" in changed
    assert (
        "between 0 and 1, got 0.0; val=False (--val no)"
        in invoke("train", "test_resnet", digits, "--out", tmp_path / "run", "--val", 0, code=1)[1]
    )
    mine = tmp_path / "mine"
    (mine / "best").mkdir(parents=True)
    (mine / "best" / "photo.png").write_bytes(b"mine")
    for flag in ("--no-resume", "--resume"):
        assert "choose another out (--out)" in invoke("train", "test_resnet", digits, "--out", mine, flag, code=1)[1]
    assert (mine / "best" / "photo.png").read_bytes() == b"mine"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(digits: Path, run_folder: Path, tmp_path: Path) -> None:
    for command in (
        ["train", "test_resnet", digits, "--out", tmp_path],
        ["eval", run_folder, digits],
        ["predict", run_folder, digits],
    ):
        err = invoke(*command, "--device", "cuda", code=1)[1]
        assert err.startswith("error: there is no device 'cuda' on this machine, only cpu")
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["train", "eval", "predict"])
def test_help_answers(command: str) -> None:
    out, _ = invoke(command, "--help")
    assert "run folder" in " ".join(out.replace("│", " ").split())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_give_the_shells_exit_code(tmp_path: Path, number: signal.Signals, code: int) -> None:
    command = [
        sys.executable,
        "-m",
        "zoo",
        "train",
        "test_resnet",
        "digits",
        "--out",
        str(tmp_path),
        "--img-size",
        "32",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith("epoch 1/20") for line in process.stderr)  # training is under way
        process.send_signal(number)
        started = time.monotonic()
        _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert time.monotonic() - started < 60
    newest = max((tmp_path / "checkpoints").iterdir())
    assert json.loads((newest / "state.json").read_text())["position"]["step_in_epoch"] > 0
    if number == signal.SIGINT:
        assert "run again with out=" in err
