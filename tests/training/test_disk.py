"""A full disk costs the checkpoint that did not fit, and nothing that was there before."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from zoo.errors import DiskFullError, TrainingError
from zoo.training.checkpoint import checkpoints, save_checkpoint
from zoo.training.disk import explained_disk, in_words, tensor_bytes

#: Run with a limit on the size of files that holds from the n-th image on; what writes beyond it gets EFBIG.
SCRIPT = """
import json, resource, signal, sys
from tests.training.helpers import few_digits, tiny_net
from tests.training.test_disk import limiting
import zoo

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
out, begin, end, options = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
splits = few_digits()
splits.train = limiting(splits.train, begin, end)
result = zoo.finetune(tiny_net(), splits, out=out, **options)
print(json.dumps({"best_epoch": result.best_epoch, "metrics": result.metrics}))
"""


def limiting(parent: Any, begin: int, end: int) -> Any:
    """The data; files may not pass 20 kB while its images number `begin` to `end` are fetched."""
    import resource

    fetch, count, free = parent.image, 0, resource.getrlimit(resource.RLIMIT_FSIZE)

    def image(index: int) -> Any:
        nonlocal count
        count += 1
        if count in (begin, end):
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, free[1]) if count == begin else free)
        return fetch(index)

    parent.image = image
    return parent


def limited(folder: Path, begin: int, end: int, **options: Any) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SCRIPT, str(folder), str(begin), str(end), json.dumps(options)]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


OPTIONS: dict[str, Any] = {**QUICK, "epochs": 4, "progress": True, "keep_last": 9}


def no_rests(folder: Path) -> bool:
    return not [p for p in folder.rglob("*") if ".tmp-" in p.name]


def test_a_run_goes_on_until_there_is_room_again(tmp_path: Path) -> None:
    # 96 images an epoch, six updates: no room while the second and third epoch are written.
    ran = limited(tmp_path / "run", 100, 300, **OPTIONS)
    assert ran.returncode == 0, ran.stderr
    assert [p.name for p in checkpoints(tmp_path / "run" / "checkpoints")] == ["step-00000006", "step-00000024"]
    assert no_rests(tmp_path / "run")
    lines = [line for line in ran.stderr.splitlines() if "step-00000012" in line]
    assert len(lines) == 1
    assert re.search(
        r"cannot write .*step-00000012 \(a file may not be that large here\): it takes 1\d\d\.\d KiB\. Raise the "
        r"limit \(ulimit -f\), or take an out \(--out\) on another disk\. What was there before stays, "
        r"and the run goes on",
        lines[0],
    )
    free = zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "free", **{**OPTIONS, "progress": False})
    last = checkpoints(tmp_path / "run" / "checkpoints")[-1] / "model.safetensors"
    whole = load_file(checkpoints(tmp_path / "free" / "checkpoints")[-1] / "model.safetensors")
    assert all(torch.equal(value, whole[name]) for name, value in load_file(last).items())
    # best/ is of an epoch that could be written, and is said to be.
    answer = json.loads(ran.stdout)
    assert answer["best_epoch"] in (1, 4)
    rows = free.history
    allowed = [1, 4]
    assert answer["best_epoch"] == max(allowed, key=lambda e: (rows[e - 1]["val_accuracy"], -rows[e - 1]["val_loss"]))


def test_a_run_whose_end_does_not_fit_fails_and_can_be_resumed(tmp_path: Path) -> None:
    ran = limited(tmp_path / "run", 300, -1, **OPTIONS)
    assert ran.returncode == 1
    assert "DiskFullError: cannot write" in ran.stderr.splitlines()[-1]
    assert [p.name for p in checkpoints(tmp_path / "run" / "checkpoints")] == [
        "step-00000006",
        "step-00000012",
        "step-00000018",
    ]
    assert no_rests(tmp_path / "run")
    quiet = {**OPTIONS, "progress": False}
    again = zoo.finetune(tiny_net(seed=4), few_digits(), out=tmp_path / "run", **quiet)
    whole = zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "free", **quiet)
    assert again.best_epoch == whole.best_epoch
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With all checkpoints kept there is room for three of them, beside best/, of 160 kB each."""
    options = {**OPTIONS, "epochs": 12, "val": False}
    with pytest.raises(TrainingError, match=r"cannot write .* \(the disk is full\): it takes .* KiB.* Make room"):
        zoo.finetune(tiny_net(), few_digits(), out=small_disk / "run", **options)
    saved = checkpoints(small_disk / "run" / "checkpoints")
    assert saved
    assert saved[-1].name < "step-00000072"
    assert no_rests(small_disk)
    for path in saved:
        assert load_file(path / "model.safetensors").keys() == tiny_net().state_dict().keys()
    assert re.search(r"it takes [\d.]+ KiB, [\d.]+ KiB are free\. Make room", capsys.readouterr().err)


def test_fewer_checkpoints_make_room_for_a_resumed_run(small_disk: Path) -> None:
    """What a full disk advises, helps: those beyond keep_last go before anything new is written."""
    options = {**OPTIONS, "epochs": 12, "val": False, "progress": False}
    with pytest.raises(TrainingError, match="Make room"):
        zoo.finetune(tiny_net(), few_digits(), out=small_disk / "run", **options)
    assert len(checkpoints(small_disk / "run" / "checkpoints")) > 1
    zoo.finetune(tiny_net(), few_digits(), out=small_disk / "run", **{**options, "keep_last": 1})
    assert [p.name for p in checkpoints(small_disk / "run" / "checkpoints")] == ["step-00000072"]


def test_a_report_on_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "run", **{**OPTIONS, "epochs": 1, "progress": False})
    (small_disk / "much").write_bytes(bytes(2**20 - 8192))
    said = (
        r"cannot write .*small/report\.html \(the disk is full\): .*\. Make room, or write it elsewhere \(out, --out\)"
    )
    with pytest.raises(DiskFullError, match=said):
        zoo.report(tmp_path / "run", small_disk / "report.html", data=False)
    assert [p.name for p in small_disk.iterdir()] == ["much"]


def test_a_single_checkpoint_on_a_full_disk(small_disk: Path) -> None:
    model = nn.Linear(500, 200)  # 400 kB, and as much of the optimiser
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.ones(1, 500)).sum().backward()
    optimiser.step()

    def save(step: int) -> Path:
        state = {"model": model.state_dict(), "ema": None, "optimiser": optimiser.state_dict(), "state": {}}
        return save_checkpoint(small_disk, step, keep_last=1, **state)

    first = save(1)
    with pytest.raises(DiskFullError, match=r"it takes 78\d\.\d KiB, 2\d\d\.\d KiB are free\. Make room, or take"):
        save(2)  # a lower keep_last would not help
    assert [p.name for p in small_disk.iterdir()] == ["step-00000001"]
    assert torch.equal(load_file(first / "model.safetensors")["weight"], model.weight)


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), explained_disk(tmp_path, 1):
        raise PermissionError(13, "Permission denied")


def test_sizes_in_words() -> None:
    assert [in_words(n) for n in (0, 1023, 1024, 1536 * 1024, 5 * 2**40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 MiB",
        "5.0 TiB",
    ]
    assert tensor_bytes({"a": torch.zeros(3, 5)}, None, {"b": torch.zeros(2, dtype=torch.int64)}) == 76
