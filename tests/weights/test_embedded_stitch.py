"""The stitched network of digits: what its script measures, path by path, and the path that a budget takes."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

import zoo
from zoo.errors import BudgetError
from zoo.registry import weights_entry
from zoo.weights.safetensors_file import SafetensorsFile

NAME = "snnet_vit_nano.digits"
ROOT = Path(__file__).parents[2]


def test_every_path_reaches_what_the_catalogue_states():
    script = runpy.run_path(str(ROOT / weights_entry(NAME).command.removeprefix("python ")))
    net = zoo.create_model(NAME, pretrained=True).eval()
    test = script["split_of"](net, "test")
    found = script["in_percent"](script["accuracies"](net, test))
    assert found == {str(number): value for number, value in net.top1.items()}
    assert len(found) == len(net.stitches) == 9
    assert min(found.values()) > 88


def test_the_last_anchor_reaches_what_the_manifest_states():
    row = weights_entry(NAME)
    measured = zoo.evaluate(NAME, "digits", split="test", progress=False)
    assert round(measured["accuracy"], 4) == row.metrics["accuracy"]
    assert measured["samples"] == row.metrics["samples"]
    assert round(100 * row.metrics["accuracy"], 2) == row.known["top1"]["2"]


def test_what_it_predicts_has_names():
    from sklearn.datasets import load_digits

    answers = zoo.predict(NAME, list(load_digits().images[:10] / 16), top=1)
    assert sum(a["label"] == name for a, name in zip(answers, "0123456789", strict=True)) >= 9


def test_a_budget_takes_the_most_accurate_path_within_it():
    net = zoo.create_model("snnet_vit_nano", pretrained=True).eval()
    assert net.set_budget(flops=3e5).id == 0
    chosen = net.set_budget(flops=4e6)
    assert chosen.top1 == max(net.top1.values())
    assert chosen.flops < net.stitches[2].flops  # the largest is not the best
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(net(images), net(images, stitch=chosen.id))
    with pytest.raises(BudgetError, match="stitch 0 is the cheapest"):
        net.set_budget(params=10_000)


@pytest.mark.ci_long
@pytest.mark.filterwarnings("ignore:the stitching layers of this path are random")  # as the script measures them
def test_its_script_writes_such_a_file(tmp_path):
    """The command of the catalogue, in a short run: the same tensors, of other values."""
    row = weights_entry(NAME)
    script = runpy.run_path(str(ROOT / row.command.removeprefix("python ")))
    short = {"RATES": ((5e-3,), (2e-3,), (1e-3,)), "JOINT_RATES": (1e-3,), "EPOCHS": 1, "JOINT_EPOCHS": 1}
    script["main"].__globals__.update(short, FILE=tmp_path / "short.safetensors", INIT_IMAGES=100)
    threads = torch.get_num_threads()
    try:
        script["main"]()
    finally:
        torch.set_num_threads(threads)
    made, kept = (SafetensorsFile(path) for path in (tmp_path / "short.safetensors", row.path))
    assert made.metadata == kept.metadata
    assert made.path.stat().st_size == kept.path.stat().st_size
    ours, theirs = made.load(), kept.load()
    assert {n: (t.shape, t.dtype) for n, t in ours.items()} == {n: (t.shape, t.dtype) for n, t in theirs.items()}
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)
    zoo.load_weights(zoo.create_model("snnet_vit_nano"), made.path)
