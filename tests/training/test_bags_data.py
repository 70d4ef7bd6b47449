"""Bags that users give: without labels, by other columns, with gaps and faults; what is said of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner

import zoo
from tests.training.test_bags import CALM, SMALL, image_bags, some_bags
from zoo.cli import app
from zoo.errors import DataError, TrainingError
from zoo.training.data import open_splits
from zoo.training.data.bags import BagSet


def table(path: Path, columns: list[str], *, label: bool = True, count: int = 40) -> Path:
    rows, offsets, labels = some_bags(count)
    bag = np.repeat(np.arange(count), np.diff(offsets))
    lines = [",".join(["bag", *(["label"] if label else []), *columns])]
    for k, row in zip(bag, rows, strict=True):
        known = {**{f"f{j}": repr(float(x)) for j, x in enumerate(row)}, "age": "40"}
        said = ["ill" if labels[k] else "well"] if label else []
        lines.append(",".join([f"s{k}", *said, *(known[column] for column in columns)]))
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("named")
    source = table(folder / "t.csv", ["f0", "f1", "f2", "f3"])
    options = {"epochs": 6, "batch_size": 8, "lr": 5e-3, "model_args": SMALL}
    zoo.finetune("hopfield_mil", str(source), out=folder / "run", val=False, **options, **CALM)
    return folder


def test_features_are_found_by_name(trained: Path, tmp_path: Path) -> None:
    """Other orders and further columns are the same data; also without labels, and for whoever trains on."""
    run = trained / "run"
    assert json.loads((run / "best" / "config.json").read_text())["zoo"]["feature_names"] == ["f0", "f1", "f2", "f3"]
    wanted = zoo.evaluate(run, trained / "t.csv", progress=False)
    said = zoo.predict(run, trained / "t.csv")
    turned = table(tmp_path / "turned.csv", ["f3", "f1", "f0", "age", "f2"])
    assert zoo.evaluate(run, turned, progress=False) == {**wanted, "dataset": "turned"}
    plain = table(tmp_path / "plain.csv", ["f2", "age", "f3", "f1", "f0"], label=False)
    for source in (turned, plain):
        for one, other in zip(zoo.predict(run, source), said, strict=True):
            assert (one["bag"], one["label"]) == (other["bag"], other["label"])
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)
    with pytest.raises(DataError, match=r"lacks 1 of the 4 features that .* was trained on: 'f2'; there: 'f0'"):
        zoo.evaluate(run, table(tmp_path / "few.csv", ["f0", "f1", "f3"]), progress=False)
    again = {"epochs": 1, "batch_size": 40, "lr": 1e-9, "val": str(turned), **CALM}
    result = zoo.finetune(run, str(turned), out=tmp_path / "again", standardise=True, **again)
    assert result.model.pretrained_cfg["feature_names"] == ("f0", "f1", "f2", "f3")
    assert result.val_metrics["loss"] == pytest.approx(wanted["loss"], rel=1e-3)
    with pytest.raises(DataError, match=r"has instances of \(5,\), the model takes \(4,\)"):
        zoo.finetune(
            zoo.create_model("hopfield_mil", dim=4, num_classes=2),
            str(turned),
            out=tmp_path / "x",
            standardise=False,
            **again,
        )
    with pytest.raises(ValueError, match="feature_names has 3 names, the model takes instances of"):
        zoo.set_data_config(result.model, feature_names=["a", "b", "c"])


def test_a_table_without_bags_or_numbers(tmp_path: Path) -> None:
    (tmp_path / "gap.csv").write_text("bag,label,x\na,p,1\n,q,2\nb,q,3\n")
    with pytest.raises(DataError, match=r"gap\.csv, row 2: the column 'bag' is empty"):
        open_splits(str(tmp_path / "gap.csv"))
    (tmp_path / "large.csv").write_text("bag,label,x\na,p,1\nb,q,1e39\n")
    with pytest.raises(DataError, match=r"row 2: the feature 'x' is no finite number of single precision but '1e39'"):
        open_splits(str(tmp_path / "large.csv"))


def test_numbers_too_large_for_the_model(trained: Path, tmp_path: Path) -> None:
    rows, offsets, labels = some_bags(4)
    rows = rows.astype(np.float64)
    rows[3, 1] = 1e39
    np.savez(tmp_path / "big.npz", rows=rows, offsets=offsets, labels=labels)
    with pytest.raises(DataError, match=r"big\.npz: row 3 is too large for single precision"):
        zoo.predict(trained / "run", tmp_path / "big.npz")
    rows[3, 1] = 3e38
    with pytest.raises(DataError, match="answer to bag 0 of bags is not finite"):
        zoo.predict(trained / "run", {"rows": rows, "offsets": offsets})
    bags = {"rows": rows, "offsets": offsets, "labels": labels}
    with pytest.raises(TrainingError, match="or the bag is not finite"):
        zoo.evaluate(zoo.create_model("hopfield_mil", dim=4, num_classes=2), bags, progress=False)


def test_folders_of_bags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = image_bags(tmp_path / "data")
    model = zoo.create_model("hopfield_mnist_bags", num_classes=2)
    whole = zoo.predict(model, f"bags:{root}")
    assert len(whole) == 12
    plain = zoo.predict(model, f"bags:{root / 'dark'}")
    assert [answer["bag"] for answer in plain] == [str(root / "dark" / f"dark{k}") for k in range(6)]
    assert [answer["probability"] for answer in plain] == pytest.approx([a["probability"] for a in whole[:6]], abs=1e-6)
    (one,) = zoo.predict(model, f"bags:{root / 'dark' / 'dark3'}")
    assert [row["instance"] for row in one["instances"]] == [row["instance"] for row in whole[3]["instances"]]
    with pytest.raises(DataError, match=r"is a folder of them, .*: bags:.*dark0$"):
        zoo.predict(model, str(root / "dark" / "dark0" / "0.png"))
    capsys.readouterr()
    (root / "white" / "empty").mkdir()
    assert any("left out 1 folder(s)" in note and "white/empty" in note for note in open_splits(f"bags:{root}").notes)
    zoo.predict(model, f"bags:{root}")
    assert "left out 1 folder(s)" in capsys.readouterr().err
    Image.new("L", (9, 9)).save(root / "white" / "loose.png")
    with pytest.raises(DataError, match=r"1 of 37 images of .* lie in no folder of a bag: 'white/loose\.png'"):
        open_splits(f"bags:{root}")
    with pytest.raises(DataError, match="white holds images and folders of images"):
        zoo.predict(model, f"bags:{root}")


def test_images_that_cannot_be_read_are_left_out_of_their_bags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = image_bags(tmp_path / "data")
    for name in ("dark0/1.png", "dark2/0.png", "dark2/1.png", "dark2/2.png"):
        (root / "dark" / name).write_bytes(b"nonsense")
    bags = open_splits(f"bags:{root}", val=False, on_bad="skip")
    assert [len(place) for place in bags.train.places] == [2, *[3] * 10]
    assert any("left out 4 unreadable image(s) of train, and 1 bag(s) of no others" in note for note in bags.notes)
    model = zoo.create_model("hopfield_mnist_bags", num_classes=2)
    with pytest.raises(DataError, match="on_bad='skip'"):
        zoo.predict(model, f"bags:{root}")
    capsys.readouterr()
    assert len(zoo.predict(model, f"bags:{root}", on_bad="skip")) == 11
    assert "left out 4 unreadable image(s)" in capsys.readouterr().err


def test_a_smaller_split_may_lack_a_class_of_train(trained: Path, tmp_path: Path) -> None:
    rows, offsets, _ = some_bags(12)
    part = {"train_rows": rows, "train_offsets": offsets, "test_rows": rows, "test_offsets": offsets}
    for train, test in ((np.arange(12) % 3, np.arange(12) % 2), (np.array([*"abcabcabcabc"]), np.array([*"ac" * 6]))):
        np.savez(tmp_path / "s.npz", **part, train_labels=train, test_labels=test)
        splits = open_splits(tmp_path / "s.npz", val=False)
        assert splits.test.classes == splits.train.classes
        assert [splits.test.classes[k] for k in splits.test.labels] == [str(label) for label in test]
        np.savez(tmp_path / "s.npz", **part, train_labels=test, test_labels=train)
        with pytest.raises(DataError, match=r"only in test: '[2b]'.*\. Make them equal$"):
            open_splits(tmp_path / "s.npz", val=False)


def test_a_metric_without_a_value_is_none(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, offsets, labels = some_bags(12)
    whole = {"rows": rows, "offsets": offsets, "labels": labels}
    ill = {**whole, "labels": np.array(["ill"] * 12)}
    found = zoo.evaluate(trained / "run", ill)
    assert (found["auroc"], found["auprc"]) == (None, None)
    assert "no auroc: 'well' has no bag" in capsys.readouterr().err
    data = {"train": whole, "test": {**whole, "labels": labels * 0}}
    result = zoo.finetune("hopfield_mil", data, val=False, out=tmp_path / "r", epochs=1, batch_size=4, **CALM)
    assert result.metrics["auroc"] is None
    again = zoo.evaluate(result.model, {"test": data["test"]}, progress=False)
    assert again["loss"] == pytest.approx(result.metrics["loss"], rel=1e-5)


def test_splits_and_options_are_said(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, offsets, labels = some_bags(12)
    parts = {"train_rows": rows, "train_offsets": offsets, "train_labels": labels}
    np.savez(tmp_path / "s.npz", **parts, test_rows=rows[: offsets[5]], test_offsets=offsets[:6])
    assert len(zoo.predict(trained / "run", tmp_path / "s.npz")) == 5
    assert "s.npz has the splits train, test: the 5 bags of test are answered" in capsys.readouterr().err
    np.savez(tmp_path / "s.npz", **parts)
    with pytest.raises(DataError, match=r"has no test split; splits there: train"):
        zoo.predict(trained / "run", tmp_path / "s.npz")
    for source in (f"{tmp_path / 's.npz'}?features=f1", f"{tmp_path / 's.npz'}?bogus=1"):
        with pytest.raises(DataError, match=r"s\.npz takes no option '(features|bogus)'"):
            open_splits(source)
        with pytest.raises(DataError, match=r"s\.npz takes no option '(features|bogus)'"):
            zoo.predict(trained / "run", source)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no bags were given; give arrays"),
        ([np.zeros(4)], "bag 0 is 1-dimensional; a bag is an array"),
        ([np.zeros((0, 4))], "bag 0 of bags has no instances"),
        ({"rows": np.zeros((3, 4))}, r"dictionary of bags lacks offsets \(where each bag starts.*it holds: rows"),
        (7, "cannot read bags from a int"),
    ],
)
def test_what_is_no_bag(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        zoo.predict(zoo.create_model("hopfield_mil", dim=4), given)


def test_parts_that_are_missing(tmp_path: Path) -> None:
    rows, offsets, labels = some_bags(4)
    np.savez(tmp_path / "a.npz", rows=rows, labels=labels)
    with pytest.raises(DataError, match=r"a\.npz lacks offsets \(where each bag starts.*it holds: labels, rows"):
        open_splits(tmp_path / "a.npz")
    with pytest.raises(DataError, match="dictionary of bags lacks offsets"):
        open_splits({"rows": rows, "labels": labels})
    with pytest.raises(DataError, match="but 4 labels; bags are given as a dictionary of rows, offsets and labels"):
        open_splits((rows, labels))
    np.savez(tmp_path / "b.npz", rows=rows, offsets=offsets, labels=[np.nan] * 4)
    with pytest.raises(DataError, match=r"image 0 of b\.npz has no label"):
        open_splits(tmp_path / "b.npz")


def test_sets_are_indexed() -> None:
    rows, offsets, labels = some_bags(4)
    bags = open_splits({"rows": rows, "offsets": offsets, "labels": labels}, val=False).train
    assert isinstance(bags, BagSet)
    bag, label = bags[-1]
    assert np.array_equal(bag, rows[offsets[3] :])
    assert label == labels[3]
    assert len(list(bags)) == 4


def test_the_heaviest_instances_of_a_large_bag(trained: Path, tmp_path: Path) -> None:
    rows, _, _ = some_bags(60)
    (whole,) = zoo.predict(trained / "run", [rows])
    (some,) = zoo.predict(trained / "run", [rows], instances=3)
    assert some["instances"] == sorted(whole["instances"], key=lambda row: -row["weight"])[:3]
    torch.testing.assert_close(whole["instances"].heads.mean(1), whole["instances"].weights)
    with pytest.raises(ValueError, match="instances must be a whole number from 1, or None, got 0"):
        zoo.predict(trained / "run", [rows], instances=0)
    save_file({"rows": rows, "offsets": np.array([0, len(rows)])}, tmp_path / "a.safetensors")
    run = CliRunner().invoke(app, ["predict", str(trained / "run"), str(tmp_path / "a.safetensors"), "--json"])
    assert len(json.loads(run.stdout)[0]["instances"]) == len(rows)
    arguments = ["predict", str(trained / "run"), str(tmp_path / "a.safetensors"), "--json", "--instances", "3"]
    assert json.loads(CliRunner().invoke(app, arguments).stdout)[0]["instances"] == some["instances"]
