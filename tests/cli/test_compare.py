"""`zoo compare`: what goes in, what comes out, how it ends and how it goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zoo.cli import app

DATA = "digits?classes=0,1,2"
ARGUMENTS = ["--head", "linear,kan", "test_resnet", DATA, "--epochs", "5", "--img-size", "32", "--device", "cpu"]


def invoke(*args: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["compare", *(str(a) for a in args)])
    assert result.exit_code == code, result.output + str(result.exception)
    return result.stdout, result.stderr


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """As from a terminal: the signal goes to the whole process group."""
    command = [sys.executable, "-m", "zoo", "compare", *ARGUMENTS, "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith("epoch 1/5") for line in process.stderr)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert "stopped in run 1 of 2: head linear, seed 0; compare again with out=" in err
    assert "Traceback" not in err
    run = tmp_path / "head-linear" / "seed-0"
    newest = max((run / "checkpoints").iterdir())
    position = json.loads((newest / "state.json").read_text())["position"]
    assert 1 <= position["epoch"] < 5
    assert not position["finished"]
    first_epoch = json.loads((run / "history.json").read_text())[0]

    table, notes = invoke(*ARGUMENTS, "--out", tmp_path)
    assert json.loads((run / "history.json").read_text())[0] == first_epoch  # resumed, not begun again
    assert "run 2 of 2: head kan, seed 0" in notes
    rows = [line.split("\t") for line in table.splitlines()]
    with (tmp_path / "comparison.csv").open() as file:
        stored = list(csv.DictReader(file))
    assert [row[0] for row in rows] == ["head linear", "head kan"] == [row["variant"] for row in stored]
    assert [row[1] for row in rows] == [f"{float(row['mean']):.4f}" for row in stored]
    assert [row[2] for row in rows] == ["372,979", "375,475"]
    facts = json.loads(invoke(*ARGUMENTS, "--out", tmp_path, "--json", "--quiet")[0])
    assert facts["folder"] == str(tmp_path)
    assert [row["mean"] for row in facts["rows"]] == [float(row["mean"]) for row in stored]
    assert (facts["metric"], facts["split"], facts["data"]) == ("accuracy", "test", "digits_0_1_2")


@pytest.mark.parametrize(
    ("args", "message", "code"),
    [
        (["--head", "linear,kann"], "error: unknown module 'head/kann'; did you mean 'head/kan'", 1),
        (["--head", 'linear,{"type": "kan", "grid_sizes": 3}'], "takes no argument 'grid_sizes'; did you mean", 1),
        (["--mlp", "kan,none"], "error: mlp kan: test_resnet has no mlp that can be replaced", 1),
        (["--head", "kan"], "there is one model and nothing to compare it with", 1),
        (["--head", "linear,kan", "--lr", "0"], "error: lr must be a positive number", 1),
        (["--head", "linear,kan", "--config", "no.toml"], "error: there is no file 'no.toml'", 1),
        (["--head", "linear,,kan"], "has an empty choice", 2),
        (["--head", ""], "or 'none' to keep what the model has", 2),
        (["--head", '{"type": kan},linear'], "is not JSON: Expecting value", 2),
        (["--head", '{"type": "kan"} linear'], "after a JSON object", 2),
        (["--head", "linear,kan", "--seeds", "two"], "for '--seeds'", 2),
        (["--heads", "linear,kan"], "No such option: --heads", 2),
    ],
)
def test_errors_are_one_line(
    args: list[str], message: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, err = invoke("test_resnet", "digits", *args, code=code)
    assert message in " ".join(err.replace("│", " ").split())
    assert out == ""
    if code == 1:
        assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
