"""Training in stages in two processes: what each learns, measures and calibrates is what one process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import zoo
from tests.training.test_processes import launch
from tests.training.varifocal.helpers import QUICK, few, plain_net
from zoo.training.checkpoint import checkpoints

SCRIPT = """
import json, sys
from tests.training.varifocal.helpers import few, plain_net
import zoo
result = zoo.finetune(plain_net(), few(), out=sys.argv[1], **json.loads(sys.argv[2]))
print(json.dumps({"metrics": result.metrics, "history": result.history, "temperature": result.model.temperature}))
"""


@pytest.mark.parametrize(
    "aug", [pytest.param("none", marks=pytest.mark.ci_long), pytest.param("light", marks=pytest.mark.slow)]
)
def test_two_processes_equal_one(tmp_path: Path, aug: str) -> None:
    """With answers of frozen parts that are kept, and with images that are varied anew."""
    options: dict[str, Any] = {**QUICK, "opt": "sgd", "lr": 0.05, "ema": 0.5, "aug": aug}
    alone = zoo.finetune(plain_net(), few(), out=tmp_path / "one", **{**options, "batch_size": 16})
    answers = launch(tmp_path / "two", script=SCRIPT, **{**options, "batch_size": 8})
    assert answers[0]["metrics"] == answers[1]["metrics"]
    for file in ("model", "ema"):
        one, two = (
            load_file(checkpoints(tmp_path / run / "checkpoints")[-1] / f"{file}.safetensors") for run in ("one", "two")
        )
        assert one.keys() == two.keys()
        for name in one:
            assert torch.allclose(one[name], two[name], atol=1e-5), (file, name)
    for answer in answers:
        assert answer["temperature"] == pytest.approx(alone.model.temperature, rel=1e-3)
        for name, value in alone.metrics.items():
            assert answer["metrics"][name] == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value)
        for mine, theirs in zip(answer["history"], alone.history, strict=True):
            assert mine["stage"] == theirs["stage"]
            assert mine["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-4)
