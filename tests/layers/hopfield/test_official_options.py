"""Every option of the authors' layers, alone and with others, against a slow computation from their names and options.

Parameters in the authors' layout are drawn, converted and loaded; outputs, associations, projected values, evaluations
and gradients are compared in float64.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.layers.hopfield.official_cases import CASES, drawn_case
from tests.layers.hopfield.official_layers import built, check, drawn
from tests.layers.hopfield.slow import Options, slow
from zoo.errors import ConversionError
from zoo.layers.hopfield import absorbed
from zoo.weights.converters.hopfield import convert_official, export_official

ALL = {**CASES, **{f"random {seed}": drawn_case(seed) for seed in range(60)}}
_LATE = {f"random {seed}" for seed in range(30, 60)}


def _some(*classes: str) -> list[Any]:
    """Names of the cases of some classes, the later random ones for long runs."""
    names = [name for name, case in ALL.items() if case.cls in classes]
    return [pytest.param(name, marks=pytest.mark.slow) if name in _LATE else name for name in names]


@pytest.mark.parametrize("name", _some("Hopfield", "HopfieldPooling", "HopfieldLayer"))
def test_equals_the_slow_layer(name):
    check(ALL[name])


@pytest.mark.parametrize("name", _some("HopfieldPooling"))
def test_pooling_without_projections_equals_the_slow_layer(name, monkeypatch):
    monkeypatch.setattr(absorbed, "_WORTH", -(2**60))
    check(ALL[name])


@pytest.mark.parametrize("name", _some("Hopfield", "HopfieldPooling"))
def test_projected_values(name):
    case = ALL[name]
    state, inputs = drawn(case)
    wanted = slow(case.cls, case.options, state, inputs).projected
    module = built(case, state)
    values = inputs.get("projection", inputs.get("stored", inputs.get("x")))
    layer = module.hopfield if case.cls == "HopfieldPooling" else module
    torch.testing.assert_close(layer.projected_values(values), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_there_and_back(name):
    """Our state dict in the authors' layout again, but for what they never read."""
    options, (state, _) = ALL[name].options, drawn(ALL[name])
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


@pytest.mark.parametrize("name", ALL)
def test_a_state_dict_alone_tells_all_or_says_that_it_does_not(name):
    state, _ = drawn(ALL[name])
    wanted, _ = convert_official(state, ALL[name].options)
    try:
        found, notes = convert_official(state)
    except ConversionError:
        return
    if not any("nothing says" in note for note in notes):
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], value) for key, value in wanted.items())
