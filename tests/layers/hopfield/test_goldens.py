"""Our layers against the authors': outputs, associations, projected values, counts and gradients."""

from __future__ import annotations

import pytest
import torch

from tests.layers.hopfield.goldens import FOLDER, NAMES, golden
from zoo.layers.hopfield import HopfieldLayer, HopfieldPooling, associate
from zoo.weights.converters.hopfield import convert_official

_WRONG = {"hopfield_beta_per_head": "upstream_wrong", "static_multihead_batch": "upstream_batched_wrong"}


def test_all_are_here():
    assert len(NAMES) == 27
    assert not list(FOLDER.glob("deeprc*"))


@pytest.mark.parametrize("name", NAMES)
def test_outputs(name):
    case = golden(name)
    module = case.module()
    args, masks = case.arguments(case.inputs())
    with torch.no_grad():
        case.check(module(*args, **masks), case.tensors["out.out"], "output")
    if case.meta["class"].endswith("coderLayer"):
        return
    with torch.no_grad():
        found = module.recall(*args, **masks)
        case.check(found.output, case.tensors["out.out"], "output of recall")
    if "out.association" in case.tensors:
        case.check(found.association, case.tensors["out.association"], "association")
        case.check(module.association(*args, **masks), case.tensors["out.association"], "association")
    if "steps" in case.meta:
        assert list(found.counts) == case.meta["steps"]["softmax_evaluations_per_head"]


@pytest.mark.parametrize("name", [name for name in NAMES if "out.projected_patterns" in golden(name).tensors])
def test_projected_values(name):
    case = golden(name)
    module = case.module()
    inputs = case.inputs()
    values = next(inputs[key] for key in ("projection", "stored", "x") if key in inputs)
    if isinstance(module, HopfieldLayer):
        found = module.projected_values().expand_as(case.tensors["out.projected_patterns"])
    else:
        found = (module.hopfield if isinstance(module, HopfieldPooling) else module).projected_values(values)
    case.check(found, case.tensors["out.projected_patterns"], "projected values")


@pytest.mark.parametrize("name", [name for name in NAMES if "in.cotangent" in golden(name).tensors])
def test_gradients(name):
    case = golden(name)
    module = case.module()
    inputs = {k: v.requires_grad_() if v.is_floating_point() else v for k, v in case.inputs().items()}
    args, masks = case.arguments(inputs)
    (module(*args, **masks) * case.tensors["in.cotangent"]).sum().backward()
    gradients = {k: v for k, v in case.part("grad").items() if not k.startswith("state.")}
    for key, wanted in gradients.items():
        case.check(inputs[key].grad, wanted, f"gradient of {key}", "grad")
    # The gradient of a packed matrix is packed as the matrix is.
    given = case.part("grad.state")
    zeros = {key: given.get(key, torch.zeros_like(value)) for key, value in case.state().items()}
    wanted = convert_official(zeros)[0]
    own = dict(module.named_parameters())
    assert own.keys() == wanted.keys()
    for key, parameter in own.items():
        if parameter.requires_grad:
            case.check(parameter.grad, wanted[key], f"gradient of {key}", "grad")
        else:
            assert parameter.grad is None
            assert not wanted[key].any()


@pytest.mark.parametrize("name", _WRONG)
def test_what_the_authors_code_gets_wrong_is_not_copied(name):
    case = golden(name)
    args, masks = case.arguments(case.inputs())
    assert (case.module()(*args, **masks) - case.tensors[f"out.{_WRONG[name]}"]).abs().max() > 0.01


_MAPS = {
    "softmax": ("softmax", {}),
    "sparsemax": ("sparsemax", {}),
    "entmax15": ("entmax", {"alpha": 1.5}),
    "entmax_1_25": ("entmax", {"alpha": 1.25}),
    "entmax_1_75": ("entmax", {"alpha": 1.75}),
    "normmax_2": ("normmax", {"alpha": 2.0}),
    "normmax_5": ("normmax", {"alpha": 5.0}),
    "budget_3": ("budget", {"k": 3}),
}


@pytest.mark.parametrize("key", _MAPS)
def test_maps(key):
    case = golden("association_functions")
    assert set(case.part("out")) == set(_MAPS)
    name, options = _MAPS[key]
    scores = case.tensors["in.scores"].clone().requires_grad_()
    found = associate(scores, name, **options)
    case.check(found, case.tensors[f"out.{key}"], key)
    (found * case.tensors["in.cotangent"]).sum().backward()
    case.check(scores.grad, case.tensors[f"grad.{key}"], key, "grad")
