"""KAN layers inside a backbone: what is done to them on a sample is saved and loaded with the model."""

from __future__ import annotations

import pytest
import torch

import zoo
from tests.composition.helpers import build
from zoo.errors import MismatchError, UnsupportedSurgery
from zoo.weights import load_weights

SPLINES = {"type": "kan", "basis": "bspline", "norm": None}
VIT = {"img_size": 32, "depth": 2, "embed_dim": 12, "num_heads": 3, "num_classes": 3}
WIDTH = 96  # of the features of test_resnet
IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def sample(width):
    return torch.randn(64, width, generator=torch.Generator().manual_seed(1))


def with_head(**options):
    return build("test_resnet", head={**SPLINES, **options}, num_classes=3)


def update(layer, x):
    layer.update_grid(x)


def prune(layer, x):
    layer.update_grid(x)
    scores = torch.cat([score.flatten() for score in layer.edge_scores(x)])
    assert layer.prune(x, node_threshold=0.0, edge_threshold=float(scores.quantile(0.2))).edges[0].any()


def refine(layer, x):
    layer.update_grid(x)
    layer.refine(7, x)


def same_again(model, folder):
    zoo.save_pretrained(model, folder)
    again = zoo.create_model(f"local-dir:{folder}").eval()
    assert torch.equal(again(IMAGE), model(IMAGE))
    assert again.zoo_spec == model.zoo_spec
    assert again.state_dict().keys() == model.state_dict().keys()
    return again


@pytest.mark.parametrize("change", [update, prune, refine])
def test_a_head_that_was_changed_is_saved(change, tmp_path):
    model = with_head()
    change(model.get_classifier(), sample(WIDTH))
    again = same_again(model, tmp_path / "a")
    again.reset_classifier(5)
    same_again(again, tmp_path / "b")


@pytest.mark.parametrize("change", [update, prune, refine])
def test_perceptrons_that_were_changed_are_saved(change, tmp_path):
    model = build("vit_tiny_patch16_224", mlp={**SPLINES, "hidden_ratio": 0.5}, **VIT)
    for block in model.blocks:
        change(block.mlp, sample(12))
    same_again(model, tmp_path / "all")


def test_a_spec_tells_what_changed_everywhere_and_what_at_one_place(tmp_path):
    mlp = {**SPLINES, "hidden_ratio": 0.5}
    model = build("vit_tiny_patch16_224", mlp=mlp, **VIT)
    assert model.zoo_spec["mlp"] == mlp
    first, second = (block.mlp for block in model.blocks)
    first.refine(7, sample(12))
    assert model.zoo_spec["mlp"] == {**mlp, "places": {"blocks.0.mlp": {"grid_size": 7}}}
    model = same_again(model, tmp_path / "a")
    first, second = (block.mlp for block in model.blocks)
    second.prune(sample(12), node_threshold=float(second.node_scores(sample(12))[1].median()))
    here = {"blocks.0.mlp": {"grid_size": 7}, "blocks.1.mlp": {"hidden_features": second.sizes[1]}}
    assert model.zoo_spec["mlp"] == {**mlp, "places": here}
    assert second.sizes[1] < first.sizes[1]
    model = same_again(model, tmp_path / "b")
    for block in model.blocks:
        block.mlp.refine(9, sample(12))
    del here["blocks.0.mlp"]
    assert model.zoo_spec["mlp"] == {**mlp, "grid_size": 9, "places": here}
    same_again(model, tmp_path / "c")


def test_options_for_a_place_that_is_none_are_refused():
    for places, error, said in (
        ({"blocks.2.mlp": {"grid_size": 7}}, UnsupportedSurgery, r"blocks\.2\.mlp.*: blocks\.0\.mlp, blocks\.1\.mlp"),
        ({"blocks.1.mlp": {"grid_sise": 7}}, TypeError, "grid_size"),
        ({"blocks.1.mlp": 7}, TypeError, "must map paths to options"),
    ):
        with pytest.raises(error, match=said):
            build("vit_tiny_patch16_224", mlp={**SPLINES, "places": places}, **VIT)


@pytest.mark.parametrize("change", [update, prune])
def test_a_changed_head_goes_into_a_model_just_made(change):
    model, fresh = with_head(), with_head()
    change(model.get_classifier(), sample(WIDTH))
    report = load_weights(fresh, model.state_dict())
    assert (report.adapted, report.missing, report.unexpected) == ({}, [], [])
    assert torch.equal(fresh(IMAGE), model(IMAGE))
    back = load_weights(model, with_head().state_dict())  # knots for all inputs, no edge masked
    assert (back.adapted, back.missing) == ({}, [])
    assert torch.equal(model(IMAGE), with_head()(IMAGE))


def test_a_changed_head_for_other_classes_is_still_dropped():
    model, other = with_head(), build("test_resnet", head=SPLINES, num_classes=5)
    prune(model.get_classifier(), sample(WIDTH))
    before = {name: tensor.clone() for name, tensor in other.fc.state_dict().items()}
    report = load_weights(other, model.state_dict())
    assert report.adapted["fc.weight"] == "classifier for 3 classes dropped, the model has 5"
    assert report.missing == [f"fc.{name}" for name in before]
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.fc.state_dict().items())


def test_what_a_layer_does_not_take_is_refused():
    state = with_head().state_dict()
    for wrong in ({"fc.basis.knots": torch.zeros(7, 12)}, {"fc.mask": torch.ones(3, WIDTH)}):
        with pytest.raises(MismatchError, match=next(iter(wrong))):
            load_weights(with_head(), state | wrong)
    with pytest.raises(MismatchError, match=r"fc\.weight \(3, 96, 8\) for \(3, 96, 10\)"):
        load_weights(with_head(grid_size=7), state)
