"""Official Hopfield checkpoints in our layout and back, and the authors' options in our words."""

from __future__ import annotations

import pytest
import torch

from tests.layers.hopfield.goldens import NAMES, golden
from zoo.errors import ConversionError
from zoo.layers.hopfield import Hopfield, HopfieldPooling
from zoo.weights.converters.hopfield import convert_official, export_official, from_official_options


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name):
    case = golden(name)
    state = case.state()
    new, notes = convert_official(state)
    assert new.keys() == case.build().state_dict().keys()
    connected = case.meta["kwargs"].get("pattern_projection_as_connected", False)
    back = export_official(new, packed=False if connected else None)
    assert back.keys() == state.keys()
    for key, value in state.items():
        if key.endswith("in_proj_bias") and "dropped" in " ".join(notes):
            value = torch.cat([value[:10], torch.zeros(len(value) - 10)])
        assert torch.equal(back[key], value), key
    again, _ = convert_official(back)
    assert all(torch.equal(again[key], value) for key, value in new.items())


@pytest.mark.parametrize(
    "static",
    [
        ("state_pattern",),
        ("stored_pattern",),
        ("pattern_projection",),
        ("state_pattern", "stored_pattern"),
        ("stored_pattern", "pattern_projection"),
    ],
)
def test_static_inputs_are_told_by_missing_norms_or_by_the_options(static):
    parts = [name for name in ("state_pattern", "stored_pattern", "pattern_projection") if name not in static]
    dead = "pattern_projection" in static
    state = {
        "association_core.in_proj_weight": torch.randn(4 * len(parts), 4),
        "association_core.in_proj_bias": torch.randn(4 * (len(parts) + dead)),
        "association_core.out_proj.weight": torch.randn(4, 4),
        "association_core.out_proj.bias": torch.randn(4),
    }
    norms = {f"norm_{name}.{end}": torch.ones(4) for name in parts for end in ("weight", "bias")}
    kwargs = {"input_size": 4, **{f"{name}_as_static": True for name in static}}
    kwargs |= {f"normalize_{name}": False for name in static}
    new, notes = convert_official({**state, **norms})
    Hopfield(**from_official_options(**kwargs)).load_state_dict(new)
    assert len(notes) == dead
    by_options, _ = convert_official({**state, **norms}, kwargs)
    assert by_options.keys() == new.keys()
    assert all(torch.equal(by_options[key], value) for key, value in new.items())
    ours = {"state_pattern": "state", "stored_pattern": "stored", "pattern_projection": "value"}
    for index, name in enumerate(parts):
        weight = state["association_core.in_proj_weight"][4 * index : 4 * index + 4]
        assert torch.equal(new[f"proj_{ours[name]}.weight"], weight)
        assert torch.equal(new[f"proj_{ours[name]}.bias"], state["association_core.in_proj_bias"][4 * index :][:4])


def test_what_cannot_be_told_is_asked_for():
    state = {
        "association_core.in_proj_weight": torch.randn(8, 4),
        "association_core.in_proj_bias": torch.randn(8),
        "association_core.out_proj.weight": torch.randn(4, 4),
    }
    with pytest.raises(ConversionError, match=r"holds 2 projections.*pass the options"):
        convert_official(state)
    new, _ = convert_official(state, {"state_pattern_as_static": True})
    assert sorted(key for key in new if key.endswith("weight")) == [
        "out_proj.weight",
        "proj_stored.weight",
        "proj_value.weight",
    ]


def test_the_bias_pattern_that_had_no_effect_is_left_out():
    case = golden("hopfield_default")
    dead = {"association_core.bias_k": torch.randn(1, 1, 16), "association_core.bias_v": torch.randn(1, 1, 16)}
    new, notes = convert_official({**case.state(), **dead})
    assert new.keys() == convert_official(case.state())[0].keys()
    assert "bias_k, association_core.bias_v: the option concat_bias_pattern had no effect" in notes[0]
    assert "bias_pattern" not in from_official_options(input_size=16, concat_bias_pattern=True)


def test_other_checkpoints_are_refused():
    with pytest.raises(
        ConversionError, match=r"2 of 2 names are not those of a Hopfield layer: conv\.weight, fc\.bias"
    ):
        convert_official({"conv.weight": torch.zeros(1), "fc.bias": torch.zeros(1)})
    with pytest.raises(ConversionError, match=r"no place for inverse_temperature\.log_beta"):
        export_official(Hopfield(4, learn_beta=True).state_dict())
    with pytest.raises(ConversionError, match="do not fit into one matrix"):
        export_official(Hopfield(4, stored_dim=3, value_in_dim=3).state_dict(), packed=True)


def test_converted_tensors_share_no_memory():
    new, _ = convert_official(golden("hopfield_default").state())
    weights = [new[f"proj_{name}.weight"] for name in ("state", "stored", "value")]
    assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 3


def test_options():
    found = from_official_options(
        input_size=12,
        num_heads=3,
        update_steps_max=torch.tensor([0, 2, 7]),
        update_steps_eps=0.5,
        scaling=torch.tensor([0.5, 1.0, 2.0]),
        normalize_state_pattern=False,
        normalize_pattern_projection_eps=0.01,
        disable_out_projection=True,
        output_size=5,
    )
    assert found == {
        "dim": 12,
        "num_heads": 3,
        "head_dim": 4,
        "num_updates": [1, 3, 8],
        "tol": 0.5,
        "beta": [0.5, 1.0, 2.0],
        "norm_state": False,
        "norm_value": {"affine": True, "eps": 0.01},
        "norm_association": False,
        "project_out": False,
    }
    assert from_official_options(input_size=4, update_steps_max=None)["num_updates"] is None
    assert from_official_options(input_size=4, update_steps_max=-1)["num_updates"] is None
    for wrong in (2.5, [1, -1]):
        with pytest.raises(ValueError, match="update_steps_max must"):
            from_official_options(input_size=4, update_steps_max=wrong)
    assert "empty" in convert_official({})[1][0]
    pool = HopfieldPooling(**from_official_options("HopfieldPooling", input_size=4, quantity=3))
    assert pool(torch.zeros(2, 5, 4)).shape == (2, 12)


def test_options_that_do_not_exist_or_contradict():
    with pytest.raises(ValueError, match="did you mean 'scaling'"):
        from_official_options(scalling=1.0)
    with pytest.raises(ValueError, match="did you mean 'HopfieldPooling'"):
        from_official_options("HopfieldPool")
    with pytest.raises(ValueError, match="num_heads must divide input_size unless hidden_size is given, got 6 and 4"):
        from_official_options(input_size=6, num_heads=4)
    with pytest.raises(ValueError, match="normalize_state_pattern_affine=True needs normalize_state_pattern=True"):
        from_official_options(normalize_state_pattern=False, normalize_state_pattern_affine=True)
