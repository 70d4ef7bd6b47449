"""The checkpoints of the Hopfield family: made again, or run on data that they were measured on."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

import zoo
from zoo.publish import push_source
from zoo.registry import weights_entry
from zoo.training.data.bags import BagSet
from zoo.training.data.fashion_mnist import INSTALLED
from zoo.training.data.source import open_split

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests/golden/hopfield/models/fashion_bags.safetensors"


def test_the_memory_is_what_its_command_makes_and_states():
    script = runpy.run_path(str(ROOT / weights_entry("hopfield_memory.digits").command.removeprefix("python ")))
    stored, shipped = script["build"]().state_dict(), load_file(script["FILE"])
    assert stored.keys() == shipped.keys()
    assert all(torch.equal(stored[name], shipped[name]) for name in stored)
    measured = script["measure"](zoo.create_model("hopfield_memory.digits", pretrained=True).eval())
    assert measured == weights_entry("hopfield_memory.digits").metrics
    assert measured["accuracy"] > 0.98
    assert measured["recalled_upper_half"] == 1.0


def test_no_test_digit_is_stored():
    """Each differs from all that are stored; and every class is stored as often as it occurs."""
    script = runpy.run_path(str(ROOT / "weights/hopfield_memory.py"))
    model = zoo.create_model("hopfield_memory", pretrained=True).eval()
    images, _ = script["digits"](model, "test")
    assert float(torch.cdist(images.flatten(1), model.memory.patterns).min()) > 0.1
    assert model.memory.labels.bincount().min() > 90


def test_bags_of_garments_on_a_few_that_are_here():
    """The first eight test bags, seven of them answered rightly: images of Fashion-MNIST, MIT licence, Zalando SE."""
    sample = load_file(SAMPLE)
    model = zoo.create_model("hopfield_mnist_bags", pretrained=True).eval()
    images = (sample["in.images"].float().unsqueeze(1) / 255 - 0.5) / 0.5
    with torch.no_grad():
        logits = model(images, offsets=sample["in.offsets"])
    torch.testing.assert_close(logits, sample["out.logits"], rtol=1e-3, atol=1e-3)
    assert int((logits.argmax(1) == sample["in.labels"]).sum()) == 7
    assert model.pretrained_cfg["label_names"] == ["no ankle boot", "ankle boot"]


@pytest.mark.parametrize(
    ("name", "shape"), [("hopfield_memory.digits", (2, 1, 8, 8)), ("hopfield_mnist_bags.fashion", (2, 3, 1, 28, 28))]
)
def test_pushed_and_loaded_back(hub, name, shape):
    repo = hub.repo_id()
    push_source(name, repo)
    again, mine = zoo.create_model(f"hf-hub:{repo}", cache_dir=hub.cache), zoo.create_model(name, pretrained=True)
    x = torch.rand(shape)
    assert torch.equal(again.eval()(x), mine.eval()(x))
    assert list(again.pretrained_cfg["label_names"]) == list(weights_entry(name).label_names)
    assert ModelCard.load(repo).data.license == weights_entry(name).licence


@pytest.mark.skipif(not INSTALLED.is_dir(), reason="the Debian package dataset-fashion-mnist is missing")
def test_bags_of_garments_reach_what_the_manifest_states():
    row = weights_entry("hopfield_mnist_bags.fashion")
    measured = zoo.evaluate("hopfield_mnist_bags", "fashion_mnist_bags", split=row.metrics["split"], progress=False)
    assert measured["samples"] == row.metrics["samples"]
    assert {name: round(measured[name], 4) for name in ("accuracy", "auroc")} == {
        name: row.metrics[name] for name in ("accuracy", "auroc")
    }
    assert measured["auroc"] >= 0.975
    # In 96 of 100 bags that it rightly takes for positive, the image that weighs most is a boot.
    bags = open_split("fashion_mnist_bags").images
    assert isinstance(bags, BagSet)
    boots = []
    for k, answer in enumerate(zoo.predict("hopfield_mnist_bags", "fashion_mnist_bags")):
        if bags.labels[k] == 1 and answer["label"] == "ankle boot":
            weights = [instance["weight"] for instance in answer["instances"]]
            boots.append(bags.instances.labels[bags.places[k][int(np.argmax(weights))]] == 9)
    assert len(boots) > 290
    assert np.mean(boots) > 0.95
