"""What classes are called in an answer."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import zoo
from zoo.training.prediction import label_names

CODES = ["n01440764", "n01443537", "/m/01g317"]
TEXTS = {"n01440764": "tench", "n01443537": "goldfish", "/m/01g317": "person"}


@pytest.mark.parametrize("labels", [{"0": "cat", "1": "dog", "2": "owl"}, {"2": "owl", "1": "dog", "0": "cat"}])
def test_labels_by_class_number_name_the_classes(tmp_path: Path, labels: dict[str, str]) -> None:
    torch.manual_seed(0)
    model = zoo.create_model("test_resnet", num_classes=3)
    zoo.save_pretrained(model, tmp_path / "m")
    path = tmp_path / "m/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "label_names": labels}))
    again = zoo.create_model(f"local-dir:{tmp_path / 'm'}")
    (answer,) = zoo.predict(again, np.zeros((32, 32, 3), np.uint8))
    assert {one["index"]: one["label"] for one in answer["top"]} == {0: "cat", 1: "dog", 2: "owl"}
    assert zoo.save_pretrained(again, tmp_path / "again")  # what was read can be written, and read by all
    assert json.loads((tmp_path / "again/config.json").read_text())["label_names"] == ["cat", "dog", "owl"]


def test_a_model_of_timm_may_hold_labels_by_class_number() -> None:
    model = timm.create_model("test_resnet", num_classes=3)
    model.pretrained_cfg["label_names"] = {2: "owl", 0: "cat"}
    assert label_names(model, 3) == ["cat", "1", "owl"]


def test_codes_are_called_by_their_descriptions_and_words_by_themselves() -> None:
    model = timm.create_model("test_resnet", num_classes=3)
    model.pretrained_cfg |= {"label_names": CODES, "label_descriptions": TEXTS}
    assert label_names(model, 3) == ["tench", "goldfish", "person"]
    model.pretrained_cfg["label_descriptions"] = {"n01440764": "tench"}
    assert label_names(model, 3) == ["tench", "n01443537", "/m/01g317"]
    zoo.set_data_config(model, label_names=["cat", "dog", "owl"], label_descriptions={"cat": "a small feline"})
    assert label_names(model, 3) == ["cat", "dog", "owl"]


def test_a_model_of_tables_is_sent_to_zoo_tabular(tmp_path: Path) -> None:
    table = tmp_path / "alloys.csv"
    table.write_text("a,b,label\n1,2,x\n3,4,y\n")
    model = zoo.create_model("kan_tabular", in_features=2)
    zoo.save_pretrained(model, tmp_path / "saved")
    said = r"(kan_tabular|saved) is a model of tables.*use zoo\.tabular"
    for of in (model, "kan_tabular", tmp_path / "saved"):
        with pytest.raises(zoo.errors.DataError, match=said):
            zoo.evaluate(of, table)
        with pytest.raises(zoo.errors.DataError, match=said):
            zoo.finetune(of, table, out=tmp_path / "run")
    with pytest.raises(zoo.errors.DataError, match=said):
        zoo.predict(tmp_path / "saved", table)
    with pytest.raises(zoo.errors.DataError, match=r"kan_breast_cancer.* is a model of tables"):
        zoo.predict("kan_breast_cancer.wdbc", torch.rand(2, 30))
    assert not (tmp_path / "run").exists()
