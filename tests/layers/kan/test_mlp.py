"""Two KAN layers in the place of a perceptron: what they compute, what they cost, what they copy."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Mlp
from torch import nn

import zoo
from zoo.layers.kan import KANHead, KANMlp


def test_is_two_layers():
    torch.manual_seed(0)
    mlp = KANMlp(6, 5, 4).eval()
    first, second = KANHead(6, 5), KANHead(5, 4)
    first.load_state_dict(mlp.layers[0].state_dict())
    second.load_state_dict(mlp.layers[1].state_dict())
    x = torch.randn(2, 3, 6)
    assert torch.equal(mlp(x), second(first(x)))


def test_widths_are_those_of_a_perceptron():
    assert KANMlp(6).sizes == [6, 6, 6]
    assert KANMlp(6, 5).sizes == [6, 5, 6]
    mlp = zoo.create_module("mlp/kan", 6, 5, 4, act_layer=nn.ReLU, basis="bspline", grid_size=3, spline_order=2)
    assert mlp.sizes == [6, 5, 4]
    assert [layer.weight.shape for layer in mlp.layers] == [(5, 6, 5), (4, 5, 5)]
    assert mlp.hidden_features == 5


def test_drops_after_each_layer_in_training():
    torch.manual_seed(0)
    mlp, x = KANMlp(6, 64, drop=0.5), torch.randn(100, 6)
    seen = []
    mlp.layers[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    y = mlp(x)
    for values in (seen[0], y):
        assert 0.4 < float((values == 0).float().mean()) < 0.6
    mlp.eval()
    assert torch.equal(mlp(x), mlp(x))


def test_has_nine_times_the_parameters():
    """Of the same hidden width; `hidden_ratio` of a composition makes it as narrow as asked for."""
    size = {"embed_dim": 48, "num_heads": 3, "depth": 2, "img_size": 32, "num_classes": 5}
    report = zoo.summary(zoo.create_model("vit_tiny_patch16_224", mlp="kan", **size))
    (change, _) = report.changes
    assert (change.old_params, change.new_params) == (2 * 48 * 192 + 240, 2 * 48 * 192 * 9 + 240 + 2 * 240)
    assert 8.9 < change.new_params / change.old_params < 9
    assert f"{2 * change.old_params:,} → {2 * change.new_params:,}" in str(report)
    narrow = zoo.summary(zoo.create_model("vit_tiny_patch16_224", mlp={"type": "kan", "hidden_ratio": 4 / 9}, **size))
    assert 0.95 < narrow.changes[0].new_params / change.old_params < 1.05
    assert 0.9 < narrow.macs / narrow.base_macs < 1.1


@pytest.mark.parametrize("basis", ["gaussian", "bspline", "switch", "chebyshev"])
def test_copies_a_perceptron(basis):
    torch.manual_seed(0)
    reference, mlp = Mlp(32, 128), KANMlp(32, 128, basis=basis)
    x, held_out = torch.randn(1500, 32), torch.randn(300, 32)
    assert mlp.imitate(reference, x)
    with torch.no_grad():
        wanted, got = reference(held_out), mlp.eval()(held_out)
    assert float((got - wanted).norm() / (wanted - wanted.mean(0)).norm()) < 0.25


def test_refusals():
    with pytest.raises(ValueError, match=r"basis must be one of .*did you mean 'bspline'"):
        KANMlp(6, basis="bsplines")
    with pytest.raises(ValueError, match="in_features = 1 needs norm=None"):
        KANMlp(6, 1)
    with pytest.raises(ValueError, match="must be an integer of at least 1, got 0"):
        KANMlp(6, 0)
