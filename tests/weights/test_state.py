"""State dicts as they are found in the wild."""

import pytest
import torch

from zoo.errors import WeightsError
from zoo.weights.state import rename_keys, unwrap

A, B = torch.zeros(1), torch.ones(1)


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ({"w": A}, A),
        ({"state_dict": {"w": A}, "epoch": 3}, A),
        ({"model": {"w": A}, "optimizer": {}}, A),
        ({"model": {"w": A}, "state_dict": {"w": B}}, B),
        ({"state_dict": {"w": A}, "state_dict_ema": {"w": B}}, B),
        ({"model": {"w": A}, "model_ema": {"w": B}}, B),
        ({"state_dict": {"w": A}, "model_ema": None}, A),
        ({"module.w": A}, A),
        ({"_orig_mod.module.w": A}, A),
        ({"module._orig_mod.w": A}, A),
        ({"model": {"_orig_mod.w": A}}, A),
    ],
)
def test_containers_are_opened_in_timm_s_order_and_wrappers_stripped(checkpoint, expected):
    state = unwrap(checkpoint, "x")
    assert list(state) == ["w"]
    assert state["w"] is expected


def test_without_ema_the_trained_weights_are_taken():
    assert unwrap({"state_dict": {"w": A}, "state_dict_ema": {"w": B}}, "x", use_ema=False)["w"] is A


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        ([A], "holds a list"),
        ({"net": {"w": A}, "epoch": 1}, r"'net' \(dict\), 'epoch' \(int\)"),
        ({"module.w": A, "w": B}, "both be named 'w'"),
    ],
)
def test_what_is_no_state_dict_is_told(checkpoint, said):
    with pytest.raises(WeightsError, match=said) as caught:
        unwrap(checkpoint, "last.pth")
    assert "last.pth" in str(caught.value)


def test_rename_rules_apply_in_order():
    state = {"encoder.layer1.w": A, "head.w": B}
    rules = [(r"^encoder\.", ""), (r"layer(\d+)", r"stages.\1")]
    assert list(rename_keys(state, rules, "x")) == ["stages.1.w", "head.w"]


def test_rename_refuses_collisions_and_malformed_rules():
    with pytest.raises(WeightsError, match="both be named 'w'"):
        rename_keys({"a.w": A, "b.w": B}, [(r"^[ab]\.", "")], "x")
    with pytest.raises(ValueError, match="pairs"):
        rename_keys({"w": A}, ["abc"], "x")
    with pytest.raises(ValueError, match="pairs"):
        rename_keys({"w": A}, [("(", "")], "x")
