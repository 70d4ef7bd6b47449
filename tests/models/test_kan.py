"""KANs as models: layers written out, classifiers changed, grids and widths kept in what is saved, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

import zoo
from zoo.errors import MismatchError
from zoo.layers.kan import KAN, KANLinear
from zoo.models.kan import ImageKAN
from zoo.registry import model_entry

NETWORKS = {
    "kan_bspline": (KANLinear.efficient, {}),
    "kan_rbf": (KANLinear.fast, {}),
    "kan_switch": (KANLinear.faster, {"grid_range": (-1.2, 1.2)}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_is_the_network_on_the_pixels(name):
    """The state of the library's network, as converters give it, is that of the model."""
    layer, options = NETWORKS[name]
    torch.manual_seed(0)
    network, model = KAN([64, 32, 10], layer=layer, **options).eval(), zoo.create_model(name).eval()
    model.kan.load_state_dict(network.state_dict())
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(model(x), network(x.flatten(1)))
    torch.testing.assert_close(model.forward_features(x), network.layers[0](x.flatten(1)))
    entry = zoo.registry.model_entry(name)
    assert sum(p.numel() for p in model.parameters()) == entry.params


@pytest.mark.parametrize("name", NETWORKS)
def test_the_catalogue_says_what_an_image_costs(name):
    model, entry = zoo.create_model(name, device="meta"), model_entry(name)
    functions = [layer.weight.numel() for layer in model.kan.layers]
    base = [0 if layer.base_weight is None else layer.base_weight.numel() for layer in model.kan.layers]
    assert entry.macs == sum(functions) + sum(base) == zoo.summary(model).macs
    assert (model.image_shape, zoo.data_config(model)["mean"]) == (entry.input_size, (0.5,))


@pytest.mark.parametrize("name", NETWORKS)
def test_checkpoint(name):
    row = zoo.registry.weights_entry(f"{name}.digits")
    measured = zoo.evaluate(row.name, "digits", split=row.metrics["split"], progress=False)
    assert measured["samples"] == row.metrics["samples"]
    assert round(measured["accuracy"], 4) == row.metrics["accuracy"]
    assert measured["accuracy"] >= 0.95
    ours, theirs = zoo.create_model(name, pretrained=True).eval(), timm.create_model(name, pretrained=True).eval()
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("create", [zoo.create_model, timm.create_model])
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_fit_models_of_other_classes(name, create):
    trained, x = zoo.create_model(name, pretrained=True).eval(), torch.rand(2, 1, 8, 8)
    features = trained.forward_features(x)
    for classes in (3, 0):
        other = create(name, pretrained=True, num_classes=classes).eval()
        torch.testing.assert_close(other.forward_features(x), features)
        assert other(x).shape == (2, classes or 32)
    torch.testing.assert_close(other(x), features)


def test_classifier_is_replaced_in_place_and_type():
    model = zoo.create_model("kan_rbf", hidden_sizes=[12, 6]).double().eval()
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    features = model.forward_features(x)
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), features)
    assert isinstance(model.get_classifier(), torch.nn.Identity)
    model.reset_classifier(4)
    head = model.get_classifier()
    assert (head.in_features, head.out_features, head.weight.dtype, head.training) == (6, 4, torch.float64, False)
    assert (head.base_activation is not None, head.basis.num_bases) == (True, 8)
    torch.testing.assert_close(model(x), head(features))
    assert model.pretrained_cfg["classifier"] == "kan.layers.2"


def test_only_the_classifier_learns_when_the_rest_is_frozen():
    from zoo.training.freeze import frozen_names

    model = zoo.create_model("kan_bspline", hidden_sizes=[5, 4])
    learned = {n for n, _ in model.named_parameters()} - frozen_names(model, "backbone")
    assert learned == {f"kan.layers.2.{n}" for n in ("weight", "edge_scale", "base_weight")}


def test_saved_with_the_knots_and_widths_that_it_has_now(tmp_path):
    model = zoo.create_model("kan_bspline", num_classes=3, in_chans=2, img_size=(2, 3), hidden_sizes=[5]).eval()
    x = torch.rand(6, 2, 2, 3)
    for layer in model.kan.layers:
        basis = layer.basis
        basis.set_knots(torch.linspace(-4, 4, 8 + 2 * basis.order + 1)[None])
        layer.weight = torch.nn.Parameter(torch.randn(*layer.weight.shape[:2], basis.num_bases))
    zoo.save_pretrained(model, tmp_path / "finer")
    again = zoo.create_model(f"local-dir:{tmp_path / 'finer'}").eval()
    assert torch.equal(again(x), model(x))
    assert again.kan.layers[0].basis.grid_size == 8


def test_init_weights_completes_a_model_from_the_meta_device():
    with torch.device("meta"):
        model = ImageKAN()
    model = model.to_empty(device="cpu")
    torch.manual_seed(3)
    model.init_weights()
    torch.manual_seed(3)
    other = ImageKAN()
    torch.manual_seed(3)
    other.init_weights()
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(model(x), other(x))


@pytest.mark.parametrize("option", [{"in_chans": 3}, {"img_size": 16}, {"hidden_sizes": [5]}])
def test_weights_of_another_model_are_refused_with_advice(option):
    (name,) = option
    with pytest.raises(MismatchError, match=rf"not of a model with {name}=.*leave that out.*pretrained=False"):
        zoo.create_model("kan_bspline", pretrained=True, **option)


def test_what_a_kan_has_not(unchecked):
    with pytest.raises(TypeError, match="has no stages, so features_only=True is not for it; num_classes=0 makes"):
        zoo.create_model("kan_bspline", features_only=True)
    with pytest.raises(ValueError, match=r"img_size must be one side or \(height, width\), got \(8,\)"):
        zoo.create_model("kan_bspline", img_size=(8,))


def test_trained_on_colour_images_of_another_size(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (12, 20, 20, 3), np.uint8)
    result = zoo.finetune(
        "kan_bspline",
        (images, ["a", "b"] * 6),
        img_size=16,
        model_args={"in_chans": 3, "hidden_sizes": [4]},
        epochs=1,
        out=tmp_path / "run",
        progress=False,
    )
    assert result.model.image_shape == (3, 16, 16)
    assert zoo.data_config(result.model)["input_size"] == (3, 16, 16)


def test_refusals(unchecked):
    with pytest.raises(ValueError, match=r"layer must be one of.*did you mean 'efficient'"):
        ImageKAN(layer="eficient")
    with pytest.raises(ValueError, match="must be an integer of at least 1, got 0"):
        ImageKAN(hidden_sizes=[0])
    with pytest.raises(ValueError, match=r"expected images \(batch, 1, 8, 8\), got \(2, 3, 8, 8\)"):
        ImageKAN()(torch.rand(2, 3, 8, 8))
    with pytest.raises(TypeError, match="kan_rbf takes no argument 'hiden_sizes'; did you mean 'hidden_sizes'"):
        zoo.create_model("kan_rbf", hiden_sizes=[4])
    with pytest.raises(ValueError, match="num_classes"):
        ImageKAN().reset_classifier(-1)
