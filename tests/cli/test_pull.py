"""`zoo pull`: into a new folder, what was compared with what is told, some files by pattern."""

import hashlib
import json

import pytest
import torch
from huggingface_hub import CommitOperationAdd, HfApi
from typer.testing import CliRunner

import zoo
from zoo.cli import app


def run(*args, code=0):
    done = CliRunner().invoke(app, ["pull", *map(str, args)])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def repo(hub, tmp_path):
    torch.manual_seed(0)
    zoo.save_pretrained(zoo.create_model("test_resnet", num_classes=3), tmp_path / "saved", license="mit")
    api, repo = HfApi(token=hub.token), hub.repo_id()
    api.create_repo(repo)
    content = {p.name: p.read_bytes() for p in (tmp_path / "saved").iterdir()}
    content |= {"train/history.csv": b"epoch\n", "train/loss.png": b"png", "train.py": b"x"}
    api.create_commit(repo, [CommitOperationAdd(n, b) for n, b in content.items()], commit_message="Add")
    return repo


def test_what_was_compared_is_told(repo, tmp_path):
    done = run(repo, tmp_path / "out", "--json")
    weights = hashlib.sha256((tmp_path / "saved/model.safetensors").read_bytes()).hexdigest()
    checked = json.loads(done.stdout)["checked"]
    names = {"README.md", "config.json", "model.safetensors", "train/history.csv", "train/loss.png"}
    assert checked.keys() == names
    assert checked["model.safetensors"] == f"SHA-256 {weights}"
    assert checked["config.json"].startswith("git sum ")
    assert f"model.safetensors\tSHA-256 {weights}" in done.stderr
    assert {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()} == names
    assert zoo.verify(tmp_path / "out").ok


def test_some_files_alone(repo, tmp_path):
    run(repo, tmp_path / "out", "--file", "*.csv", "--file", "README.md")
    found = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {"README.md", "config.json", "model.safetensors", "history.csv"}
    assert "matches 'nothing*'" in run(repo, tmp_path / "other", "--file", "nothing*", code=1).stderr
    assert not (tmp_path / "other").exists()


def test_a_folder_with_something_in_it_is_refused_before_anything_is_fetched(hub, repo, tmp_path):
    asked = len(hub.requests)
    assert "is not empty: choose a new folder" in run(repo, tmp_path / "saved", code=1).stderr
    assert len(hub.requests) == asked
