"""The checkpoints of the Farhi-Neven networks: made again, or measured on the data that they state."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

import zoo
from zoo.publish import push_source
from zoo.quantum import SineModel
from zoo.registry import weights_entry
from zoo.training.data.fashion_mnist import INSTALLED

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "weights/farhi_neven.py"
TASKS = {"qnn_farhi_neven_17q.digits36": "digits", "qnn_farhi_neven_785q.fashion": "fashion_mnist"}
FASHION = "qnn_farhi_neven_785q.fashion"
needs_fashion = pytest.mark.skipif(not INSTALLED.is_dir(), reason="dataset-fashion-mnist is missing")


def test_the_17_qubits_are_what_their_command_makes():
    script = runpy.run_path(str(SCRIPT))
    task = script["TASKS"][0]
    made, how = script["build"](task._replace(rates=(0.01,), epochs=20))  # the one that was chosen, and no longer
    assert how["epoch"] == 19
    shipped = load_file(task.file)
    torch.testing.assert_close(made.state_dict(), shipped, atol=1e-6, rtol=0)
    assert script["report"](task, made) == weights_entry("qnn_farhi_neven_17q.digits36").metrics


@pytest.mark.parametrize("name", ["qnn_farhi_neven_17q.digits36", pytest.param(FASHION, marks=needs_fashion)])
def test_they_reach_what_the_manifest_states_through_evaluate(name):
    row = weights_entry(name)
    data = f"{TASKS[name]}?classes={','.join(row.label_names)}"
    measured = zoo.evaluate(name, data, split="test", progress=False)
    assert {key: round(measured[key], 4) for key in ("accuracy", "auroc")} == {
        key: row.metrics[key] for key in ("accuracy", "auroc")
    }
    assert measured["samples"] == row.metrics["samples"]
    assert measured["accuracy"] > 0.97


@pytest.mark.parametrize("name", TASKS)
def test_pushed_and_loaded_back(hub, name):
    repo = hub.repo_id()
    push_source(name, repo)
    again, mine = zoo.create_model(f"hf-hub:{repo}", cache_dir=hub.cache), zoo.create_model(name, pretrained=True)
    x = torch.rand(4, 1, 28, 28)
    assert torch.equal(again.eval()(x), mine.eval()(x))
    assert list(again.pretrained_cfg["label_names"]) == list(weights_entry(name).label_names)
    assert ModelCard.load(repo).data.license == weights_entry(name).licence


@pytest.mark.parametrize("name", TASKS)
def test_a_sine_of_a_linear_form_answers_the_same(name):
    model = zoo.create_model(name, pretrained=True)
    form = model.qnn.phases_and_amplitude()
    sine = SineModel(model.num_features, shift=form.shift)
    with torch.no_grad():
        sine.phases.copy_(form.phases)
        sine.amplitude.copy_(form.amplitude)
    bits = torch.randint(0, 2, (100, model.num_features))
    torch.testing.assert_close(sine(bits.float()), model(bits), atol=1e-4, rtol=0)
