"""`zoo.evaluate` and `zoo.predict` give what the model gives by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.hub.fixtures import Hub
from tests.training.helpers import QUICK, few_digits, tiny_net
from zoo.errors import DataError, MissingFileError, TrainingError, WeightsError
from zoo.training.data import ArrayImages, ImageSet
from zoo.training.data.prepared import open_data
from zoo.training.metrics import classification_metrics
from zoo.weights.facts import metric_rows


def prepared(images: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(images).float()[:, None] / 255 - 0.5) / 0.5


def stacked(data: ImageSet) -> np.ndarray:
    return np.stack([data.image(i) for i in range(len(data))])


def test_evaluate_equals_a_loop_by_hand() -> None:
    model, test = tiny_net(), few_digits().present()["test"]
    model.train()
    ours = zoo.evaluate(model, few_digits(), batch_size=7, detail=True)
    assert model.training
    assert all(m.training for m in model.modules())
    with torch.no_grad():
        logits = model.eval()(prepared(stacked(test)))
    expected = classification_metrics(logits, torch.from_numpy(test.labels))
    assert ours.pop("classes") == test.classes
    assert ours.pop("facts") == {}
    assert (ours.pop("split"), ours.pop("dataset")) == ("test", "few")
    assert ours.pop("confusion") == expected.pop("confusion")
    assert ours == {k: pytest.approx(v, abs=1e-6) for k, v in expected.items()}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_split_can_be_measured(split: str) -> None:
    metrics = zoo.evaluate(tiny_net(), few_digits(), split)
    assert metrics["samples"] == len(few_digits().present()[split])


def test_classes_are_matched_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_net(num_classes=3)
    zoo.set_data_config(model, label_names=["cat", "dog", "owl"])
    images, labels = stacked(few_digits().present()["test"]), np.arange(40) % 3
    plain = zoo.evaluate(model, ArrayImages(images, labels, ["cat", "dog", "owl"], name="x"), detail=True)
    assert plain["split"] == "all"  # who knows what was learned from
    turned = ArrayImages(images, (labels + 1) % 3, ["owl", "cat", "dog"], name="x")
    assert zoo.evaluate(model, turned)["accuracy"] == plain["accuracy"]
    some = ArrayImages(images[:20], np.arange(20) % 2, ["owl", "dog"], name="x")
    with torch.no_grad():
        logits = model.eval()(prepared(images[:20]))
    cross_entropy = torch.nn.functional.cross_entropy
    measured = zoo.evaluate(model, some, detail=True)
    assert measured["loss"] == pytest.approx(cross_entropy(logits, 2 - torch.arange(20) % 2).item(), rel=1e-5)
    assert (measured["classes"], measured["auroc"], measured["auroc_absent"]) == (["cat", "dog", "owl"], None, [0])
    assert sum(row[0] for row in measured["confusion"]) == (logits.argmax(1) == 0).sum()
    assert "no auroc: 'cat' has no image (or no other) in this split" in capsys.readouterr().err
    among = zoo.evaluate(model, some, among="data", detail=True)
    assert among["loss"] == pytest.approx(cross_entropy(logits[:, 1:], 1 - torch.arange(20) % 2).item(), rel=1e-5)
    assert among["classes"] == ["dog", "owl"]
    assert "answers to 'cat' are left out" in capsys.readouterr().err
    with pytest.raises(ValueError, match="among must be 'model' or 'data', got 'all'"):
        zoo.evaluate(model, some, among="all")
    with pytest.raises(DataError, match="has the classes 'cat', 'dog', 'owl', x has 'cat', 'cow'; these must be among"):
        zoo.evaluate(model, ArrayImages(images[:4], np.arange(4) % 2, ["cat", "cow"], name="x"))
    with pytest.raises(DataError, match="has 10 classes, x has 'cat', 'cow'"):
        zoo.evaluate(tiny_net(), ArrayImages(images[:4], np.arange(4) % 2, ["cat", "cow"], name="x"))


def test_an_answer_that_the_data_lack_is_wrong() -> None:
    """All of one class, answered as another one: nothing is right."""
    model = tiny_net(num_classes=2)
    zoo.set_data_config(model, label_names=["benign", "tumour"])
    images = stacked(few_digits().present()["test"])
    said = np.array([answer["label"] for answer in zoo.predict(model, list(images))])
    wrong = {"benign": "tumour", "tumour": "benign"}[said[0]]
    same = images[said == said[0]]
    found = zoo.evaluate(model, ArrayImages(same, np.zeros(len(same), int), [wrong], name="x"))
    assert (found["accuracy"], found["auroc"], found["auprc"]) == (0, None, None)
    assert found["loss"] > np.log(2)
    assert all(row["name"] != "auroc" for row in metric_rows(found))


def test_labels_that_the_data_do_not_speak_of_are_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_net(num_classes=3)
    zoo.set_data_config(model, label_names=["cat", "dog", "owl"])
    images = stacked(few_digits().present()["test"])
    labels = np.stack([np.arange(40) % 2, np.arange(40) // 20], 1)
    found = zoo.evaluate(model, ArrayImages(images, labels, ["owl", "cat"], name="x"), detail=True)
    with torch.no_grad():
        logits = model.eval()(prepared(images))[:, [2, 0]]
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels).float())
    assert found["loss"] == pytest.approx(wanted.item(), rel=1e-5)
    assert found["classes"] == ["cat", "owl"]
    assert "answers to 'dog' are left out" in capsys.readouterr().err


def test_a_name_without_weights_is_not_measured() -> None:
    with pytest.raises(WeightsError, match="no pretrained weights"):
        zoo.evaluate("medvit2_kan_base", few_digits())


def test_a_model_without_a_classifier_names_nothing() -> None:
    model = zoo.create_model("test_resnet", num_classes=0)
    with pytest.raises(DataError, match=r"test_resnet has no classifier \(num_classes=0\)"):
        zoo.predict(model, np.zeros((8, 8), np.uint8))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "gpu"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ValueError, match=f"no device '{device}' on this machine, only cpu; leave device"):
        zoo.predict("no such model", "image.png", device=device)
    with pytest.raises(ValueError, match=f"no device '{device}' on this machine, only cpu; leave device"):
        zoo.evaluate("no such model", "no such data", device=device)


def test_a_run_without_a_best_model(tmp_path: Path) -> None:
    (tmp_path / "args.json").write_text("{}")
    with pytest.raises(TrainingError, match="is a run that has no best model yet"):
        zoo.predict(tmp_path, np.zeros((8, 8), np.uint8))


def test_a_path_to_no_model_names_near_ones(tmp_path: Path) -> None:
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    (tmp_path / "weights.safetensors").touch()
    said = {
        "runs/digit": r"no folder '.*digit'; did you mean 'digits'\? A model is a name of `zoo list`, the folder of",
        "runs/nosuch": r"no folder '.*nosuch'\. A model is a name of `zoo list`, the folder .*, or 'hf-hub:USER/NAME'",
        "weights.safetensors": r"is a file, not the folder of a saved model\. .*checkpoint_path",
        "runs/digits": r"no config\.json in .*digits",
    }
    for path, message in said.items():
        with pytest.raises(MissingFileError, match=message):
            zoo.evaluate(str(tmp_path / path), few_digits())


# --------------------------------------------------------------------------------------------------------- predicting


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, image in enumerate(stacked(few_digits().present()["test"])[:5]):
        target = tmp_path / "images" / ("even" if i % 2 == 0 else "odd")
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(target / f"{i}.png")
    return tmp_path / "images"


def test_predict_equals_softmax_by_hand() -> None:
    model, images = tiny_net(), stacked(few_digits().present()["test"])[:6]
    zoo.set_data_config(model, label_names=[f"digit {k}" for k in range(10)])
    with torch.no_grad():
        expected = model.eval()(prepared(images)).softmax(1)
    for answer, row in zip(zoo.predict(model, list(images), top=3, batch_size=4), expected, strict=True):
        values, indices = row.topk(3)
        assert [t["index"] for t in answer["top"]] == indices.tolist()
        assert [t["label"] for t in answer["top"]] == [f"digit {k}" for k in indices.tolist()]
        assert [t["probability"] for t in answer["top"]] == pytest.approx(values.tolist(), abs=1e-6)
        assert answer["label"] == answer["top"][0]["label"]
        assert answer["probability"] == answer["top"][0]["probability"]
    assert sum(t["probability"] for t in zoo.predict(model, images[0], top=99)[0]["top"]) == pytest.approx(1, abs=1e-6)


def test_every_form_of_image_gives_the_same(folder: Path) -> None:
    model, images = tiny_net(), stacked(few_digits().present()["test"])[:5]
    path = folder / "even" / "2.png"
    forms: list[Any] = [
        path,
        str(path),
        str(folder / "even" / "2*"),
        Image.open(path),
        images[2],
        images[2][:, :, None],
        images[2:3, :, :, None],
        torch.from_numpy(images[2])[None],
        torch.from_numpy(images[2])[None, None],
        images[2].astype(np.float32) / 255,
    ]
    expected = zoo.predict(model, images[2])[0]["top"]
    for form in forms:
        top = zoo.predict(model, form)[0]["top"]
        assert [t["label"] for t in top] == [t["label"] for t in expected]
        assert [t["probability"] for t in top] == pytest.approx([t["probability"] for t in expected], abs=1e-6)
    forms[3].close()


def test_folders_are_searched_and_named(folder: Path) -> None:
    answers = zoo.predict(tiny_net(), folder, top=1)
    expected = ["even/0.png", "even/2.png", "even/4.png", "odd/1.png", "odd/3.png"]
    assert [Path(a["image"]).relative_to(folder).as_posix() for a in answers] == expected
    mixed = zoo.predict(tiny_net(), [folder / "odd", np.zeros((8, 8), np.uint8)])
    assert [a["image"] for a in mixed] == [str(folder / "odd" / "1.png"), str(folder / "odd" / "3.png"), "2"]


def test_a_run_folder_predicts(tmp_path: Path) -> None:
    result = zoo.finetune("test_resnet", few_digits(), out=tmp_path, img_size=32, **{**QUICK, "epochs": 1})
    image = stacked(few_digits().present()["test"])[0]
    assert zoo.predict(tmp_path, image) == zoo.predict(result.model, image)


def test_imagenet_classes_have_names() -> None:
    from zoo.training.prediction import label_names

    with torch.device("meta"):
        model = zoo.create_model("resnet18")
    names = label_names(model, 1000)
    assert names[1] == "goldfish, Carassius auratus"
    assert label_names(tiny_net(num_classes=4), 4) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("nothing.png", "no such image: 'nothing.png'"),
        ("*.nothing", r"no file matches '\*\.nothing'"),
        ([], "no images were given"),
        (7, "cannot read images from a int"),
        (np.zeros((2, 2, 2, 2, 2)), "shape"),
        (np.full((8, 8), 3.0), "expected 0 to 1"),
    ],
)
def test_images_that_cannot_be_used(images: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        zoo.predict(tiny_net(), images)


def test_bad_files_can_be_skipped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "even" / "0.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"0\.png .*pass on_bad='skip' \(--on-bad skip\)"):
        zoo.predict(tiny_net(), folder)
    assert len(zoo.predict(tiny_net(), folder, on_bad="skip")) == 4
    assert "left out an unreadable image" in capsys.readouterr().err
    with pytest.raises(DataError, match="none of the 1 image files can be read"):
        zoo.predict(tiny_net(), folder / "even" / "0.png", on_bad="skip")
    with pytest.raises(ValueError, match="on_bad must be one of"):
        zoo.predict(tiny_net(), folder, on_bad="ignore")


def test_bad_files_and_numbers(folder: Path) -> None:
    bad = folder / "even" / "0.png"
    bad.write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"cannot read the image .*0\.png"):
        zoo.predict(tiny_net(), bad)
    with pytest.raises(DataError, match=r"no such image.*did you mean '4\.png'"):
        zoo.predict(tiny_net(), str(folder / "even" / "44.png"))
    with pytest.raises(ValueError, match="batch_size must be a whole number from 1, got 0"):
        zoo.predict(tiny_net(), folder, batch_size=0)
    with pytest.raises(ValueError, match="batch_size must be a whole number from 1, got 0"):
        zoo.evaluate(tiny_net(), few_digits(), batch_size=0)
    with pytest.raises(ValueError, match="top must be a whole number from 1, got 0"):
        zoo.predict(tiny_net(), folder, top=0)
    empty = folder / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no images"):
        zoo.predict(tiny_net(), empty)


# ------------------------------------------------------------------------------------------------- metrics of one's own


def test_metrics_of_ones_own_are_measured_beside_ours() -> None:
    from torchmetrics.classification import MulticlassCohenKappa, MulticlassRecall

    data = few_digits()
    own = {"kappa": MulticlassCohenKappa(num_classes=10), "recall": MulticlassRecall(num_classes=10, average=None)}
    plain, more = zoo.evaluate(tiny_net(), data, detail=True), zoo.evaluate(tiny_net(), data, metrics=own)
    counts = np.array(plain["confusion"], dtype=float)
    chance = (counts.sum(0) * counts.sum(1)).sum() / counts.sum() ** 2
    assert more["kappa"] == pytest.approx((np.trace(counts) / counts.sum() - chance) / (1 - chance), abs=1e-6)
    assert "recall" not in more
    recall = zoo.evaluate(tiny_net(), data, metrics=own, detail=True)["recall"]
    assert recall == pytest.approx(np.diag(counts) / np.maximum(counts.sum(1), 1), abs=1e-6)
    with pytest.raises(ValueError, match="'accuracy' is measured already"):
        zoo.evaluate(tiny_net(), data, metrics={"accuracy": own["kappa"]})


def test_grades_are_measured_as_such() -> None:
    images, labels = stacked(few_digits().present()["test"]), np.arange(40) % 10
    grades = ArrayImages(images, labels, [str(k) for k in range(10)], name="grades", ordinal=True)
    measured = zoo.evaluate(tiny_net(), grades, detail=True)
    counts = np.array(measured["confusion"])
    distance = np.abs(np.subtract.outer(np.arange(10), np.arange(10)))
    assert measured["mae"] == pytest.approx((counts * distance).sum() / 40)
    assert -1 <= measured["quadratic_kappa"] <= 1
    part = zoo.evaluate(tiny_net(), grades.subset(range(20), "part"))
    assert "mae" in part


def test_a_published_model_of_several_labels_is_asked_for_each_of_them(tmp_path: Path, hub: Hub) -> None:
    random = np.random.RandomState(0)
    labels = random.randint(0, 2, (60, 3))
    images = random.randint(0, 256, (60, 32, 32, 3)).astype(np.uint8)
    images[..., 0] = np.where(labels[:, :1, None] == 1, 220, 20)
    result = zoo.finetune("test_resnet", (images, labels), out=tmp_path / "run", **QUICK, img_size=32)
    recipe = json.loads((tmp_path / "run/best/config.json").read_text())["zoo"]["training"]
    assert (recipe["task"], recipe["seed"]) == ("multi-label", 0)
    repo = hub.repo_id("several")
    result.push(repo, license="mit", token=hub.token)
    again = zoo.create_model(f"hf-hub:{repo}")
    (answer,) = zoo.predict(again, [Image.fromarray(images[0])], top=3)
    image, _ = open_data((images, labels), "train", model=again)[0]
    with torch.no_grad():
        scores = again.eval()(image[None]).sigmoid()[0]
    found = sorted(answer["top"], key=lambda entry: entry["index"])
    assert [entry["probability"] for entry in found] == pytest.approx(scores.tolist(), abs=1e-6)
