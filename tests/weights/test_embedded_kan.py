"""The KAN of the breast cancer table: what its script measures, and what is left of it."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch

import zoo
from zoo.registry import weights_entry

ROOT = Path(__file__).parents[2]


def test_it_reaches_what_the_manifest_states():
    row = weights_entry("kan_breast_cancer.wdbc")
    script = runpy.run_path(str(ROOT / row.command.removeprefix("python ")))
    model = zoo.create_model("kan_breast_cancer", pretrained=True).eval()
    assert script["measure"](model) == row.metrics
    x, y = script["table"]("train")
    torch.testing.assert_close(model.scaling.mean, x.double().mean(0), rtol=1e-4, atol=1e-6)
    assert len(x) + len(script["table"]("val")[0]) + row.metrics["samples"] == 569
    assert set(y.tolist()) == {0, 1}


def test_it_is_sparse_and_knows_its_columns():
    model = zoo.create_model("kan_breast_cancer.wdbc", pretrained=True).eval()
    mask = model.kan.layers[0].mask
    assert (int(mask.sum()), int(mask.any(0).sum())) == (18, 14)
    unused = int((~mask.any(0)).nonzero()[0])
    x = 100 * torch.rand(4, 30)
    other = x.clone()
    other[:, unused] = -7.0
    assert torch.equal(model(other), model(x))
    assert model.feature_names[0] == "mean radius"
    assert list(model.pretrained_cfg["label_names"]) == ["malignant", "benign"]
