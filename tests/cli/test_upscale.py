"""`zoo upscale`: files, folders and patterns, what is written where, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image
from typer.testing import CliRunner

import zoo
from zoo.cli import app

RUN = CliRunner()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A saved network of few channels."""
    folder = tmp_path_factory.mktemp("model") / "saved"
    net = zoo.create_model(
        "pcsr", backbone={"name": "srresnet", "nf": 8, "nb": 1}, upsamplers=[[4], [8, 8]], classifier=[], scale=4
    )
    zoo.save_pretrained(net, folder)
    return f"local-dir:{folder}"


def photos(folder: Path) -> Path:
    whole = load_sample_image("flower.jpg")
    (folder / "deeper").mkdir(parents=True)
    for number, name in enumerate(("a.png", "deeper/b.jpg")):
        Image.fromarray(np.ascontiguousarray(whole[100:116, 40 * number : 40 * number + 20])).save(folder / name)
    return folder


def test_a_file(tmp_path: Path, model: str) -> None:
    source = photos(tmp_path / "in") / "a.png"
    out, classes = tmp_path / "out.png", tmp_path / "classes.png"
    arguments = ["upscale", str(source), str(out), "--model", model, "--budget", "0.8", "--class-map", str(classes)]
    result = RUN.invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["output"] == str(out)
    assert facts["flops_share"] <= 0.8
    assert {"hard", "flops", "true_flops", "true_flops_share"} <= facts.keys()
    assert "of the pixels hard" in result.stderr
    for file in (out, classes):
        with Image.open(file) as written:
            assert written.size == (80, 64)
    again = RUN.invoke(app, arguments)
    assert again.exit_code == 1
    assert f"2 files, {out} first, are there already" in again.stderr
    assert RUN.invoke(app, [*arguments, "--overwrite", "--quiet"]).output == ""


def test_a_folder_and_a_pattern(tmp_path: Path, model: str) -> None:
    source = photos(tmp_path / "in")
    result = RUN.invoke(app, ["upscale", str(source), str(tmp_path / "out"), "-m", model, "--json", "-q"])
    assert result.exit_code == 0, result.output
    assert [Path(row["output"]).relative_to(tmp_path / "out") for row in json.loads(result.stdout)] == [
        Path("a.png"),
        Path("deeper/b.jpg"),
    ]
    result = RUN.invoke(app, ["upscale", str(source / "**/*.jpg"), str(tmp_path / "one"), "-m", model])
    assert result.exit_code == 0, result.output
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["b.jpg"]
    into_file = RUN.invoke(app, ["upscale", str(source), str(tmp_path / "out" / "a.png"), "-m", model])
    assert into_file.exit_code == 1
    assert "name a folder" in into_file.stderr


def test_a_bad_file_is_left_out(tmp_path: Path, model: str) -> None:
    source = photos(tmp_path / "in")
    (source / "b.png").write_text("none")
    arguments = ["upscale", str(source), str(tmp_path / "out"), "-m", model]
    raised = RUN.invoke(app, arguments)
    assert raised.exit_code == 1
    assert "(--on-bad skip)" in raised.stderr
    skipped = RUN.invoke(app, [*arguments, "--overwrite", "--on-bad", "skip", "--json"])
    assert skipped.exit_code == 0, skipped.output
    assert ["error" in row for row in json.loads(skipped.stdout)] == [False, True, False]
    assert "enlarged 2 of 3 images; left out 1" in skipped.stderr


def test_a_model_that_enlarges_nothing(tmp_path: Path) -> None:
    """Its weights are not looked for."""
    result = RUN.invoke(app, ["upscale", str(photos(tmp_path / "in")), str(tmp_path / "out"), "-m", "resnet18"])
    assert result.exit_code == 1
    assert "resnet18 enlarges no images" in result.stderr
    for how in (["--budget", "0.7"], ["-k", "1"]):
        asked = RUN.invoke(app, ["eval", "resnet18", str(tmp_path / "in"), *how])
        assert asked.exit_code == 1
        assert "for models that decide what pixels of enlarged images cost" in asked.stderr


def test_a_network_is_measured_at_a_budget(tmp_path: Path, model: str) -> None:
    source = photos(tmp_path / "in")
    (source / "deeper" / "b.jpg").unlink()
    Image.fromarray(np.ascontiguousarray(load_sample_image("flower.jpg")[100:164, 200:264])).save(source / "a.png")
    flops = []
    for how in (["--budget", "0.8"], ["--policy", "heavy"], ["-k", "1"]):
        found = RUN.invoke(app, ["eval", model, str(source), "--device", "cpu", "--json", *how])
        assert found.exit_code == 0, found.output
        flops.append(json.loads(found.stdout)["flops"])
    assert flops[0] < flops[1]
    low = RUN.invoke(app, ["eval", model, str(source), "--device", "cpu", "--budget", "0.01"])
    assert low.exit_code == 1
    assert "a budget (target) must be from 0." in low.stderr


def test_what_is_not_there(tmp_path: Path, model: str) -> None:
    result = RUN.invoke(app, ["upscale", str(tmp_path / "*.png"), str(tmp_path / "out"), "-m", model])
    assert result.exit_code == 1
    assert "there is no image" in result.stderr
