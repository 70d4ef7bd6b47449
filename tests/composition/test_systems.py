"""Composed models in the systems around them: copies, other processes, compilers, moving averages, mixed precision."""

from __future__ import annotations

import copy
import io
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models import FeatureGraphNet
from timm.utils import ModelEmaV3
from torch import nn

import zoo
from tests.composition.models import COMPOSITIONS, NAMES, composed, images, output, spec_of

each = pytest.mark.parametrize("name", NAMES)


def same_state(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


@each
def test_a_copy_is_the_model_and_shares_nothing(name):
    model = composed(name)
    other = copy.deepcopy(model)
    assert type(other) is type(model)
    assert other.zoo_spec == model.zoo_spec
    assert torch.equal(output(other), output(model))
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in other.parameters()}
    kept = copy.deepcopy(model.zoo_spec), len(model.zoo_composition.changes)
    other.reset_classifier(0, "" if "pool" in COMPOSITIONS[name][1] else None)
    assert (model.zoo_spec, len(model.zoo_composition.changes)) == kept
    assert output(model).shape == (2, 5)


@each
def test_pickled_and_saved_by_torch(name):
    model = composed(name)
    again = pickle.loads(pickle.dumps(model))
    assert type(again) is type(model)
    assert torch.equal(output(again), output(model))
    again.reset_classifier(3)
    assert again.zoo_spec == {**model.zoo_spec, "num_classes": 3}
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    assert same_state(torch.load(buffer, weights_only=False), model)


def test_in_a_spawned_process():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        models = [composed(name) for name in ("vit mlp and pool", "mlp on channels-first maps", "two heads")]
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        process = context.Process(target=_run_all, args=([pickle.dumps(m) for m in models], queue))
        process.start()
        found = [queue.get(timeout=120) for _ in models]
        process.join(timeout=30)
        assert process.exitcode == 0
        for model, (name, content, spec) in zip(models, found, strict=True):
            assert (name, spec) == (type(model).__name__, model.zoo_spec)
            assert torch.equal(pickle.loads(content), output(model))
    finally:
        torch.set_num_threads(threads)


def _run_all(contents: list[bytes], queue: Any) -> None:
    torch.set_num_threads(1)
    for content in contents:
        model = pickle.loads(content)
        queue.put((type(model).__name__, pickle.dumps(output(model)), model.zoo_spec))


# The test session checks every annotation at run time, which neither dynamo nor TorchScript can read.
_IN_A_FRESH_PROCESS = """
import io, json, sys, warnings
warnings.filterwarnings("ignore", message=".*torch.jit.*")
import torch
from tests.composition.models import composed, images, output

def compiled(name):
    torch._dynamo.reset()
    with torch.no_grad():
        return torch.compile(composed(name), fullgraph=True, backend=sys.argv[2])(images(composed(name)))

def scripted(name):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(composed(name)), buffer)
    buffer.seek(0)
    with torch.no_grad():
        return torch.jit.load(buffer)(images(composed(name)))

found = {}
for name in sys.argv[3:]:
    try:
        got = {"compiled": compiled, "scripted": scripted}[sys.argv[1]](name)
        found[name] = str((got - output(composed(name))).abs().max().item())
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


def in_a_fresh_process(how: str, names: Sequence[str], backend: str = "eager") -> dict[str, str]:
    """Composition -> largest difference between its output and the plain one, or the error."""
    done = subprocess.run(
        [sys.executable, "-c", _IN_A_FRESH_PROCESS, how, backend, *names],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_equal(found: dict[str, str], within: float) -> None:
    wrong = {n: d for n, d in found.items() if ":" in d or not float(d) <= within}
    assert not wrong, wrong


def test_compiled_whole():
    names = ["vit mlp and pool", "vit mixer on maps", "two heads", "convolutional classifier"]
    assert_equal(in_a_fresh_process("compiled", names), 1e-5)


@pytest.mark.ci_long
def test_all_compiled_whole():
    assert_equal(in_a_fresh_process("compiled", NAMES), 1e-5)


@pytest.mark.ci_long
def test_compiled_by_inductor():
    found = in_a_fresh_process("compiled", ["vit mlp and pool", "convnet head", "vit mixer on maps"], "inductor")
    assert_equal(found, 1e-4)


def _has_kan(name: str) -> bool:
    parts = COMPOSITIONS[name][1].values()
    return "kan" in [part["type"] if isinstance(part, dict) else part for part in parts]


def test_scripted():
    """Everything but KAN layers, which ask their basis in Python, and mixers that are fed through an adapter."""
    readable = [n for n in NAMES if "mixer" not in COMPOSITIONS[n][1] and not _has_kan(n)]
    assert_equal(in_a_fresh_process("scripted", readable), 1e-5)


@pytest.mark.parametrize("name", ["convnet head", "vit mlp and pool", "vit mixer on maps", "swin mlp"])
def test_exported_with_any_batch(name):
    model = composed(name)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (images(model, 3),), dynamic_shapes=({0: batch},))
    for size in (1, 5):
        torch.testing.assert_close(program.module()(images(model, size)), output(model, size))


@pytest.mark.ci_long
@pytest.mark.parametrize(
    "name",
    ["convnext mlp and head", "mlp on channels-first maps", "two heads", "convolutional classifier", "every part"],
)
def test_the_others_exported_with_any_batch(name):
    test_exported_with_any_batch(name)


@pytest.mark.parametrize("name", ["convnet head", "convnext mlp and head", "mlp on channels-first maps"])
def test_traced_by_timms_graph_extractor(name):
    model = composed(name)
    graph = FeatureGraphNet(model, out_indices=(0, 1))
    with torch.no_grad():
        found = graph(images(model))
        wanted = model.forward_intermediates(images(model), indices=[0, 1], intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", ["vit mlp and pool", "convolutional classifier"])
def test_a_moving_average_of_it(name):
    model = composed(name).train()
    average = ModelEmaV3(model, decay=0.5)
    before = {n: p.clone() for n, p in model.named_parameters()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    average.update(model, step=2)
    for key, parameter in average.module.named_parameters():
        torch.testing.assert_close(parameter, before[key] + 0.5)
    assert average.module.zoo_spec == model.zoo_spec


@each
def test_accumulated_gradients_in_mixed_precision_train_the_new_parts(name):
    model = composed(name).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    changed = [(c.path, model.get_submodule(c.path)) for c in model.zoo_composition.changes]
    before = {p: {k: v.clone() for k, v in m.named_parameters()} for p, m in changed}
    targets = torch.tensor([0, 1])
    for step in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            out = model(images(model, seed=step))
            out = sum(out) / 2 if isinstance(out, tuple) else out
        loss = nn.functional.cross_entropy(out.float(), targets)
        (loss / 2).backward()
    assert loss.isfinite()
    assert all(
        p.grad is None or (p.grad.dtype == torch.float32 and p.grad.isfinite().all()) for p in model.parameters()
    )
    optimizer.step()
    for path, module in changed:
        for key, parameter in module.named_parameters():
            assert parameter.grad is not None, f"{path}.{key}"
        moved = [not torch.equal(p, before[path][k]) for k, p in module.named_parameters()]
        assert any(moved) or not moved, path


def test_on_one_device_only_after_a_move():
    """What an adapter keeps beside the tree of modules moves with it, or is not needed."""
    model = zoo.create_model(**spec_of("every part")).to("meta")
    assert all(t.is_meta for t in [*model.parameters(), *model.buffers()])
    assert model(torch.zeros(2, 3, 64, 64, device="meta")).shape == (2, 5)
    convnet = zoo.create_model("test_resnet", pool="avg", num_classes=5).double()
    convnet.reset_classifier(3, "avg")
    with torch.no_grad():
        assert convnet(torch.zeros(1, 3, 64, 64).double()).dtype == torch.float64
