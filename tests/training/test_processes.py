"""Two processes with half the batch each do what one process does."""

from __future__ import annotations

import json
import os
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
