"""Super-resolution in two processes: what each learns and measures is what one process does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import zoo
from tests.training.super_resolution.helpers import QUICK, small_network, small_pcsr, write_photos
from tests.training.test_processes import launch
from tests.training.test_resume import assert_equal, weights
from zoo.training.checkpoint import checkpoints

SCRIPT = """
import json, sys
from tests.training.super_resolution import helpers
import zoo
options = json.loads(sys.argv[2])
net, data = getattr(helpers, options.pop("net"))(), options.pop("data")
result = zoo.finetune(net, data, out=sys.argv[1], **options)
again = zoo.evaluate(result.model, data + "/val", progress=False, device="cpu")
print(json.dumps({"metrics": result.metrics, "history": len(result.history), "again": again}))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five to be measured: one process has one more than the other."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder / "train", 4)
    write_photos(folder / "val", 5, side=(48, 56))
    return folder


def test_whole_patches_in_two_processes_are_those_of_one(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {**QUICK, "epochs": 2, "opt": "sgd", "lr": 0.05}
    alone = zoo.finetune(small_network(), photos, out=tmp_path / "one", **{**options, "batch_size": 4})
    said = {"net": "small_network", "data": str(photos)}
    answers = launch(tmp_path / "two", script=SCRIPT, **{**options, "batch_size": 2}, **said)
    assert answers[0] == answers[1]
    one, two = (
        load_file(checkpoints(tmp_path / run / "checkpoints")[-1] / "model.safetensors") for run in ("one", "two")
    )
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-5), name
    for name, value in alone.metrics.items():
        assert answers[0]["metrics"][name] == (pytest.approx(value, abs=1e-3) if isinstance(value, float) else value)
    assert answers[0]["again"]["samples"] == 5


@pytest.mark.slow
def test_both_phases_in_two_processes_go_on_to_the_same_bits(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {**QUICK, "phases": (3, 3), "ema": 0.5, "save_every": 1, "batch_size": 2}
    said = {"net": "small_pcsr", "data": str(photos)}
    first = launch(tmp_path / "whole", script=SCRIPT, **options, **said)
    assert first[0] == first[1]
    assert json.loads((tmp_path / "whole" / "args.json").read_text())["processes"] == 2
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for last in checkpoints(tmp_path / "cut" / "checkpoints")[1:]:  # what is left is in the first phase
        shutil.rmtree(last)
    second = launch(tmp_path / "cut", script=SCRIPT, **options, **said)
    assert second == first
    assert_equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    untrained = small_pcsr().state_dict()
    learned = weights(tmp_path / "whole")
    for part in ("encoder", "heavy_sampler", "light_sampler", "classifier"):
        assert any(
            not torch.equal(learned[f"model.{name}"], untrained[name]) for name in untrained if name.startswith(part)
        )
