"""What users do with modules of their own, and with compositions that they load and compose again."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.errors import UnsupportedSurgery


class GeneralisedMean(nn.Module):
    """A pool with a parameter."""

    def __init__(self, dim: int, p: float = 3.0, device=None, dtype=None):
        super().__init__()
        self.p = nn.Parameter(torch.full((dim,), p, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=1e-6).pow(self.p).mean(1).pow(1 / self.p)


class Square(nn.Module):
    """An activation without a constructor of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x


class OnTheProcessor(nn.Module):
    """A head with a plain tensor that stays where it was made: it cannot run on the meta device."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.scale = torch.ones(out_features, device="cpu")

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.scale


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    model = zoo.create_model("test_vit", mlp={"type": "kan", "hidden_ratio": 0.5, "where": [0, 5]}, num_classes=3)
    return f"local-dir:{zoo.save_pretrained(model, tmp_path_factory.mktemp('saved') / 'model')}", model


@pytest.mark.parametrize("base", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit"])
def test_a_pool_with_parameters(base):
    model = zoo.create_model(base, pool=GeneralisedMean, num_classes=4).eval()
    (change,) = model.zoo_composition.changes
    pool = model.get_submodule(change.path)
    x = torch.rand(2, *zoo.data_config(model)["input_size"])
    with torch.no_grad():
        features = model.forward_features(x)
        tokens = features[:, 1:] if features.ndim == 3 else features.flatten(2).mT
        wanted = tokens.clamp(min=1e-6).pow(3).mean(1).pow(1 / 3)
        seen = []
        pool.register_forward_hook(lambda module, args, out: seen.append(out.flatten(1)))
        model(x)
    torch.testing.assert_close(seen[0], wanted)


def test_modules_that_know_no_device():
    model = zoo.create_model("test_resnet", act=Square, head=OnTheProcessor, num_classes=4).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pooled = model.forward_head(model.forward_features(x), pre_logits=True)
        torch.testing.assert_close(model(x), model.fc.linear(pooled))


def test_a_module_that_does_not_fit_is_refused_though_it_cannot_be_tried_without_memory():
    class Wide(OnTheProcessor):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((super().forward(x), super().forward(x)), -1)

    with pytest.raises(UnsupportedSurgery, match=r"gives \(2, 8\), where \(2, 4\) is expected"):
        zoo.create_model("test_resnet", head=Wide, num_classes=4)


def test_places_of_a_loaded_composition_are_those_of_its_spec(saved):
    name, _ = saved
    model = zoo.create_model(name, act={"type": "silu", "where": 1})
    changed = {c.path for c in model.zoo_composition.changes if c.slot == "act"}
    again = zoo.compose(model.zoo_spec)
    assert changed == {c.path for c in again.zoo_composition.changes if c.slot == "act"} == {"blocks.1.mlp.act"}
    again.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), model.eval()(x))
    for where in ("first:2", [0], -1):
        with pytest.raises(UnsupportedSurgery, match=r"inside of what mlp=KANMlp replaces"):
            zoo.create_model(name, act={"type": "silu", "where": where})
    rest = zoo.create_model(name, act="silu")
    assert rest.zoo_composition.left == dict.fromkeys(
        ("blocks.0.mlp.act", "blocks.5.mlp.act"), "it is inside of what mlp=KANMlp replaces"
    )


def test_what_was_loaded_is_not_called_new(saved):
    name, before = saved
    model = zoo.create_model(name, head="kan")
    assert torch.equal(model.blocks[0].mlp.layers[0].weight, before.blocks[0].mlp.layers[0].weight)
    inits = {c.slot: c.init for c in model.zoo_composition.changes}
    assert inits == {"mlp": "loaded", "head": "match"}
    assert "as it was loaded" in str(zoo.summary(model))
    assert str(zoo.summary(zoo.create_model(name))).count("as it was loaded") == 1


def test_a_position_bias_that_is_lost_is_told():
    text = str(zoo.summary(zoo.create_model("test_vit_relpos", mixer="attention")))
    assert "lost        blocks.0.attn and 8 more: the position bias that was inside" in text
    assert "lost" not in str(zoo.summary(zoo.create_model("test_vit", mixer="attention")))


def test_a_class_that_is_registered_later_gets_its_name(monkeypatch):
    registry = zoo.registry.default_registry()
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))  # others list what is registered

    class Later(nn.Linear):
        pass

    model = zoo.create_model("test_resnet", head=Later, num_classes=4)
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(model.zoo_spec)
    zoo.register_module("head", "later")(Later)
    assert model.zoo_spec["head"] == {"type": "later"}


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        (torch.full((2, 3, 160, 160), torch.nan), ValueError, "not finite"),
        ([], ValueError, "holds no images"),
        (torch.zeros(0, 3, 160, 160), ValueError, "holds no images"),
        (torch.zeros(2, 3, 160, 160, dtype=torch.uint8), ValueError, r"floats of shape \(n, 3, 160, 160\), got uint8"),
        (torch.zeros(2, 1, 160, 160), ValueError, r"got float32 of shape \(2, 1, 160, 160\)"),
        ("my_images", TypeError, "got 'my_images'"),
        ([None], TypeError, "got a NoneType"),
    ],
)
def test_images_for_copies_are_checked(saved, batches, error, message):
    with pytest.raises(error, match=message):
        zoo.create_model(saved[0], head="linear", init_batches=batches)


def test_images_for_copies_without_parts_are_refused():
    with pytest.raises(ValueError, match="none is given"):
        zoo.create_model("test_vit", init_batches=torch.zeros(2, 3, 160, 160))


def test_a_spec_in_a_file(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text('{"base": "test_resnet", "head": "kan", "num_classes": 3}')
    assert zoo.compose(path).zoo_spec == zoo.compose(str(path)).zoo_spec
    assert zoo.compose(path, num_classes=4).num_classes == 4
    path.write_text("{")
    with pytest.raises(zoo.errors.ConfigError, match=r"spec.json is not valid JSON"):
        zoo.compose(path)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nothing.json"):
        zoo.compose(tmp_path / "nothing.json")
