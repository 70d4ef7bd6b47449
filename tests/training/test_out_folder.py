"""A run is written where nothing else is, and removes nothing that it did not write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net

ONE: dict[str, Any] = {**QUICK, "epochs": 1}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write(folder: Path, *names: str, text: str = "mine") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def image_folder(root: Path) -> Path:
    for i in range(8):
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 25 * i, np.uint8)).save(root / "ab"[i % 2] / f"{i}.png")
    return root


@pytest.mark.parametrize("resume", [False, "auto"])
@pytest.mark.parametrize("args", [None, "{}", '{"model": "other tool", "versions": {"torch": "2"}}', "not json"])
def test_a_folder_of_others_is_left_alone(tmp_path: Path, args: str | None, resume: Any) -> None:
    folder = write(tmp_path / "project", "best/photo.jpg", "checkpoints/thesis.ckpt", "metrics.json")
    if args is not None:
        write(folder, "args.json", text=args)
    before = contents(folder)
    with pytest.raises(ValueError, match=r"project' is not a run's and holds .*best/.*; choose another out \(--out\)"):
        zoo.finetune(tiny_net(), few_digits(), out=folder, resume=resume, **ONE)
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["best/photo.jpg", "checkpoints/other.pt", "checkpoints/step-00000006/notes.txt"])
def test_files_put_into_a_run_are_not_removed(tmp_path: Path, name: str) -> None:
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **ONE)
    write(tmp_path, name)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"not its own: {name}; move them away, or choose another out"):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path, resume=False, **ONE)
    assert contents(tmp_path) == before


def test_a_linked_folder_is_not_emptied(tmp_path: Path) -> None:
    run = tmp_path / "run"
    zoo.finetune(tiny_net(), few_digits(), out=run, **ONE)
    (run / "best").rename(tmp_path / "elsewhere")
    (run / "best").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="not its own: best;"):
        zoo.finetune(tiny_net(), few_digits(), out=run, resume=False, **ONE)
    assert (tmp_path / "elsewhere" / "model.safetensors").is_file()


def test_what_a_cut_off_writer_left_is_no_obstacle(tmp_path: Path) -> None:
    write(tmp_path, "args.json.tmp-17-123", ".gitkeep")
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **ONE)
    write(tmp_path, "checkpoints/step-00000099.tmp-17-123/model.safetensors")
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path, resume=False, **ONE)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000006"]


@pytest.mark.parametrize(
    ("out", "how"),
    [("images", "is"), ("images/run", "lies inside"), ("images/a/run", "lies inside"), (".", "contains")],
)
@pytest.mark.parametrize("form", ["path", "dictionary", "val"])
def test_data_and_run_stay_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, how: str, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    images = image_folder(tmp_path / "images")
    before = contents(tmp_path)
    data: Any = {"path": "images", "dictionary": {"train": images}, "val": few_digits()}[form]
    with pytest.raises(ValueError, match=rf"the run folder '{out}' {how} the data \(.*images\); choose another out"):
        zoo.finetune("no such model", data, out=out, val=images if form == "val" else None, **ONE)
    assert contents(tmp_path) == before


def test_default_folders_keep_away_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image_folder(tmp_path / "images"))
    with pytest.raises(ValueError, match="'runs' lies inside the data"):
        zoo.finetune(tiny_net(num_classes=2), ".", **ONE)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs" / "tinynet-few", "best/photo.jpg")
    write(tmp_path / "runs" / "tinynet-few-2", "args.json", text="{}")
    assert zoo.finetune(tiny_net(), few_digits(), **ONE).folder == Path("runs/tinynet-few-3")
    assert json.loads((tmp_path / "runs" / "tinynet-few-2" / "args.json").read_text()) == {}


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path, "file")
    with pytest.raises(ValueError, match=r"file' is a file; choose another out \(--out\)"):
        zoo.finetune("no such model", "no such data", out=tmp_path / "file", **ONE)
    for out in (tmp_path / "file" / "run", "/proc/run"):
        with pytest.raises(ValueError, match=r"cannot write a run into .*; choose another out \(--out\)"):
            zoo.finetune("no such model", "no such data", out=out, **ONE)
