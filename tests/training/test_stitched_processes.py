"""Stitched networks in several processes: all paths measured, and `zoo train` under a launcher, cut off and resumed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from tests.training.helpers import few_digits, stitched_net
from tests.training.test_processes import free_port, launch
from tests.training.test_resume import assert_equal, weights
from zoo.models.stitching.sampling import StitchSampler
from zoo.training.checkpoint import checkpoints

MEASURED = """
import json, os, sys
from tests.training.helpers import few_digits, stitched_net
import zoo
net = stitched_net()
written = []

def watch(event, args):
    if event == "os.rename" and "rows.json" in str(args[1]):
        written.append(1)

sys.addaudithook(watch)
options = {**json.loads(sys.argv[2]), "device": "cpu", "progress": False}
rows = zoo.evaluate_stitches(net, few_digits(test=41), remember=True, out=sys.argv[1] + "/rows.json", **options)
known = {str(number): value for number, value in net.top1.items()}
print(json.dumps({"rows": rows, "known": known, "written": len(written)}))
"""


def test_paths_measured_in_two_processes_are_those_of_one(tmp_path: Path) -> None:
    """41 images: one process has one more than the other."""
    net = stitched_net()
    alone = zoo.evaluate_stitches(net, few_digits(test=41), batch_size=7, device="cpu", progress=False)
    answers: list[dict[str, Any]] = launch(tmp_path, script=MEASURED, batch_size=7)
    for answer in answers:
        assert answer["rows"] == json.loads(json.dumps(alone))
        assert answer["known"] == {str(row["id"]): row["top1"] for row in alone}
    assert {row["samples"] for row in alone} == {41}
    assert json.loads((tmp_path / "rows.json").read_text())["rows"] == answers[0]["rows"]
    assert sorted(answer["written"] for answer in answers) == [0, 1]


@pytest.mark.ci_long
@pytest.mark.parametrize("mode", ["uniform", "sandwich"])
def test_the_command_under_a_launcher(mode: str, tmp_path: Path) -> None:
    """A run that was cut off draws the same paths for the rest, and ends in the same bits."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    options: dict[str, Any] = {
        "epochs": 2,
        "batch-size": 128,
        "lr": 0.002,
        "accum": 2,
        "save-every": 1,
        "device": "cpu",
    }
    options |= {"stitch-sampling": mode, "stitch-lr": 0.004, "seed": 3, "ema": 0.9}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}

    def train(run: str) -> str:
        command = [*launcher, "--main_process_port", str(free_port()), "-m", "zoo", "train", "snnet_vit_nano", "digits"]
        done = subprocess.run(
            [*command, *words, "--from-scratch", "--out", str(tmp_path / run)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert train("whole").count("folder\t") == 1  # one process speaks
    told = json.loads((tmp_path / "whole" / "args.json").read_text())
    assert told["processes"] == 2
    assert (told["options"]["stitch_sampling"], told["options"]["stitch_lr"], told["options"]["seed"]) == (
        mode,
        0.004,
        3,
    )
    kept = checkpoints(tmp_path / "whole" / "checkpoints")
    assert len(kept) > 1
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(checkpoints(tmp_path / "cut" / "checkpoints")[-1])
    train("cut")
    assert_equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_what_is_drawn_depends_on_the_seed_the_update_and_the_place_alone() -> None:
    """A sampler made anew, in any order, with torch's and Python's generators anywhere, draws the same."""
    net = stitched_net()
    first = [StitchSampler(net, seed=5).ids(step, place) for step in range(20) for place in range(2)]
    torch.manual_seed(99)
    again = StitchSampler(stitched_net(seed=7), seed=5)
    places = [(step, place) for step in range(20) for place in range(2)]
    backwards = {place: again.ids(*place) for place in reversed(places)}
    assert [backwards[place] for place in places] == first
    assert [StitchSampler(net, seed=6).ids(*place) for place in places] != first
