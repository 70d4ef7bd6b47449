"""Bags as data: read, split by bag, padded with a mask, learned from, measured, and answered with what each weighs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from torch import nn
from typer.testing import CliRunner

import zoo
from zoo.cli import app
from zoo.errors import DataError, NonFiniteLossError
from zoo.training.data import open_splits
from zoo.training.data.bags import BagSet, ragged_bags
from zoo.training.data.bags_batch import Bag, Bags, answer, join
from zoo.training.data.loader import batches
from zoo.training.data.prepared import open_data
from zoo.training.preparation import pipeline_for

CALM = {"progress": False, "device": "cpu", "amp": "no"}
SMALL = {"embed_dim": 16, "num_heads": 2, "head_dim": 8, "beta": 1.0}


def some_bags(count: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of four numbers; instance 1 of every second bag is far from the others."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(2, 9, count)
    offsets = np.cumsum([0, *sizes])
    rows = (draw.normal(size=(offsets[-1], 4)) * 0.3).astype(np.float32)
    labels = np.arange(count) % 2
    rows[offsets[:-1][labels == 1] + 1] += np.array([2, -2, 2, 0], dtype=np.float32)
    return rows, offsets, labels


def write_table(path: Path, rows: np.ndarray, offsets: np.ndarray, labels: np.ndarray, *, shuffle: bool = True) -> Path:
    bag = np.repeat(np.arange(len(labels)), np.diff(offsets))
    order = np.random.default_rng(1).permutation(len(rows)) if shuffle else np.arange(len(rows))
    lines = ["bag,label,f0,f1,f2,f3,note"]
    for i in order:
        numbers = ",".join(repr(float(x)) for x in rows[i])
        lines.append(f"slide{bag[i]},{'ill' if labels[bag[i]] else 'well'},{numbers},seen")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bags")
    table = write_table(folder / "slides.csv", *some_bags())
    zoo.finetune(
        "hopfield_mil",
        f"{table}?features=f*",
        out=folder / "run",
        epochs=12,
        batch_size=8,
        lr=5e-3,
        model_args=SMALL,
        **CALM,
    )
    return folder


def test_learned_from_a_table_and_measured_on_other_files(trained: Path, tmp_path: Path) -> None:
    metrics = json.loads((trained / "run" / "metrics.json").read_text())
    assert metrics["classes"] == ["ill", "well"]
    assert metrics["val"]["accuracy"] >= 0.9
    assert metrics["val"]["samples"] == 12
    rows, offsets, labels = some_bags(40, seed=5)
    np.savez(tmp_path / "new.npz", rows=rows, offsets=offsets, labels=np.array(["well", "ill"])[labels])
    measured = zoo.evaluate(trained / "run", tmp_path / "new.npz", progress=False)
    assert measured["accuracy"] >= 0.95
    assert measured["auroc"] >= 0.98
    assert measured["samples"] == 40
    # The batch that a bag is padded in makes no difference.
    alone = zoo.evaluate(trained / "run", tmp_path / "new.npz", batch_size=1, progress=False)
    assert alone["loss"] == pytest.approx(measured["loss"], rel=1e-4)


def test_answers_say_which_instances_they_took(trained: Path) -> None:
    rows, offsets, labels = some_bags(20, seed=7)
    bags = np.split(rows, offsets[1:-1])
    answers = zoo.predict(trained / "run", bags)
    assert [row["bag"] for row in answers] == [str(k) for k in range(20)]
    assert np.mean([said["label"] == ("ill" if y else "well") for said, y in zip(answers, labels, strict=True)]) > 0.9
    model = zoo.create_model(f"local-dir:{trained / 'run' / 'best'}").eval()
    config = zoo.data_config(model)
    for said, bag in zip(answers, bags, strict=True):
        x = ((torch.from_numpy(bag) - torch.tensor(config["mean"])) / torch.tensor(config["std"]))[None]
        assert [row["instance"] for row in said["instances"]] == [str(k) for k in range(len(bag))]
        found = torch.tensor([row["heads"] for row in said["instances"]]).T
        with torch.no_grad():
            wanted = model.association(x)[0, :, 0]
            chances = model(x).softmax(1)[0]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
        weights = torch.tensor([row["weight"] for row in said["instances"]])
        torch.testing.assert_close(weights, wanted.mean(0), rtol=1e-4, atol=1e-6)
        assert said["probability"] == pytest.approx(float(chances.max()), abs=1e-5)


def test_commands(trained: Path, tmp_path: Path) -> None:
    rows, offsets, _ = some_bags(6, seed=9)
    save_file({"rows": rows, "offsets": offsets}, tmp_path / "unlabelled.safetensors")
    run = CliRunner().invoke(app, ["predict", str(trained / "run"), str(tmp_path / "unlabelled.safetensors"), "--json"])
    assert run.exit_code == 0, run.output
    answers = json.loads(run.stdout)
    assert [len(answer["instances"]) for answer in answers] == np.diff(offsets).tolist()
    plain = CliRunner().invoke(app, ["predict", str(trained / "run"), str(tmp_path / "unlabelled.safetensors")])
    assert plain.exit_code == 0
    assert answers[0]["label"] in plain.stdout


def test_forms_of_one_set_are_one_set(tmp_path: Path) -> None:
    rows, offsets, labels = some_bags(10)
    np.savez(tmp_path / "a.npz", rows=rows, offsets=offsets, labels=labels)
    save_file({"rows": rows, "offsets": offsets, "labels": labels}, tmp_path / "a.safetensors")
    table = write_table(tmp_path / "a.csv", rows, offsets, labels, shuffle=False)
    sources = [
        str(tmp_path / "a.npz"),
        str(tmp_path / "a.safetensors"),
        f"{table}?features=f0,f1,f2,f3",
        {"rows": rows, "offsets": offsets, "labels": labels},
        ragged_bags(rows, offsets, labels, "mine"),
    ]
    for source in sources:
        bags = open_splits(source, val=False).train
        assert isinstance(bags, BagSet)
        assert bags.shape == (4,)
        for k in range(10):
            assert np.array_equal(bags.image(k), rows[offsets[k] : offsets[k + 1]])
            wanted = {"0": 0, "1": 1, "well": 0, "ill": 1}[bags.classes[bags.labels[k]]]
            assert wanted == labels[k]


def test_split_by_bag(tmp_path: Path) -> None:
    """Held out bag by bag; a table may say itself, but not of parts of a bag."""
    rows, offsets, labels = some_bags(20)
    splits = open_splits({"rows": rows, "offsets": offsets, "labels": labels}, val=0.25, seed=3)
    train, val = splits.train, splits.val
    assert isinstance(train, BagSet)
    assert isinstance(val, BagSet)
    assert sorted([*train.ids, *val.ids]) == list(range(20))
    assert len(val) == 5
    for k, one in enumerate(val.ids):
        assert np.array_equal(val.image(k), rows[offsets[one] : offsets[one + 1]])
        assert val.labels[k] == labels[one]
    lines = ["bag,label,x,split", "a,p,1,train", "a,p,2,train", "b,q,3,train", "c,p,4,test", "c,p,5,test"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    given = open_splits(str(tmp_path / "t.csv"), val=False)
    assert {name: bags.ids for name, bags in given.present().items()} == {"train": ["a", "b"], "test": ["c"]}
    (tmp_path / "t.csv").write_text("\n".join([*lines, "a,p,6,test"]))
    with pytest.raises(DataError, match="bag a of t has instances in train and in test"):
        open_splits(str(tmp_path / "t.csv"), val=False)
    parts = {"train": slice(0, 12), "test": slice(12, 20)}
    arrays = {}
    for name, part in parts.items():
        start, stop = offsets[part.start], offsets[part.stop]
        arrays |= {f"{name}_rows": rows[start:stop], f"{name}_labels": labels[part]}
        arrays[f"{name}_offsets"] = offsets[part.start : part.stop + 1] - start
    np.savez(tmp_path / "parts.npz", **arrays)
    assert [len(part) for part in open_splits(tmp_path / "parts.npz", val=False).present().values()] == [12, 8]


class _Padded(nn.Module):
    """A model that takes bags with a mask alone."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor, padding_mask: torch.Tensor) -> torch.Tensor:
        return self.net(x, padding_mask)


@pytest.mark.parametrize("options", [{}, {"pooling": {"association": "sparsemax"}}, {"quantity": 3, "num_updates": 3}])
def test_ragged_and_padded_are_one(options: dict[str, Any]) -> None:
    """Loss and gradients of bags from one instance to forty, as they are and padded for a model that wants them so."""
    torch.manual_seed(0)
    net = zoo.create_model("hopfield_mil", dim=4, **SMALL, **options)
    bags = join([Bag(torch.randn(n, 4)) for n in (3, 40, 1, 7)])
    assert bags.offsets == [0, 3, 43, 44, 51]
    targets, found = torch.tensor([0, 1, 1, 0]), []
    for model in (net, _Padded(net)):
        net.zero_grad()
        loss = nn.functional.cross_entropy(answer(model, bags), targets)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in net.parameters())])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_batches_are_those_that_are_asked_for() -> None:
    rows, offsets, labels = some_bags(8)
    bags = ragged_bags(rows, offsets, labels, "mine")
    model = zoo.create_model("hopfield_mil", dim=4)
    (found,) = batches(bags, pipeline_for(model, bags), [[5, 2]])
    assert found.targets.tolist() == [labels[5], labels[2]]
    assert isinstance(found.images, Bags)
    assert torch.equal(found.images.by_bag(found.images.instances)[1], bags.image(2))


def image_bags(root: Path, size: int = 28) -> Path:
    """class/bag/image.png; bags of the class `white` have one white image."""
    draw = np.random.default_rng(0)
    for label in ("dark", "white"):
        for bag in range(6):
            folder = root / label / f"{label}{bag}"
            folder.mkdir(parents=True)
            for k in range(3):
                pixels = draw.integers(0, 60, (size, size), dtype=np.uint8)
                pixels += 190 if label == "white" and k == 1 else 0
                Image.fromarray(pixels).save(folder / f"{k}.png")
    return root


def test_bags_of_image_files(tmp_path: Path) -> None:
    root = image_bags(tmp_path / "data")
    options = {"epochs": 4, "batch_size": 4, "lr": 1e-3, "aug": "none", "model_args": {"attn_drop": 0.0}}
    result = zoo.finetune("hopfield_mnist_bags", f"bags:{root}", out=tmp_path / "run", **options, **CALM)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    answers = zoo.predict(tmp_path / "run", f"bags:{root}")
    assert len(answers) == 12
    files = [row["instance"] for row in answers[0]["instances"]]
    assert files == [str(root / "dark" / "dark0" / f"{k}.png") for k in range(3)]
    lines = ["bag,label,image"]
    lines += [f"{p.parent.name},{p.parent.parent.name},{p.relative_to(root)}" for p in sorted(root.rglob("*.png"))]
    (root / "labels.csv").write_text("\n".join(lines))
    one = zoo.evaluate(tmp_path / "run", f"bags:{root}", progress=False)
    other = zoo.evaluate(tmp_path / "run", root / "labels.csv", progress=False)
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.parametrize("form", ["HW", "CHW", "HW3"])
def test_rows_of_pixels_are_images(form: str, tmp_path: Path) -> None:
    """Whatever holds the pixels, the model's answers are the same, with its own size, mean and std."""
    root = image_bags(tmp_path / "data", size=20)
    files = [sorted(bag.iterdir()) for bag in sorted(root.glob("*/*"))]
    rows = np.stack([np.asarray(Image.open(file)) for bag in files for file in bag])
    rows = {"HW": rows, "CHW": rows[:, None], "HW3": rows[..., None].repeat(3, -1)}[form]
    offsets, labels = np.arange(0, 37, 3), np.array(["dark", "white"])[np.arange(12) // 6]
    save_file({"rows": rows, "offsets": offsets}, tmp_path / "new.safetensors")
    np.savez(tmp_path / "bags.npz", rows=rows, offsets=offsets, labels=labels)
    model = zoo.create_model("hopfield_mnist_bags", num_classes=2).eval()
    zoo.set_data_config(model, label_names=["dark", "white"], mean=0.25, std=0.125)
    wanted = zoo.predict(model, f"bags:{root}")
    for source in (
        tmp_path / "new.safetensors",
        {"rows": rows, "offsets": offsets},
        [*rows.reshape(12, 3, *rows.shape[1:])],
    ):
        found = zoo.predict(model, source)
        for one, other in zip(found, wanted, strict=True):
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)
            got = [row["weight"] for row in one["instances"]]
            assert got == pytest.approx([row["weight"] for row in other["instances"]], abs=1e-6)
    measured = zoo.evaluate(model, tmp_path / "bags.npz", progress=False)
    assert measured["loss"] == pytest.approx(zoo.evaluate(model, f"bags:{root}", progress=False)["loss"], rel=1e-5)
    prepared = open_data(tmp_path / "bags.npz", model=model)[0][0].instances
    assert prepared.shape == (3, 1, 28, 28)
    assert -2 <= float(prepared.min()) <= float(prepared.max()) <= 6
    zoo.finetune(model, tmp_path / "bags.npz", out=tmp_path / "run", epochs=1, batch_size=6, **CALM)


def test_pixels_that_are_no_images_are_not_taken_for_normalised_ones() -> None:
    model = zoo.create_model("hopfield_mnist_bags", num_classes=2)
    bag = np.full((2, 1, 28, 28), 200)
    for kind in ("int64", "float32"):
        with pytest.raises(DataError, match=r"bag 0 of bags has images with values up to 200.*give pixels as uint8"):
            zoo.predict(model, [bag.astype(kind)])
    assert len(zoo.predict(model, [bag.astype("uint8")])[0]["instances"]) == 2


def test_refused(tmp_path: Path) -> None:
    rows, offsets, labels = some_bags(10)
    good = {"rows": rows, "offsets": offsets, "labels": labels}
    with pytest.raises(DataError, match="offsets must rise from 0 to the"):
        open_splits({**good, "offsets": offsets + 1})
    with pytest.raises(DataError, match="10 bags but 9 labels"):
        open_splits({**good, "labels": labels[:9]})
    with pytest.raises(DataError, match="bag 0 of bags has no instances"):
        open_splits({**good, "offsets": np.array([0, *offsets]), "labels": np.array([0, *labels])})
    bad = rows.copy()
    bad[3, 1] = np.nan
    with pytest.raises(DataError, match="row 3 is not finite"):
        open_splits({**good, "rows": bad})
    save_file({"rows": rows, "labels": labels}, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match=r"lacks offsets \(.*\); it holds: labels, rows"):
        open_splits(tmp_path / "a.safetensors")
    table = write_table(tmp_path / "a.csv", rows, offsets, labels)
    with pytest.raises(
        DataError,
        match=r"row 1: the feature 'note' is no finite number of single precision but 'seen'.*features=PATTERN",
    ):
        open_splits(str(table))
    with pytest.raises(DataError, match=r"no columns of features \(g\*\)"):
        open_splits(f"{table}?features=g*")
    (tmp_path / "b.csv").write_text("bag,label,x\na,p,1\na,q,2\nb,q,3\n")
    with pytest.raises(DataError, match="instances of bag a have different labels"):
        open_splits(str(tmp_path / "b.csv"))
    with pytest.raises(ValueError, match="mixup, lora: for models of images"):
        zoo.finetune("hopfield_mil", good, mixup=0.2, lora=4, **CALM)
    with pytest.raises(DataError, match="resnet10t takes images, train of bags has bags; hopfield_mil and its like"):
        zoo.finetune("resnet10t", good, out=tmp_path / "x", **CALM)
    with pytest.raises(DataError, match="hopfield_mil takes bags of instances, train of digits has images"):
        zoo.finetune("hopfield_mil", "digits", out=tmp_path / "y", **CALM)
    wide = zoo.create_model("hopfield_mil", dim=5)
    with pytest.raises(DataError, match=r"bag 0 of bags has instances of \(4,\), the model takes \(5,\)"):
        zoo.predict(wide, good)


class _Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.inf


def test_a_loss_that_is_not_finite_is_explained(tmp_path: Path) -> None:
    rows, offsets, labels = some_bags(10)
    model = zoo.create_model("hopfield_mil", dim=4, **SMALL)
    model.act = _Broken()
    with pytest.raises(NonFiniteLossError, match=r"first module with a non-finite output: 'act'.*bag"):
        zoo.finetune(model, {"rows": rows, "offsets": offsets, "labels": labels}, out=tmp_path, val=False, **CALM)
