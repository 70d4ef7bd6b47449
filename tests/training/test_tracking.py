"""Trackers get what history.csv gets, stay on this machine, and cannot end a run."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import GeneralTracker, on_main_process

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from tests.training.test_processes import launch
from zoo.errors import MissingExtraError, TrainingError

NUMBERS = ("train_loss", "val_loss", "val_accuracy", "lr", "seconds", "images_per_second")


class Memory(GeneralTracker):
    """Keeps what it is told."""

    name = "memory"
    requires_logging_directory = False

    def __init__(self, fail_from: int | None = None, fail_at: str = "log"):
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.config: dict[str, Any] = {}
        self.fail_from, self.fail_at, self.finished, self.asked = fail_from, fail_at, 0, 0

    @property
    def tracker(self) -> Any:
        return self.rows

    def start(self) -> None:
        if self.fail_at == "start":
            raise ConnectionError("no route to the server")

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.config = values

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self.asked += 1
        if self.fail_from is not None and step is not None and step >= self.fail_from and self.fail_at == "log":
            raise ConnectionError("no route to the server\nmore")
        self.rows.append((step, values))

    def finish(self) -> None:
        self.finished += 1
        if self.fail_at == "finish":
            raise ConnectionError("no route to the server")


def test_an_object_gets_settings_and_every_epoch(tmp_path: Path) -> None:
    memory = Memory()
    result = zoo.finetune(tiny_net(), few_digits(), out=tmp_path, tracker=memory, ema=0.5, **QUICK)
    assert [step for step, _ in memory.rows] == [1, 2, 2]
    for (_, values), row in zip(memory.rows, result.history, strict=False):
        assert values == {k: v for k, v in row.items() if k not in ("epoch", "best")}
    assert memory.rows[2][1]["best_test_accuracy"] == result.metrics["accuracy"]
    assert (memory.config["lr"], memory.config["model"], memory.config["data"]) == (5e-3, "tinynet", "few")
    assert all(isinstance(value, str | int | float) for value in memory.config.values())
    assert memory.finished == 1


def test_a_finished_run_is_not_recorded_again(tmp_path: Path) -> None:
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **QUICK)
    memory = Memory()
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, tracker=memory, **QUICK)
    assert memory.rows == []
    assert memory.config == {}


@pytest.mark.parametrize(("at", "rows"), [("log", 1), ("finish", 3)])
def test_a_tracker_that_fails_does_not_end_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], at: str, rows: int
) -> None:
    bad, good = Memory(fail_from=2, fail_at=at), Memory()
    options = {**QUICK, "progress": True}
    result = zoo.finetune(tiny_net(), few_digits(), out=tmp_path, tracker=[bad, good], **options)
    assert len(result.history) == 2
    assert len(good.rows) == 3
    assert len(bad.rows) == rows
    assert bad.asked == (2 if at == "log" else 3)
    said = [line for line in capsys.readouterr().err.splitlines() if "no route" in line]
    assert len(said) == 1
    assert "the tracker memory" in said[0]
    assert "ConnectionError: no route to the server)" in said[0]


def test_a_tracker_that_cannot_begin_is_told_before_training(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"a tracker \(memory\) could not begin: ConnectionError: no route"):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path, tracker=Memory(fail_at="start"), **QUICK)


@pytest.mark.parametrize(
    ("tracker", "error", "message"),
    [
        (
            "tensorbord",
            ValueError,
            r"one of tensorboard, trackio, wandb .*got 'tensorbord'; did you mean 'tensorboard'",
        ),
        (["wandb", 3], TypeError, "got a int"),
        (print, TypeError, "got a builtin_function_or_method"),
    ],
)
def test_other_trackers_are_refused(tmp_path: Path, tracker: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        zoo.finetune("no such model", "no such data", out=tmp_path / "run", tracker=tracker, **QUICK)
    assert not (tmp_path / "run").exists()


def test_a_missing_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "trackio" else find(name, *a))
    with pytest.raises(MissingExtraError, match=r"tracker='trackio' needs the package 'trackio'.*\[track\]"):
        zoo.finetune("no such model", "no such data", out=tmp_path / "run", tracker="trackio", **QUICK)


# ------------------------------------------------------------------------------------------------------ the real ones


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_the_history_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    options = {**QUICK, "epochs": 3, "tracker": "tensorboard"}
    result = zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **options)
    read = scalars(tmp_path)
    for name in NUMBERS:
        assert [step for step, _ in read[name]] == [1, 2, 3]
        assert [value for _, value in read[name]] == pytest.approx([row[name] for row in result.history], rel=1e-6)
    assert read["best_test_accuracy"] == [(3, pytest.approx(result.metrics["accuracy"], rel=1e-6))]
    hparams = next((tmp_path / "tensorboard").rglob("hparams.yml")).read_text()
    assert "lr: 0.005" in hparams
    # Started anew, the record is of the new run alone; what somebody else put there stops that.
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, resume=False, **{**options, "epochs": 1})
    assert [step for step, _ in scalars(tmp_path)["train_loss"]] == [1]
    (tmp_path / "tensorboard" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"not its own: tensorboard/notes\.txt"):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path, resume=False, **options)


def test_tensorboard_goes_on_with_a_resumed_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    options = {**QUICK, "epochs": 3, "tracker": "tensorboard", "keep_last": 9}
    result = zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **options)
    for path in sorted((tmp_path / "checkpoints").iterdir())[1:]:
        shutil.rmtree(path)
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **options)
    read = dict(scalars(tmp_path)["train_loss"])
    assert read == {row["epoch"]: pytest.approx(row["train_loss"], rel=1e-6) for row in result.history}


SCRIPT = """
import json, sys
from tests.training.helpers import few_digits, tiny_net
import zoo
result = zoo.finetune(tiny_net(), few_digits(), out=sys.argv[1], **json.loads(sys.argv[2]))
print(json.dumps(result.history))
"""


def tracked(folder: Path, environment: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
    """A run in a process of its own, for these packages read their environment when they are imported."""
    common = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "HOME": str(folder.parent)}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "TRACKIO"))}
    command = [sys.executable, "-c", SCRIPT, str(folder), json.dumps({**QUICK, **options})]
    return subprocess.run(
        command, capture_output=True, text=True, env={**kept, **common, **environment}, timeout=240, cwd=folder.parent
    )


@pytest.mark.ci_long
def test_trackio_keeps_the_history_on_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    options = {"epochs": 3, "tracker": "trackio", "keep_last": 9}
    ran = tracked(tmp_path / "run", environment, **options)
    assert ran.returncode == 0, ran.stderr
    history = json.loads(ran.stdout)  # what trackio prints is not on stdout
    for path in sorted((tmp_path / "run" / "checkpoints").iterdir())[2:]:
        shutil.rmtree(path)
    assert tracked(tmp_path / "run", environment, **options).returncode == 0
    read = """
import json, trackio
runs = list(trackio.Api().runs("zoo"))
from trackio.sqlite_storage import SQLiteStorage
print(json.dumps({"names": [r.name for r in runs], "logs": SQLiteStorage.get_logs("zoo", runs[0].name)}))
"""
    answer = subprocess.run(
        [sys.executable, "-c", read], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    assert len(found["names"]) == 1  # the resumed part is the same run
    assert found["names"][0].startswith("run-")
    logs = {row["step"]: row for row in found["logs"] if "train_loss" in row}
    assert sorted(logs) == [1, 2, 3]
    for row in history:
        assert logs[row["epoch"]]["train_loss"] == pytest.approx(row["train_loss"])
        assert logs[row["epoch"]]["val_accuracy"] == pytest.approx(row["val_accuracy"])


#: wandb's file: 7 bytes, then blocks of 32 kB of pieces, each with checksum, length, type (1 whole, 2 first, 4 last).
READ_WANDB = """
import json, struct, sys
from wandb.proto import wandb_internal_pb2
data, place, whole, rows, config = open(sys.argv[1], "rb").read(), 7, b"", [], {}
while place + 7 <= len(data):
    if 32768 - place % 32768 < 7:
        place += 32768 - place % 32768
        continue
    _, length, kind = struct.unpack("<IHB", data[place : place + 7])
    whole += data[place + 7 : place + 7 + length]
    place += 7 + length
    if kind in (1, 4):
        record, whole = wandb_internal_pb2.Record.FromString(whole), b""
        if record.HasField("history"):
            rows.append({i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.history.item})
        config |= {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.config.update}
print(json.dumps({"rows": rows, "config": config}))
"""


@pytest.mark.ci_long
def test_wandb_stays_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    # A proxy that is not there: whatever would go out fails at once.
    environment = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    ran = tracked(tmp_path / "run", environment, tracker="wandb", progress=True)
    assert ran.returncode == 0, ran.stderr
    history = json.loads(ran.stdout)
    assert "zoo: wandb keeps the run in" in ran.stderr
    (record,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    (log,) = record.glob("run-*.wandb")
    answer = subprocess.run([sys.executable, "-c", READ_WANDB, str(log)], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    rows = {row["_step"]: row for row in found["rows"]}
    for row in history:
        assert rows[row["epoch"]]["train_loss"] == pytest.approx(row["train_loss"])
        assert rows[row["epoch"]]["val_accuracy"] == pytest.approx(row["val_accuracy"])
    assert found["config"]["opt"] == "adamw"


@pytest.mark.ci_long
def test_one_process_of_several_writes(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    script = SCRIPT.replace("tiny_net", "plain_net").replace("helpers import few_digits, plain_net", "helpers import "
                            "few_digits\nfrom tests.training.test_processes import plain_net")  # fmt: skip
    launch(tmp_path / "two", script=script, **{**QUICK, "tracker": "tensorboard", "batch_size": 8})
    events = [p for p in (tmp_path / "two" / "tensorboard").iterdir() if p.is_file()]
    assert len(events) == 1
    assert [step for step, _ in scalars(tmp_path / "two")["train_loss"]] == [1, 2]
