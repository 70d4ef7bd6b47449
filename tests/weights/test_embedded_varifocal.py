"""The two small networks that look twice: what their manifests state, and what the dispatch of a case is worth."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.registry import weights_entry
from zoo.training.data import open_splits
from zoo.training.data.fashion_mnist import INSTALLED
from zoo.training.data.transform import eval_transform

RENDERED, FASHION = "varifocal_chromosome_nano.rendered", "varifocal_nano.fashion"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "weights/varifocal.py"))


@pytest.fixture(scope="module")
def cases(script: dict[str, Any]) -> Any:
    return script["test_cases"]()


def test_it_reaches_what_the_manifest_states(cases: Any) -> None:
    stated = dict(weights_entry(RENDERED).metrics)
    found = zoo.evaluate(RENDERED, cases, progress=False)
    assert stated.pop("split") == "test"
    assert found["samples"] == stated.pop("samples") == len(cases)
    for name, value in stated.items():
        assert found[name] == pytest.approx(value, abs=2e-3), name
    assert found["dispatch_accuracy"] > found["accuracy"]
    assert found["dispatch_complete_cases"] > found["complete_cases"]


def test_nothing_it_is_measured_on_was_learned_from(cases: Any) -> None:
    splits = open_splits("chromosomes?size=64&cases=60")
    learned = {case for part in (splits.train, splits.val) for case in part.groups or ()}  # type: ignore[union-attr]
    assert len(learned) == 80
    assert not learned & set(cases.groups)


def test_a_new_classifier_is_not_calibrated() -> None:
    kept = zoo.create_model(FASHION, pretrained=True)
    assert kept.temperature != (1.0, 1.0)
    assert zoo.create_model(FASHION, pretrained=True, num_classes=10).temperature == kept.temperature
    assert zoo.create_model(FASHION, pretrained=True, num_classes=5).temperature == (1.0, 1.0)


def test_a_case_is_typed_as_a_whole(cases: Any) -> None:
    net = zoo.create_model(RENDERED, pretrained=True).eval()
    transform = eval_transform(zoo.data_config(net))
    images = torch.stack([transform(cases.image(i)) for i in range(46)])
    found = net.predict_case(images)
    sex = "XX" if (cases.labels[:46] == 22).sum() == 2 else "XY"
    assert found.sex == sex
    assert float((found.types == cases.labels[:46]).mean()) >= 0.9


def test_its_temperature_and_what_it_is_not_go_with_it(tmp_path: Path) -> None:
    entry = weights_entry(RENDERED)
    net = zoo.create_model(RENDERED, pretrained=True)
    assert list(net.temperature) == list(entry.known["temperature"]) != [1.0, 1.0]
    zoo.save_pretrained(net, tmp_path)
    again = zoo.create_model(f"local-dir:{tmp_path}")
    assert again.temperature == net.temperature
    config = json.loads((tmp_path / "config.json").read_text())
    assert "not a medical device" in config["pretrained_cfg"]["description"]
    assert "rendered" in config["pretrained_cfg"]["description"]
    assert tuple(again.pretrained_cfg["label_names"][-2:]) == ("X", "Y")
    assert "polarity" in json.dumps(config)


def test_fashion_reaches_what_its_manifest_states() -> None:
    if not INSTALLED.is_dir():
        pytest.skip("the files of Fashion-MNIST are not installed (apt-get install dataset-fashion-mnist)")
    stated = weights_entry(FASHION).metrics
    found = zoo.evaluate(FASHION, "fashion_mnist", progress=False)
    assert found["accuracy"] > found["global_accuracy"] > found["local_accuracy"]
    for name in ("samples", "accuracy", "global_accuracy", "local_accuracy"):
        assert found[name] == pytest.approx(stated[name], abs=2e-3), name
