"""Inputs that are one tensor, normed once and projected by one product."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.layers.hopfield import Hopfield

_NORMS = ("norm_stored", "norm_state", "norm_value")
_OPTIONS = {
    "plain": {},
    "no biases": {"bias": False},
    "no norms": dict.fromkeys(_NORMS, False),
    "no scale and shift of one": {"norm_value": {"affine": False}},
    "another epsilon": {"norm_value": {"eps": 1e-2}},
    "no shift at all": {"bias": False, **{name: {"affine": False} for name in _NORMS}},
    "values as they are": {"project_value": False, "value_dim": 8},
    "connected": {"connect_values": True, "norm_association": True, "zero_pattern": True, "bias_pattern": True},
}


def _layer(**options) -> Hopfield:
    torch.manual_seed(0)
    layer = Hopfield(8, num_heads=2, num_updates=2, tol=None, **options, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return layer


@pytest.mark.parametrize("options", _OPTIONS.values(), ids=_OPTIONS)
@pytest.mark.parametrize("alike", [("state", "values"), ("values",), ("state",)])
def test_one_tensor_as_three(options, alike):
    """Not told that they are the same, the layer projects each by itself."""
    layer = _layer(**options)
    stored = torch.randn(2, 9, 8, dtype=torch.float64)
    others = {
        name: None if name in alike else torch.randn(2, 9, 8, dtype=torch.float64) for name in ("state", "values")
    }
    apart = {name: stored.clone() if other is None else other for name, other in others.items()}
    found, wanted = layer(stored, **others), layer(stored, **apart)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    parameters = [p for p in layer.parameters() if p.requires_grad]
    cotangent = torch.randn_like(wanted)
    gradients = [torch.autograd.grad(x, parameters, cotangent, allow_unused=True) for x in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


class _Doubled(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


def test_what_stands_in_for_a_projection_is_called():
    layer, x = _layer(), torch.randn(2, 9, 8, dtype=torch.float64)
    other = _Doubled(8, 8, dtype=torch.float64)
    other.load_state_dict(layer.proj_value.state_dict())
    layer.proj_value = other
    torch.testing.assert_close(layer.projected_values(x), layer.project(x, x, x)[2])
    heard = []
    layer.proj_stored.register_forward_hook(lambda *_: heard.append(True))
    layer(x)
    assert heard
