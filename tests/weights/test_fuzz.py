"""Thousands of damaged and hostile saved models: each is refused in our own words, or loaded as what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import zoo
from tests.weights.mutations import write_variant

ROOT = Path(__file__).parents[2]
SECONDS = 2.0
KILOBYTES = 50_000
CHARACTERS = 3_000


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    torch.manual_seed(0)
    models = {
        "a": zoo.create_model("medvit2_kan_nano", num_classes=3),
        "b": zoo.create_model("test_vit", num_classes=3, mlp="kan", img_size=32),
        "c": zoo.create_model("resnet10t", num_classes=3),
        "d": zoo.create_model("test_resnet", num_classes=3),
    }
    for name, model in models.items():
        zoo.save_pretrained(model, folder / name)
    return folder


def work(originals, tmp_path, first, stop):
    """Run the worker over a range of variants; returns its lines, after looking at how it ended."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "cwd").mkdir()
    env = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.weights.fuzz_worker",
            str(originals),
            str(tmp_path / "scratch"),
            str(first),
            str(stop),
        ],
        env=env,
        cwd=tmp_path / "cwd",
        capture_output=True,
        text=True,
        timeout=1200,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"the process ended with {done.returncode} at {lines[-1:]}\n{done.stderr[-3000:]}"
    assert not list((tmp_path / "cwd").iterdir())
    assert {p.name for p in tmp_path.iterdir()} == {"scratch", "home", "cwd"}
    return [line for line in lines if "outcome" in line]


def faults(line):
    """What is wrong with the outcome of a variant."""
    changed = line.get("weights changed")
    return [
        said
        for said, bad in {
            "neither refused in our words nor loaded as it says": line["outcome"] not in ("refused", "loaded"),
            "slow": line.get("seconds", 0) > SECONDS,
            "takes memory": line.get("kB", 0) > KILOBYTES,
            "writes, connects or starts something": line.get("seen"),
            "a message longer than a screen": line.get("length", 0) > CHARACTERS,
            "damage despite recorded sums": line.get("kind") == "weights with sums"
            and changed
            and line["outcome"] != "refused",
        }.items()
        if bad
    ]


def check(lines, count):
    assert len({line["number"] for line in lines}) == count
    wrong = [(faults(line), line) for line in lines if faults(line)]
    assert not wrong, f"{len(wrong)} of {count}: " + "\n".join(f"{said} {line}" for said, line in wrong[:5])


def test_damaged_models_are_refused_or_loaded_as_they_say(originals, tmp_path):
    check(work(originals, tmp_path, 0, 120), 120)


@pytest.mark.ci_long
@pytest.mark.timeout(1500)
def test_two_thousand_damaged_models_are_refused_or_loaded_as_they_say(originals, tmp_path):
    lines = work(originals, tmp_path, 120, 2120)
    check(lines, 2000)
    # What was changed must really have been tried: both outcomes, every kind, every class of error.
    assert {line["kind"] for line in lines} == {"config", "arguments", "config text", "weights", "weights with sums"}
    assert sum(line["outcome"] == "loaded" for line in lines) > 100
    errors = {line["error"] for line in lines}
    assert errors >= {"ConfigError", "CorruptFileError", "ChecksumError", "MismatchError"}


def test_variants_are_functions_of_their_number(originals, tmp_path):
    for number in (3, 4):
        for name in ("x", "y"):
            write_variant(originals / "d", tmp_path / f"{name}{number}", number)
    read = {p.name: [f.read_bytes() for f in sorted(p.iterdir())] for p in tmp_path.iterdir()}
    assert read["x3"] == read["y3"]
    assert read["x4"] == read["y4"] != read["x3"]
