"""Two processes with half the batch each do what one process does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from zoo.errors import TrainingError
from zoo.training.checkpoint import checkpoints
from zoo.training.engine import engine

OPTIONS: dict[str, Any] = {**QUICK, "lr": 0.05, "opt": "sgd", "ema": 0.5, "aug": "light"}

SCRIPT = """
import json, sys
from tests.training.test_processes import few_digits, plain_net
import zoo
result = zoo.finetune(plain_net(), few_digits(val=41), out=sys.argv[1], **json.loads(sys.argv[2]))
print(json.dumps({"metrics": result.metrics, "folder": str(result.folder)}))
"""


def plain_net(**options: Any) -> nn.Module:
    """No batch norm and no dropout, which see their own process's images only."""
    model = tiny_net(**options)
    model.stem[1], model.body[1], model.drop = nn.Identity(), nn.Identity(), nn.Identity()
    return model


def launch(folder: Path, *, script: str = SCRIPT, **options: Any) -> list[Any]:
    """Run a script in two processes; what each printed last, as JSON."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    common |= {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(folder), json.dumps(options)]
    processes = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        answers.append(json.loads(out.splitlines()[-1]))
    return answers


@pytest.mark.parametrize("extra", [{}, pytest.param({"accum": 2}, marks=pytest.mark.slow)])
def test_two_processes_equal_one(tmp_path: Path, extra: dict[str, Any]) -> None:
    alone = zoo.finetune(
        plain_net(), few_digits(val=41), out=tmp_path / "one", **{**OPTIONS, **extra, "batch_size": 16}
    )
    answers = launch(tmp_path / "two", **{**OPTIONS, **extra, "batch_size": 8})
    assert answers[0] == answers[1]
    for file in ("model", "ema"):
        one, two = (
            load_file(checkpoints(tmp_path / run / "checkpoints")[-1] / f"{file}.safetensors") for run in ("one", "two")
        )
        for name in one:
            assert torch.allclose(one[name], two[name], atol=1e-5), (file, name)
    for name, value in alone.metrics.items():
        assert answers[0]["metrics"][name] == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value)
    history = json.loads((tmp_path / "two" / "history.json").read_text())
    assert [row["train_loss"] for row in history] == pytest.approx(
        [row["train_loss"] for row in alone.history], abs=1e-5
    )
    with pytest.raises(TrainingError, match=r"was written by 2 process\(es\), this run has 1"):
        zoo.finetune(plain_net(), few_digits(val=41), out=tmp_path / "two", **{**OPTIONS, **extra, "batch_size": 8})


GRADUAL: dict[str, Any] = {
    **OPTIONS, "lr": 0.2, "epochs": 12, "freeze": "backbone", "unfreeze": {1: ["stem.*"], 2: None}, "early_stop": 2,
    "save_every": 2, "keep_last": 99, "monitor": "auroc",
}  # fmt: skip

#: Also tells what each process wrote into the run folder, and measures the model once more.
WATCHED = """
import json, sys
out, written = sys.argv[1], []

def watch(event, args):
    place = str(args[0]) if args else ""
    if not place.startswith(out):
        return
    changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
    if changes or (event == "open" and args[1] not in (None, "r", "rb")):
        written.append(event)

sys.addaudithook(watch)
from tests.training.test_processes import few_digits, plain_net
import zoo
options = json.loads(sys.argv[2])
options["unfreeze"] = {int(k): v for k, v in options["unfreeze"].items()}
result = zoo.finetune(plain_net(), few_digits(val=41), out=out, **options)
again = zoo.evaluate(result.model, few_digits(val=41), "val", batch_size=7, device="cpu", progress=False)
print(json.dumps({"history": result.history, "best": result.best_epoch, "written": len(written), "again": again}))
"""


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in history]


@pytest.mark.ci_long
def test_unfreezing_early_stop_and_resuming_over_two_processes(tmp_path: Path) -> None:
    alone = zoo.finetune(plain_net(), few_digits(val=41), out=tmp_path / "one", **{**GRADUAL, "batch_size": 16})
    assert len(alone.history) < 12  # stopped early
    first, second = launch(tmp_path / "two", script=WATCHED, **{**GRADUAL, "batch_size": 8})
    assert without_times(first["history"]) == without_times(second["history"])
    assert first["best"] == alone.best_epoch
    assert len(first["history"]) == len(alone.history)
    for mine, theirs in zip(first["history"], without_times(alone.history), strict=True):
        for name, value in theirs.items():
            assert mine[name] == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value), name
    # 41 images over two processes: gathered, not a mean of means.
    assert alone.val_metrics is not None
    for answer in (first, second):
        assert answer["again"]["samples"] == 41
        for name in ("accuracy", "auroc", "f1", "ece", "balanced_accuracy"):
            assert answer["again"][name] == pytest.approx(alone.val_metrics[name], abs=1e-4)
    assert first["written"] > 20
    assert second["written"] == 0
    # Cut off in the second epoch, two processes go on to the same bits.
    last = checkpoints(tmp_path / "two" / "checkpoints")[-1].name
    shutil.copytree(tmp_path / "two", tmp_path / "cut")
    for path in checkpoints(tmp_path / "cut" / "checkpoints")[4:]:
        shutil.rmtree(path)
    third, _ = launch(tmp_path / "cut", script=WATCHED, **{**GRADUAL, "batch_size": 8})
    assert without_times(third["history"]) == without_times(first["history"])
    for file in ("model", "ema", "optim"):
        one, two = (load_file(tmp_path / run / "checkpoints" / last / f"{file}.safetensors") for run in ("two", "cut"))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one), file


@pytest.mark.ci_long
def test_all_processes_stop_at_the_same_update(tmp_path: Path) -> None:
    """The signal reaches one of two; both leave with its code after one checkpoint."""
    script = """
import os, signal, sys, json
from tests.training.test_processes import few_digits, plain_net
from tests.training.test_resume import Killing
import zoo
splits = few_digits()
if os.environ["RANK"] == "1":
    splits.train = Killing(splits.train, 60, signal.SIGTERM)
try:
    zoo.finetune(plain_net(), splits, out=sys.argv[1], **json.loads(sys.argv[2]))
    print(json.dumps("finished"))
except (SystemExit, KeyboardInterrupt) as stop:
    print(json.dumps([type(stop).__name__, str(stop)]))
"""
    first, second = launch(tmp_path / "two", script=script, **{**OPTIONS, "batch_size": 8, "epochs": 3})
    assert second == ["SystemExit", str(128 + signal.SIGTERM)]
    assert first[0] in ("SystemExit", "KeyboardInterrupt")  # it was not sent the signal itself
    saved = checkpoints(tmp_path / "two" / "checkpoints")
    assert [p.name for p in saved] == ["step-00000006", "step-00000008"]


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_models_in_pieces_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(TrainingError, match=rf"does not run under .* \({variable}\): every process holds the whole"):
        zoo.finetune(plain_net(), few_digits(), out=tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_processes_that_do_not_know_of_one_another_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launched for GPUs that are not there, each process would train for itself, into the same folder."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=r"2 processes were started, but .* alone.*\(--device cpu\)"), engine("no"):
        pass


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.ci_long
def test_the_launch_lines_of_the_guide(tmp_path: Path) -> None:
    """Two machines with a process each do, bit for bit, what one machine does with two."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    common = ["-m", "zoo", "train", "test_resnet", "digits", "--img-size", "32", "--epochs", "1", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}

    def start(out: str, *machine: str) -> subprocess.Popen[str]:
        command = [*launcher, *machine, *common, "--out", str(tmp_path / out)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        )

    one = start("one", "--main_process_port", str(free_port()))
    out, err = one.communicate(timeout=300)
    assert one.returncode == 0, err
    assert out.count("folder\t") == 1  # one process speaks
    machines = ["--num_machines", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(free_port())]
    both = [start("two", *machines, "--machine_rank", str(rank)) for rank in range(2)]
    ends = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert json.loads((tmp_path / "two" / "args.json").read_text())["processes"] == 2
    first, second = (load_file(tmp_path / run / "best" / "model.safetensors") for run in ("one", "two"))
    assert all(torch.equal(first[name], second[name]) for name in first)
