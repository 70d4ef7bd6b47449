"""What a lookup layer keeps of its patterns."""

from __future__ import annotations

import copy

import pytest
import torch

from zoo.layers.hopfield import HopfieldLayer


def _layer() -> HopfieldLayer:
    torch.manual_seed(0)
    options = {"separate_targets": True, "bias_pattern": True, "norm_association": {"affine": True}}
    layer = HopfieldLayer(8, quantity=5, num_heads=2, num_updates=2, tol=None, **options).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return layer


@torch.no_grad()
def test_patterns_are_projected_once():
    layer, x = _layer(), torch.randn(3, 4, 8)
    calls = []
    project = layer.hopfield.project_patterns
    layer.hopfield.project_patterns = lambda *given: (calls.append(True), project(*given))[1]
    first = layer(x)
    assert torch.equal(layer(x), first)
    assert len(calls) == 1
    assert torch.equal(layer.train()(x), first)
    assert len(calls) == 2


_PATTERN_SIDE = [
    "stored_patterns", "target_patterns", "hopfield.bias_stored", "hopfield.bias_value", "hopfield.norm_stored.weight",
    "hopfield.norm_value.bias", "hopfield.norm_association.weight", "hopfield.proj_stored.bias",
    "hopfield.proj_value.weight",
]  # fmt: skip


@pytest.mark.parametrize("name", _PATTERN_SIDE)
def test_a_change_is_seen(name):
    layer, x = _layer(), torch.randn(3, 4, 8)
    with torch.no_grad():
        before = layer(x)
        parameter = layer.get_parameter(name)
        parameter.add_(torch.randn_like(parameter))
        after = layer(x)
        assert not torch.allclose(after, before, atol=1e-4)
        assert torch.equal(copy.deepcopy(layer)(x), after)
    layer(x).sum().backward()
    assert parameter.grad.abs().max() > 0


def test_what_listens_to_a_projection_hears_every_call():
    layer, x = _layer(), torch.randn(3, 4, 8)
    heard = []
    layer.hopfield.proj_stored.register_forward_hook(lambda *_: heard.append(True))
    with torch.no_grad():
        layer(x), layer(x)
    assert len(heard) == 2


@pytest.mark.parametrize("mask", ["none", "padding", "states", "all"])
def test_states_of_all_samples_at_once_equal_samples_one_by_one(mask):
    layer, x = _layer(), torch.randn(3, 4, 8)
    shapes = {"padding": (3, 5), "states": (4, 5), "all": (6, 4, 5)}
    given = torch.rand(shapes[mask]) < 0.4 if mask in shapes else None
    if mask == "padding":
        one = [{"padding_mask": given[i : i + 1]} for i in range(3)]
    else:
        one = [{"association_mask": given[2 * i : 2 * i + 2] if mask == "all" else given} for i in range(3)]
    whole = layer(x, **{"padding_mask" if mask == "padding" else "association_mask": given})
    torch.testing.assert_close(whole, torch.cat([layer(x[i : i + 1], **one[i]) for i in range(3)]))
