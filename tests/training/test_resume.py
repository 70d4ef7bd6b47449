"""A run that was cut off, at any update and by any means, ends in the very same weights."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from zoo.errors import TrainingError
from zoo.training.data import ImageSet, Splits

OPTIONS: dict[str, Any] = {**QUICK, "epochs": 3, "ema": 0.9, "mixup": 0.2, "accum": 2, "save_every": 1}

# Runs in a process of its own: kills itself with the given signal when it fetches its n-th image.
SCRIPT = """
import json, os, signal, sys
from tests.training.helpers import tiny_net
from tests.training.test_resume import Killing, few_digits
import zoo

out, at, number, options = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
splits = few_digits()
splits.train = Killing(splits.train, at, number, options.pop("times", 1))
zoo.finetune(tiny_net(), splits, out=out, **options)
"""


class Killing(ImageSet):
    """Sends its own process a signal when its n-th image is fetched, and with each of the next if there are more."""

    def __init__(self, parent: ImageSet, at: int, number: int, times: int = 1):
        self.parent, self.at, self.number, self.times, self.fetched = parent, at, number, times, 0
        super().__init__(parent.labels, parent.classes, name=parent.name, flip=parent.flip)

    def image(self, index: int) -> Any:
        self.fetched += 1
        if self.at <= self.fetched < self.at + self.times:
            os.kill(os.getpid(), self.number)
        return self.parent.image(index)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = max((folder / "checkpoints").iterdir())
    tensors = {
        f"{f}.{k}": v for f in ("model", "ema", "optim") for k, v in load_file(newest / f"{f}.safetensors").items()
    }
    return {"step": torch.tensor(int(newest.name.split("-")[1])), **tensors}


def assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def run_and_die(folder: Path, at: int, number: signal.Signals, **options: Any) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SCRIPT, str(folder), str(at), str(int(number)), json.dumps(options)]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    zoo.finetune(tiny_net(), few_digits(), out=folder, **OPTIONS)
    return folder


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in history]


@pytest.mark.parametrize(
    ("seed", "image", "update"),
    [
        (0, 150, 4),
        pytest.param(1, 40, 1, marks=pytest.mark.ci_long),
        pytest.param(2, 287, 8, marks=pytest.mark.slow),
    ],
)
def test_killed_in_the_middle_of_an_epoch(
    tmp_path: Path, uninterrupted: Path, seed: int, image: int, update: int
) -> None:
    options = {**OPTIONS, "seed": seed}
    if seed:
        uninterrupted = tmp_path / "whole"
        zoo.finetune(tiny_net(), few_digits(), out=uninterrupted, **options)
    tmp_path = tmp_path / "run"
    died = run_and_die(tmp_path, at=image, number=signal.SIGKILL, **options)
    assert died.returncode == -signal.SIGKILL, died.stderr
    newest = max((tmp_path / "checkpoints").iterdir())
    assert newest.name == f"step-{update:08d}"  # of 9: three an epoch, 32 images each
    result = zoo.finetune(tiny_net(seed=9), few_digits(), out=tmp_path, **options)
    assert_equal(weights(tmp_path), weights(uninterrupted))
    expected = json.loads((uninterrupted / "history.json").read_text())
    assert without_times(result.history) == without_times(expected)
    best = load_file(tmp_path / "best" / "model.safetensors")
    assert_equal(best, load_file(uninterrupted / "best" / "model.safetensors"))
    assert_equal(best, dict(result.model.state_dict()))


EVERYTHING: dict[str, Any] = {**OPTIONS, "layer_decay": 0.8, "cutmix": 0.5, "label_smoothing": 0.1, "aug": "timm"}


@pytest.mark.parametrize(
    ("seed", "amp"),
    [
        (0, "bf16"),
        *(pytest.param(seed, amp, marks=pytest.mark.ci_long) for seed, amp in ((0, "no"), (1, "no"), (1, "bf16"))),
        *(pytest.param(2, amp, marks=pytest.mark.ci_long) for amp in ("no", "bf16")),
    ],
)
def test_killed_at_random_it_ends_in_the_same_bits(tmp_path: Path, seed: int, amp: str) -> None:
    """With everything on that draws random numbers or keeps a state, and another number of workers afterwards."""
    options = {**EVERYTHING, "seed": seed, "amp": amp, "save_every": 1 + seed}
    image = random.Random(seed).randrange(65, 96 * 3)  # after the second update, before the last
    died = run_and_die(tmp_path / "run", at=image, number=signal.SIGKILL, **options)
    assert died.returncode == -signal.SIGKILL, died.stderr
    left = max((tmp_path / "run" / "checkpoints").iterdir(), default=None)
    assert left is None or left.name < "step-00000009"
    result = zoo.finetune(tiny_net(seed=9), few_digits(), out=tmp_path / "run", workers=2, **options)
    whole = zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "whole", **options)
    assert_equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    assert_equal(dict(result.model.state_dict()), dict(whole.model.state_dict()))
    assert without_times(result.history) == without_times(whole.history)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_second_signal_stops_at_once(tmp_path: Path, number: signal.Signals) -> None:
    options = {**OPTIONS, "save_every": None}
    died = run_and_die(tmp_path, at=100, number=number, times=2, **options)
    assert died.returncode in (130, -signal.SIGINT), died.stderr
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]  # of the end of the epoch
    assert "KeyboardInterrupt" in died.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_asked_to_stop_it_saves_at_the_next_update(
    tmp_path: Path, uninterrupted: Path, number: signal.Signals, code: int
) -> None:
    options = {**OPTIONS, "save_every": None}  # nothing but the signal writes in mid-epoch
    died = run_and_die(tmp_path, at=100, number=number, **options)
    # An uncaught KeyboardInterrupt ends a Python process by the signal itself, which a shell reports as 130.
    assert died.returncode in (code, -number), died.stderr
    assert [p.name for p in (tmp_path / "checkpoints").iterdir() if p.name != "step-00000003"] == ["step-00000004"]
    state = json.loads((tmp_path / "checkpoints" / "step-00000004" / "state.json").read_text())
    assert (state["position"]["epoch"], state["position"]["step_in_epoch"]) == (1, 1)
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **options)
    assert_equal(weights(tmp_path), weights(uninterrupted))


def test_signal_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **{**QUICK, "epochs": 1})
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_workers_do_not_change_the_result(tmp_path: Path, uninterrupted: Path) -> None:
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, workers=2, **OPTIONS)
    assert_equal(weights(tmp_path), weights(uninterrupted))


def test_a_finished_run_is_given_again(tmp_path: Path) -> None:
    first = zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **QUICK)
    written = (tmp_path / "checkpoints").stat().st_mtime_ns
    again = zoo.finetune(tiny_net(seed=5), few_digits(), out=tmp_path, **QUICK)
    assert again.history == first.history
    assert again.metrics == first.metrics
    assert (tmp_path / "checkpoints").stat().st_mtime_ns == written
    assert_equal(dict(again.model.state_dict()), dict(first.model.state_dict()))


def test_other_settings_or_data_are_not_mixed_in(tmp_path: Path) -> None:
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **QUICK)
    with pytest.raises(TrainingError, match=r"other settings \(lr was 0\.005, is 0\.01\).*resume=False"):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **{**QUICK, "lr": 0.01})
    with pytest.raises(TrainingError, match=r"other settings \(epochs was 2, is 3\)"):  # not what follows from it
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **{**QUICK, "epochs": 3})
    with pytest.raises(TrainingError, match=r"img_size was None, is 12"):
        zoo.finetune(tiny_net(size=12), few_digits(), out=tmp_path, img_size=12, **QUICK)
    with pytest.raises(TrainingError, match="the data has changed"):
        zoo.finetune(tiny_net(), few_digits(train=90), out=tmp_path, **QUICK)
    with pytest.raises(TrainingError, match=r"model was 'tinynet', is 'sequential'"):
        zoo.finetune(
            torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), few_digits(), out=tmp_path, **QUICK
        )
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume"):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "other", resume=True, **QUICK)


def test_starting_anew_removes_the_old_run_and_nothing_else(tmp_path: Path) -> None:
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **QUICK)
    (tmp_path / "my notes.txt").write_text("keep me")
    result = zoo.finetune(tiny_net(), few_digits(), out=tmp_path, resume=False, **{**QUICK, "lr": 0.01, "epochs": 1})
    assert len(result.history) == 1
    assert (tmp_path / "my notes.txt").read_text() == "keep me"
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_default_folders_are_numbered_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = zoo.finetune(tiny_net(), few_digits(), **QUICK)
    assert first.folder == Path("runs/tinynet-few")
    second = zoo.finetune(tiny_net(), few_digits(), **{**QUICK, "lr": 0.01})
    assert second.folder == Path("runs/tinynet-few-2")
    # An unfinished run with the same settings is taken up.
    newest = max((second.folder / "checkpoints").iterdir())
    state = json.loads((newest / "state.json").read_text())
    state["position"]["finished"] = False
    (newest / "state.json").write_text(json.dumps(state))
    assert zoo.finetune(tiny_net(), few_digits(), **{**QUICK, "lr": 0.01}).folder == second.folder
    third = zoo.finetune(tiny_net(), few_digits(), **QUICK)
    assert third.folder == Path("runs/tinynet-few-3")


def test_fingerprint_sees_labels() -> None:
    splits = few_digits()
    other = Splits("few", splits.train, splits.val, splits.train)
    assert splits.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_to_the_whole_group_saves_too(tmp_path: Path, number: signal.Signals) -> None:
    """What a terminal's Ctrl-C and a batch system do: the worker processes get the signal as well."""
    options = {**OPTIONS, "save_every": None, "epochs": 500, "workers": 2, "progress": True}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "-1", "0", json.dumps(options)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith("epoch 1/500") for line in process.stderr)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=120)
    assert process.returncode in (-number, 128 + number), err
    assert "DataLoader" not in err
    newest = max((tmp_path / "checkpoints").iterdir())
    assert json.loads((newest / "state.json").read_text())["position"]["step"] > 0


def test_what_a_killed_writer_left_is_removed_on_resuming(tmp_path: Path) -> None:
    """Of its own files alone; other processes' and other people's stay."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    options = {**QUICK, "epochs": 1}
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **options)
    left = [f"checkpoints/step-00000004.tmp-{ended.pid}-7", f"best.tmp-{ended.pid}-7", f"args.json.tmp-{ended.pid}-7"]
    stays = [f"checkpoints/step-00000004.tmp-{os.getppid()}-7", f"notes.tmp-{ended.pid}-7"]
    for name in (*left, *stays):
        (tmp_path / name).mkdir() if "json" not in name else (tmp_path / name).write_text("{")
    (tmp_path / left[0] / "model.safetensors").write_bytes(b"half")
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **options)
    assert [name for name in (*left, *stays) if (tmp_path / name).exists()] == stays


def test_another_number_of_processes_is_named_before_what_follows_from_it(tmp_path: Path) -> None:
    options = {**QUICK, "epochs": 1, "lr": "auto"}
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **options)
    (state,) = tmp_path.glob("checkpoints/*/state.json")
    content = json.loads(state.read_text())
    content["options"]["lr"], content["processes"] = content["options"]["lr"] * 2**0.5, 2
    state.write_text(json.dumps(content))
    with pytest.raises(TrainingError, match=r"was written by 2 process\(es\), this run has 1"):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **options)
