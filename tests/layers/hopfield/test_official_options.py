"""Every option of the authors' layers, alone and with others, against a slow computation from their names and options.

Parameters in the authors' layout are drawn, converted and loaded; outputs, associations, projected values, evaluations
and gradients are compared in float64.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.layers.hopfield.official_cases import CASES, drawn_case, generator, inputs_of
from tests.layers.hopfield.slow import Options, official_state, slow
from zoo.layers.hopfield import Hopfield, HopfieldLayer, HopfieldPooling, absorbed
from zoo.weights.converters.hopfield import convert_official, export_official, from_official_options

_INPUTS = ("x", "stored", "state", "projection")
CLASSES = {"Hopfield": Hopfield, "HopfieldPooling": HopfieldPooling, "HopfieldLayer": HopfieldLayer}
ALL = {**CASES, **{f"random {seed}": drawn_case(seed) for seed in range(60)}}


def _drawn(name: str, seed: int = 0) -> tuple[str, dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    case = ALL[name]
    draw = generator(seed)

    def parameter(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64) * (0.4 if len(shape) > 1 else 0.7)

    state = official_state(case.cls, case.options, parameter)
    return case.cls, case.options, state, inputs_of(case, draw)


def _built(cls: str, options: dict[str, Any], state: dict[str, Tensor], **more: Any) -> Any:
    module = CLASSES[cls](**from_official_options(cls, **options), **more, dtype=torch.float64)
    new, _ = convert_official(state, options)
    module.load_state_dict(new)
    return module.eval()


def _called(cls: str, inputs: dict[str, Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
    masks = {name: value for name, value in inputs.items() if name.endswith("mask")}
    if cls == "HopfieldPooling" and "projection" in inputs:
        masks["values"] = inputs["projection"]
    if cls != "Hopfield":
        return [inputs["x"]], masks
    names = {"state": "state", "projection": "values"}
    return [inputs["stored"]], {**masks, **{ours: inputs[name] for name, ours in names.items() if name in inputs}}


@pytest.mark.parametrize("name", ALL)
def test_equals_the_slow_layer(name):
    _check(name)


@pytest.mark.parametrize("name", [name for name, case in ALL.items() if case.cls == "HopfieldPooling"])
def test_pooling_without_projections_equals_the_slow_layer(name, monkeypatch):
    monkeypatch.setattr(absorbed, "_WORTH", -(2**60))
    _check(name)


def _check(name: str) -> None:
    cls, options, state, inputs = _drawn(name)
    leaves = {key: value.requires_grad_() for key, value in state.items()}
    leaves |= {f"input {key}": value.requires_grad_() for key, value in inputs.items() if key in _INPUTS}
    wanted = slow(cls, options, state, inputs)
    module = _built(cls, options, {key: value.detach() for key, value in state.items()})
    args, others = _called(cls, inputs)
    close = {"rtol": 1e-9, "atol": 1e-10}
    with torch.no_grad():
        for _ in range(2):  # what is kept between calls
            torch.testing.assert_close(module(*args, **others), wanted.output, **close)
    output = module(*args, **others)
    torch.testing.assert_close(output, wanted.output, **close)
    found = module.recall(*args, **others)
    torch.testing.assert_close(found.output, wanted.output, **close)
    torch.testing.assert_close(found.association, wanted.association, **close)
    assert list(found.counts) == wanted.counts

    cotangent = torch.randn(output.shape, generator=generator(1), dtype=output.dtype)
    grads = torch.autograd.grad(
        (wanted.output * cotangent).sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    grads = dict(zip(leaves, grads, strict=True))
    own = {name: parameter.requires_grad_() for name, parameter in module.named_parameters()}
    output = module(*args, **others)
    given = {f"input {key}": value for key, value in inputs.items() if key in _INPUTS}
    got = torch.autograd.grad(
        (output * cotangent).sum(), [*own.values(), *given.values()], allow_unused=True, materialize_grads=True
    )
    expected, _ = convert_official({key: grads[key] for key in state}, options)
    expected |= {key: grads[key] for key in given}
    for key, grad in zip([*own, *given], got, strict=True):
        torch.testing.assert_close(
            grad, expected[key], rtol=1e-7, atol=1e-8, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("name", [name for name, case in ALL.items() if case.cls != "HopfieldLayer"])
def test_projected_values(name):
    cls, options, state, inputs = _drawn(name)
    wanted = slow(cls, options, state, inputs).projected
    module = _built(cls, options, state)
    values = inputs.get("projection", inputs.get("stored", inputs.get("x")))
    layer = module.hopfield if cls == "HopfieldPooling" else module
    torch.testing.assert_close(layer.projected_values(values), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_there_and_back(name):
    """Our state dict in the authors' layout again, but for what they never read."""
    _, options, state, _ = _drawn(name)
    new, notes = convert_official(state, options)
    packed = any(key.endswith("in_proj_weight") for key in state)
    sizes = Options(**options)
    back = export_official(new, packed=packed, read=sizes.heads * (sizes.read or 0))
    assert back.keys() == state.keys()
    again, _ = convert_official(back, options)
    assert again.keys() == new.keys()
    for key, value in new.items():
        assert torch.equal(again[key], value), key
    unread = any("dropped the last" in note for note in notes)
    for key, value in state.items():
        if not (unread and key.endswith("in_proj_bias")):
            assert torch.equal(back[key], value), key
        assert back[key].shape == value.shape
