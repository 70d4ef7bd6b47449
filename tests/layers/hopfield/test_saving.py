"""Models composed with Hopfield parts are saved with every option and loaded as they were."""

from __future__ import annotations

import json
import math

import pytest
import torch

import zoo
from zoo.layers.hopfield import HopfieldPooling

_POOL = {
    "type": "hopfield", "quantity": 4, "reduce": "concat", "num_heads": 2, "head_dim": 16, "association": "entmax",
    "alpha": [1.0, 1.3], "beta": [0.5, 2.0], "norm_stored": {"affine": False, "eps": 1e-3}, "num_updates": [1, 3],
    "tol": [0.1, 0.2], "activation": "gelu", "zero_pattern": True,
}  # fmt: skip
_MIXER = {
    "type": "hopfield", "num_updates": 2, "association": "entmax", "learn_alpha": True, "learn_beta": True,
    "bias_pattern": True, "norm_association": {"affine": True},
}  # fmt: skip
_VIT = {"img_size": 32, "depth": 3}
CASES = {
    "pool": ("resnet18", {"pool": {"type": "hopfield", "quantity": 4}}),
    "pool and head": (
        "resnet18",
        {"pool": _POOL, "head": {"type": "hopfield_lookup", "num_updates": 2, "quantity": 20}},
    ),
    "all": ("vit_tiny_patch16_224", {**_VIT, "mixer": _MIXER, "pool": _POOL, "head": "hopfield_lookup"}),
    "mixer": (
        "vit_tiny_patch16_224",
        {
            **_VIT,
            "mixer": {"type": "hopfield", "num_updates": 3, "tol": 0.01, "stop": "state", "post": "l2", "beta": 2.0},
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_there_and_back(name, tmp_path):
    base, parts = CASES[name]
    torch.manual_seed(0)
    model = zoo.create_model(base, num_classes=5, **parts).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + torch.rand_like(parameter) / 8)
        x = torch.randn(2, 3, 32, 32)
        wanted = model(x)
        zoo.save_pretrained(model, tmp_path)
        again = zoo.from_pretrained(tmp_path).eval()
        assert torch.equal(again(x), wanted)
    saved = json.loads((tmp_path / "config.json").read_text())["model_args"]
    for part, options in parts.items():
        if isinstance(options, dict):
            assert saved[part] == options
    assert again.state_dict().keys() == model.state_dict().keys()
    learned = [key for key in again.state_dict() if key.endswith("log_beta")]
    assert bool(learned) == (name != "pool" and name != "mixer")


def test_a_fixed_beta_is_rounded_in_the_dtype_asked_for():
    layer = HopfieldPooling(24).double()
    assert layer.hopfield.beta.item() == 1 / math.sqrt(24)
    layer.hopfield.beta.fill_(2.0)
    assert layer.float().hopfield.beta.item() == 2.0
