"""`zoo stitches`, and what other commands do with stitched networks: real data, files, what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import zoo
from tests.cli.test_training import invoke

NANO = "snnet_vit_nano.digits"


def test_accuracies_of_all_paths_on_real_data(tmp_path: Path) -> None:
    """Those that the catalogue states: of the checkpoint, on the test images, nine at once."""
    files = ["--out", tmp_path / "rows.json", "--plot", tmp_path / "front.png"]
    rows = json.loads(invoke("stitches", NANO, "--data", "digits", *files, "--json")[0])
    known: dict[int, float] = zoo.create_model(NANO, pretrained=True).top1  # type: ignore[assignment]
    assert {row["id"]: round(row["top1"], 2) for row in rows} == known
    assert {row["samples"] for row in rows} == {360}
    assert [row["flops"] for row in rows] == sorted(row["flops"] for row in rows)
    kept = json.loads((tmp_path / "rows.json").read_text())
    assert (kept["dataset"], kept["split"], kept["samples"]) == ("digits", "test", 360)
    assert sorted(kept["rows"], key=lambda row: row["id"]) == sorted(rows, key=lambda row: row["id"])
    with Image.open(tmp_path / "front.png") as figure:
        assert figure.format == "PNG"
        assert min(figure.size) > 300
    again = invoke("stitches", NANO, "--data", "digits", *files, code=1)[1]
    assert "rows.json is there already" in again


def test_the_best_of_them_and_a_budget() -> None:
    how = ["--data", "digits", "--split", "val", "--batch-size", 50]
    lines = invoke("stitches", NANO, *how, "--pareto")[0].splitlines()
    accuracies = [float(line.split("\t")[-1]) for line in lines]
    assert accuracies == sorted(set(accuracies))  # each dearer one is better
    rows = json.loads(invoke("stitches", NANO, *how, "--budget-params", 30_000, "--json")[0])
    assert [row["id"] for row in rows] == [0, 5]
    assert all(row["top1"] > 80 for row in rows)
    assert {row["samples"] for row in rows} == {180}


def test_one_path_as_a_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zoo", "export", NANO, "--stitch", "4", "--out", "path.pt2", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["error"] < 1e-5
    net: Any = zoo.create_model(NANO, pretrained=True).eval()
    program = torch.export.load(tmp_path / "path.pt2").module()
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(program(x), net(x, stitch=4), atol=1e-5, rtol=1e-5)
    weights = 4 * net.stitches[4].params
    assert weights < facts["size"] < weights + 500_000


@pytest.mark.slow
def test_one_path_as_onnx(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zoo", "export", NANO, "--stitch", "8", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["error"] < 1e-5
    assert (tmp_path / facts["path"]).suffix == ".onnx"


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["stitches", "test_resnet"], "test_resnet is no stitched network: make one with zoo.stitch", 1),
        (["stitches", "snnet_vit_nanoo"], "did you mean 'snnet_vit_nano'", 1),
        (["stitches", "snnet_vit_nano", "--out", "rows.json"], "it is for what --data gives", 2),
        (["stitches", NANO, "--budget-flops", 1000], "flops=1,000: stitch 0 is the cheapest, with 259,312", 1),
        (["stitches", NANO, "--budget-params", 1], "params=1: stitch 0 is the cheapest, with 13,690", 1),
        (["stitches", NANO, "--data", "digit"], "digit", 1),
        (["stitches", NANO, "--data", "digits", "--split", "tst"], "tst", 1),
        (["stitches", NANO, "--data", "digits", "--batch-size", 0], "batch_size must be a whole number", 1),
        (["stitches", NANO, "--data", "digits", "--device", "cud"], "cud", 1),
        (["export", NANO, "--stitch", 9, "--out", "a.pt2"], "there is no stitch 9: they are 0 to 8", 1),
        (["export", NANO, "--stitch", 936_416, "--out", "a.pt2"], "of about so many FLOPs are 1 (936 k)", 1),
        (["export", "test_resnet", "--stitch", 1], "--stitch is for stitched networks, test_resnet is none", 1),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[Any], said: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, err = invoke(*words, code=code)
    assert said in " ".join(err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())
