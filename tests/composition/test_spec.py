"""A composition in words: its forms, and the one form that they become."""

from __future__ import annotations

import itertools
import json
from functools import partial

import pytest
import torch
from timm.layers import Mlp
from torch import nn

import zoo
from tests.composition.helpers import Doubled, Sines, build, registered
from zoo.composition import Choice, Spec, flat_spec
from zoo.composition.spec import resolve_options
from zoo.errors import ConfigError, UnknownModuleError
from zoo.layers.kan import KANHead


@pytest.mark.parametrize(
    ("slot", "given", "words"),
    [
        ("head", "kan", {"type": "kan"}),
        ("head", "head/kan", {"type": "kan"}),
        ("head", {"type": "kan", "grid_size": 5}, {"type": "kan", "grid_size": 5}),
        ("head", {"grid_range": (-1.0, 1.0), "type": "head/kan"}, {"type": "kan", "grid_range": [-1.0, 1.0]}),
        ("head", KANHead, {"type": "kan"}),
        ("head", {"type": KANHead, "bias": False}, {"type": "kan", "bias": False}),
        ("mlp", {"type": "kan", "where": -1}, {"type": "kan", "where": [-1]}),
        ("mlp", {"type": "kan", "where": "all"}, {"type": "kan"}),
        ("mlp", {"type": "kan", "where": "last:2", "init": "own"}, {"type": "kan", "where": "last:2", "init": "own"}),
        ("head", {"init": "uniform", "type": "tversky"}, {"type": "tversky", "init": "uniform"}),
        ("head", {"type": "tversky", "init": "own"}, {"type": "tversky", "init": "own"}),
        ("act", {"type": "prelu", "init": 0.5}, {"type": "prelu", "init": 0.5}),
        ("mlp", {"type": "mlp", "hidden_ratio": 2}, {"type": "mlp", "hidden_ratio": 2}),
        (
            "mlp",
            {"type": "mlp", "act_layer": {"type": "act/silu", "inplace": False}},
            {"type": "mlp", "act_layer": {"type": "act/silu", "inplace": False}},
        ),
    ],
)
def test_every_form_becomes_one(slot, given, words):
    choice = Choice.of(slot, given)
    assert choice.to_dict() == words
    assert json.loads(json.dumps(choice.to_dict())) == words
    assert Choice.of(slot, words) == choice
    assert Choice.of(slot, choice) == choice


def test_a_class_without_a_name_stays_a_class():
    assert Choice.of("mlp", Doubled).to_dict() == {"type": Doubled}
    some = partial(Mlp, bias=False)
    assert Choice.of("mlp", {"type": some, "where": [0]}).to_dict() == {"type": some, "where": [0]}


def test_a_class_that_is_registered_later_is_known_by_its_name():
    with registered("mlp", "doubled", Doubled):
        assert Choice.of("mlp", Doubled).to_dict() == {"type": "doubled"}


def test_a_circuit_goes_in_the_place_of_a_head_under_its_own_kind():
    with registered("circuit", "sines", Sines):
        assert Choice.of("head", "circuit/sines").to_dict() == {"type": "circuit/sines"}
        assert Choice.of("head", Sines).to_dict() == {"type": "circuit/sines"}
        with pytest.raises(UnknownModuleError, match="cannot go in the place of a mixer"):
            Choice.of("mixer", "circuit/sines")
        model = build("test_resnet", head={"type": "circuit/sines", "depth": 2}, num_classes=7)
        assert model.zoo_spec["head"] == {"type": "circuit/sines", "depth": 2}
        assert (model.fc.weight.shape, type(model.fc).__name__) == ((7, 96), "Sines")


@pytest.mark.parametrize(("base", "shape"), [("test_vit", (2, 5, 64)), ("test_convnext", (2, 3, 4, 24))])
def test_a_circuit_takes_the_place_of_an_mlp_row_by_row(base, shape):
    class Rows(Sines):
        def forward(self, x):
            assert x.ndim == 2
            return super().forward(x)

    with registered("circuit", "rows", Rows):
        model = build(base, mlp="circuit/rows", num_classes=3).eval()
        part = next(m for m in model.modules() if isinstance(m, Rows))
        x = torch.randn(shape)
        torch.testing.assert_close(part(x), x.sin() @ part.weight.T)


def test_equal_specs_are_equal_text_whatever_the_order():
    content = {
        "base": "test_vit",
        "mlp": {"type": "kan", "where": "last:2", "grid_range": [-1.0, 1.0]},
        "head": "kan",
        "num_classes": 4,
        "img_size": 64,
    }
    texts = set()
    for order in itertools.permutations(content):
        shuffled = {k: content[k] for k in order}
        shuffled["mlp"] = dict(reversed(content["mlp"].items()))
        texts.add(json.dumps(Spec.of(shuffled).to_dict()))
    assert texts == {
        '{"base": "test_vit", "mlp": {"type": "kan", "grid_range": [-1.0, 1.0], "where": "last:2"}, '
        '"head": {"type": "kan"}, "img_size": 64, "num_classes": 4}'
    }


@pytest.mark.parametrize("slot", ["head", "act"])
def test_the_init_of_a_module_goes_to_the_module(slot, tmp_path):
    part = {"head": {"type": "tversky", "init": "orthogonal"}, "act": {"type": "prelu", "init": 0.5}}[slot]
    model = build("test_resnet", **{slot: part}, num_classes=5)
    if slot == "head":
        rows = model.fc.prototypes.weight
        gram = rows @ rows.mT
        assert torch.allclose(gram / gram[0, 0], torch.eye(5), atol=1e-5)
    else:
        acts = [m for m in model.modules() if isinstance(m, nn.PReLU)]
        assert {w for act in acts for w in act.weight.tolist()} == {0.5}
    assert model.zoo_spec[slot] == part
    assert zoo.compose(json.loads(json.dumps(model.zoo_spec))).zoo_spec == model.zoo_spec
    zoo.save_pretrained(model, tmp_path / "saved")
    again = zoo.create_model(f"local-dir:{tmp_path / 'saved'}")
    assert again.zoo_spec == model.zoo_spec
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_values_of_none_are_as_if_they_were_not_there():
    given = {"base": "resnet18", "head": None, "mlp": "mlp", "drop_rate": None}
    assert Spec.of(given).to_dict() == {"base": "resnet18", "mlp": {"type": "mlp"}}


def test_a_spec_does_not_change_with_what_it_was_read_from():
    content = {"base": "resnet18", "head": {"type": "kan", "grid_range": [-1.0, 1.0]}}
    spec = Spec.of(content)
    content["head"]["grid_range"].append(3.0)
    content["head"]["type"] = "linear"
    assert spec.to_dict() == {"base": "resnet18", "head": {"type": "kan", "grid_range": [-1.0, 1.0]}}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ConfigError, "needs a 'base'"),
        ({"bas": "resnet18"}, ConfigError, "did you mean 'bas'"),
        ({"base": ""}, ConfigError, "needs a 'base'"),
        ({"base": nn.Linear}, ConfigError, "needs a 'base'"),
        ("resnet18", TypeError, r"a spec is a mapping such as .*got 'resnet18'"),
        (
            {"base": "resnet18", "head": {"typ": "kan"}},
            ValueError,
            "has no 'type'.*did you mean 'type' where you wrote 'typ'",
        ),
        ({"base": "resnet18", "head": {}}, ValueError, "has no 'type'"),
        ({"base": "resnet18", "head": {"type": "kan", "grid_size": object()}}, TypeError, "JSON value.*object"),
        ({"base": "resnet18", "head": 3}, TypeError, r"head must be the name of a module.*got 3.*kind='head'"),
        (
            {"base": "resnet18", "head": {"type": "kan", "init": "copy"}},
            ValueError,
            "init must be 'match' or 'own', got 'copy'; head/kan has no init of its own",
        ),
        # Of tensors the shape, never the numbers.
        (
            {"base": "resnet18", "head": {"type": "tversky", "feature_bank": torch.ones(8, 512)}},
            TypeError,
            r"head.feature_bank must be a JSON value \(or a class\), got Tensor of shape \(8, 512\)$",
        ),
        (
            {"base": "resnet18", "head": {"typ": "tversky", "feature_bank": [torch.ones(8, 512)]}},
            ValueError,
            r"head=\{'typ': 'tversky', 'feature_bank': \[Tensor of shape \(8, 512\)\]\} has no 'type'",
        ),
        (
            {"base": "resnet18", "head": torch.ones(8, 512)},
            TypeError,
            r"or a class, got Tensor of shape \(8, 512\); names: ",
        ),
        (
            {"base": "resnet18", "head": {"type": "kan", "inv_width": float("nan")}},
            ValueError,
            "head.inv_width must be finite, got nan",
        ),
    ],
)
def test_what_is_no_spec_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        Spec.of(given)


def test_over_merges_parts_and_arguments_and_the_outer_one_wins():
    inner = Spec.of({"base": "test_vit", "mlp": {"type": "kan", "where": "last:2"}, "head": "kan", "num_classes": 4})
    outer = Spec.of({"base": "mine", "mlp": "mlp", "pool": "avg", "num_classes": 9, "img_size": 64})
    assert outer.over(inner).to_dict() == {
        "base": "test_vit",
        "mlp": {"type": "mlp"},
        "pool": {"type": "avg"},
        "head": {"type": "kan"},
        "img_size": 64,
        "num_classes": 9,
    }


def test_over_refuses_to_mix_two_modules_of_a_kind():
    inner = Spec.of({"base": "test_vit", "mlp": {"type": "kan", "where": "last:2"}})
    same = Spec.of({"base": "mine", "mlp": {"type": "mlp", "where": "last:2"}})
    assert same.over(inner).to_dict()["mlp"] == {"type": "mlp", "where": "last:2"}
    other = Spec.of({"base": "mine", "mlp": {"type": "mlp", "where": "first:1"}})
    with pytest.raises(ConfigError, match=r"'mine' has mlp=.*give where='last:2', or compose 'test_vit' anew"):
        other.over(inner)


def test_a_registered_composition_is_taken_apart():
    flat = flat_spec({"base": "vit_tiny_kan_avg", "head": "kan", "num_classes": 3})
    assert flat.to_dict() == {
        "base": "vit_tiny_patch16_224",
        "mlp": {"type": "kan", "hidden_ratio": 0.5},
        "pool": {"type": "avg"},
        "head": {"type": "kan"},
        "num_classes": 3,
    }


def test_an_option_that_is_a_module_becomes_a_factory_of_it():
    options = resolve_options({"act_layer": {"type": "act/leaky_relu", "negative_slope": 0.25}, "bias": False})
    assert options["bias"] is False
    act = options["act_layer"]()
    assert isinstance(act, nn.LeakyReLU)
    assert act.negative_slope == 0.25
    model = build("test_vit", mlp={"type": "mlp", "act_layer": {"type": "act/leaky_relu", "negative_slope": 0.25}})
    assert [b.mlp.act.negative_slope for b in model.blocks] == [0.25] * len(model.blocks)
    assert json.loads(json.dumps(model.zoo_spec))["mlp"]["act_layer"]["negative_slope"] == 0.25


def test_compose_is_create_model_on_a_mapping():
    spec = {"base": "test_vit", "mlp": {"type": "kan", "where": [1]}, "img_size": 32, "num_classes": 3}
    model = zoo.compose(spec)
    assert model.zoo_spec == {"base": "test_vit", "mlp": {"type": "kan", "where": [1]}, "img_size": 32} | {
        "in_chans": 3,
        "num_classes": 3,
    }
    assert zoo.compose(model.zoo_spec).zoo_spec == model.zoo_spec
    assert zoo.compose(spec, num_classes=5, head="kan").zoo_spec["num_classes"] == 5
    model.reset_classifier(8)
    assert model.zoo_spec["num_classes"] == 8
