"""The layer that can be explained is found, or what is there instead is told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo import explain
from zoo.layers.tversky import TverskyProjection


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), TverskyProjection(8, 3, 5))


def test_finds_the_layer() -> None:
    model = _model()
    assert explain.tversky_layer(model) is model[3]
    assert explain.tversky_layer(model[3]) is model[3]
    assert explain.tversky_layer(model, "3") is model[3]


def test_tells_what_is_there() -> None:
    with pytest.raises(
        ValueError, match=r"Sequential has no TverskyProjection; its layers are Linear \(2\), ReLU \(1\)"
    ):
        explain.tversky_layer(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
    two = nn.ModuleDict({"proj": TverskyProjection(4, 4), "head": TverskyProjection(4, 2)})
    with pytest.raises(ValueError, match="has 2 TverskyProjections; name one of 'proj', 'head'"):
        explain.tversky_layer(two)
    assert explain.tversky_layer(two, "head") is two["head"]
    with pytest.raises(ValueError, match="'haed' is no TverskyProjection of the model; did you mean 'head'"):
        explain.tversky_layer(two, "haed")


def test_inputs_of_the_layer_are_those_of_evaluation() -> None:
    model = _model().train()
    x = torch.randn(7, 6)
    before = model[1].running_mean.clone()
    got = explain.layer_inputs(model, x)
    assert model.training
    assert torch.equal(model[1].running_mean, before)
    assert not got.requires_grad
    model.eval()
    torch.testing.assert_close(got, model[:3](x))
    torch.testing.assert_close(model[3](got), model(x))
    assert not model[3]._forward_pre_hooks


def test_a_layer_that_is_not_called() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = TverskyProjection(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.raises(ValueError, match="does not call its TverskyProjection"):
        explain.layer_inputs(Idle(), torch.zeros(1, 4))
