"""The layer that can be explained is found, or what is there instead is told; so is what it is given and takes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from zoo import explain
from zoo.layers.hopfield import (
    Hopfield,
    HopfieldEncoderLayer,
    HopfieldLayer,
    HopfieldLookupHead,
    HopfieldPooling,
    HopfieldSelfAssociation,
)
from zoo.layers.hopfield.memory import HopfieldMemory
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


class _Idle(nn.Module):
    """Has a layer that it never calls."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_layer_that_is_not_called() -> None:
    with pytest.raises(ValueError, match="does not call its TverskyProjection"):
        explain.layer_inputs(_Idle(TverskyProjection(4, 2)), torch.zeros(1, 4))


class _Sets(nn.Module):
    """A linear layer, an association that is asked with keywords, and pooling."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5))
        self.mix = Hopfield(8, num_heads=2)
        self.pool = HopfieldPooling(8, num_heads=2, beta=3.0)

    def forward(self, x: torch.Tensor, padding_mask: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        return self.pool(self.mix(x, padding_mask=padding_mask), padding_mask)


def test_finds_the_layer_that_associates() -> None:
    pool = HopfieldPooling(4)
    assert explain.hopfield_layer(pool) is pool  # and not the association in it
    assert explain.hopfield_layer(nn.Sequential(nn.Linear(4, 4), pool)) is pool
    lookup = HopfieldLookupHead(4, 2)
    assert explain.hopfield_layer(lookup) is lookup.lookup
    encoder = HopfieldEncoderLayer(Hopfield(4))
    assert explain.hopfield_layer(encoder) is encoder.association
    model = _Sets()
    with pytest.raises(ValueError, match="has 2 Hopfield layers; name one of 'mix', 'pool'"):
        explain.hopfield_layer(model)
    assert explain.hopfield_layer(model, "pool") is model.pool
    with pytest.raises(ValueError, match="'pol' is no Hopfield layer of the model; did you mean 'pool'"):
        explain.hopfield_layer(model, "pol")
    with pytest.raises(ValueError, match=r"Linear has no Hopfield layer; its layers are Linear \(1\)"):
        explain.hopfield_layer(nn.Linear(2, 2))


def test_association_of_a_layer_within_a_model() -> None:
    model, x = _Sets().train(), torch.randn(3, 6, 5)
    mask = torch.arange(6) >= torch.tensor([[6], [4], [1]])
    got = explain.layer_association(model, x, mask, name="pool")
    assert model.training
    assert not got.requires_grad
    assert got.shape == (3, 2, 1, 6)
    model.eval()
    inside = model.mix(model.embed(x), padding_mask=mask)
    torch.testing.assert_close(got, model.pool.association(inside, mask).detach())
    assert bool((got[1, ..., 4:] == 0).all())
    own = explain.layer_association(model, x, padding_mask=mask, name="mix")
    torch.testing.assert_close(own, model.mix.association(model.embed(x), padding_mask=mask).detach())
    assert "associate_heads" not in vars(model.pool.hopfield)
    assert not any(module._forward_hooks for module in model.modules())


def test_association_of_what_tells_it_itself() -> None:
    torch.manual_seed(0)
    layer, x = HopfieldLayer(4, quantity=5, dropout=0.5), torch.randn(2, 3, 4)
    torch.testing.assert_close(explain.layer_association(layer, x), layer.association(x).detach())
    memory = HopfieldMemory(4)
    memory.add(torch.randn(6, 4))
    torch.testing.assert_close(explain.layer_association(memory, x), memory.association(x))
    encoder = HopfieldEncoderLayer(Hopfield(4))  # its `association` is a layer, not what the layer tells
    torch.testing.assert_close(explain.layer_association(encoder, x), encoder.association.association(x).detach())


def test_association_in_backbones() -> None:
    torch.manual_seed(0)
    model = zoo.create_model("vit_tiny_patch16_224", mixer="hopfield", img_size=32, depth=2, num_classes=2).eval()
    x = torch.randn(2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"has 2 Hopfield layers; name one of 'blocks\.0\.attn', 'blocks\.1\.attn'"):
        explain.layer_association(model, x)
    layer = explain.hopfield_layer(model, "blocks.1.attn")
    assert isinstance(layer, HopfieldSelfAssociation)
    given: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    weights = explain.layer_association(model, x, name="blocks.1.attn")
    hook.remove()
    q, k, _ = layer.hopfield.project(given[0], given[0], given[0])
    torch.testing.assert_close(weights, (q @ k.transpose(-1, -2) / 64**0.5).softmax(-1).detach())

    model = zoo.create_model("resnet18", pool="hopfield", num_classes=2).eval()
    weights = explain.layer_association(model, torch.randn(1, 3, 96, 64))
    assert weights.shape == (1, 1, 1, 6)  # 3 x 2 places of the last map
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 1, 1))


def test_an_association_that_is_not_made() -> None:
    with pytest.raises(ValueError, match="does not call its Hopfield layer"):
        explain.layer_association(_Idle(HopfieldPooling(4)), torch.zeros(1))
    names = ("norm_stored", "norm_value", "project_stored", "project_value")
    bare, x = HopfieldPooling(4, **dict.fromkeys(names, False)), torch.randn(1, 300_000, 4)
    with pytest.raises(ValueError, match="only its own `association` tells"):
        explain.layer_association(nn.Sequential(bare), x)
    torch.testing.assert_close(explain.layer_association(bare, x), bare.association(x).detach())
