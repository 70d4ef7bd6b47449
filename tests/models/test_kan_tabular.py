"""The KAN for tables: it standardises columns, gives targets in their units, and keeps names and units."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import zoo
from zoo.models.kan_tabular import kan_tabular


def table(rows: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=generator) * torch.tensor([1e-3, 1.0, 1e4]) + torch.tensor([5.0, 0, -1e5])
    return x, torch.stack((x[:, 0] * 1000 + 3, x[:, 2]), 1)


def test_columns_are_standardised():
    """What the units are makes no difference: a table in other units gives the same answers."""
    torch.manual_seed(0)
    model = kan_tabular(3, in_features=3).eval()
    x, _ = table()
    model.fit_scaling(x)
    torch.testing.assert_close(model(x), model.kan((x - x.mean(0)) / x.std(0, correction=0)), rtol=1e-3, atol=1e-4)
    before = model(x)
    other = x.double() * 1000 + 7
    model.fit_scaling(other)
    torch.testing.assert_close(model(other.float()), before, rtol=1e-2, atol=1e-2)


def test_the_scaling_keeps_its_digits():
    """Of a column at 1e9, whose rows a model in float32 takes in float64; and whatever type the model is moved to."""
    model = kan_tabular(2, in_features=2).eval()
    x = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model.fit_scaling(x)
    here = model(x)
    model.fit_scaling(x + 1e9)
    torch.testing.assert_close(model(x + 1e9), here, rtol=1e-4, atol=1e-4)
    mean = model.scaling.mean.clone()
    assert torch.equal(model.half().float().to("cpu").scaling.mean, mean)


def test_a_scaling_comes_from_the_meta_device():
    model = kan_tabular(2, in_features=2, device="meta").to_empty(device="cpu")
    model.init_weights()
    assert model.scaling.std.tolist() == [1, 1]


def test_a_constant_column_is_only_shifted():
    model = kan_tabular(2, in_features=2)
    x = torch.stack((torch.full((9,), 0.1), torch.arange(9.0)), 1)
    model.fit_scaling(x)
    assert float(model.scaling.std[0]) == 1
    torch.testing.assert_close(model.scaling(x).square().sum(0), torch.tensor([0.0, 9.0]))


def test_targets_come_in_their_units():
    model = kan_tabular(2, in_features=3, task="regression").eval()
    x, y = table()
    model.fit_scaling(x, y)
    z = model.kan(model.scaling(x))
    torch.testing.assert_close(model(x), z * y.std(0, correction=0) + y.mean(0))
    torch.testing.assert_close(model.target_scaling(model(x)), z, rtol=1e-3, atol=1e-3)
    assert torch.equal(model.forward_head(model.forward_features(x), pre_logits=True), model.forward_features(x))


def test_saved_with_its_scaling_names_and_units(tmp_path):
    x, y = table()
    about = {"feature_names": ["mixing enthalpy", "valence", "grain"], "feature_units": ["kJ/mol", "", "µm"]}
    options = {"num_classes": 2, "in_features": 3, "task": "regression", "target_units": ["MPa", "HV"], **about}
    model = zoo.create_model("kan_tabular", **options, hidden_sizes=[4, 3]).eval()
    model.fit_scaling(x, y)
    zoo.set_data_config(model, label_names=["yield strength", "hardness"])
    zoo.save_pretrained(model, tmp_path / "alloys")
    again = zoo.create_model(f"local-dir:{tmp_path / 'alloys'}").eval()
    assert torch.equal(again(x), model(x))
    assert (again.feature_names, again.feature_units) == (about["feature_names"], about["feature_units"])
    assert again.target_units == ["MPa", "HV"]
    assert list(again.pretrained_cfg["label_names"]) == ["yield strength", "hardness"]
    # Of other targets nothing is known; columns keep their scaling.
    other = zoo.create_model(f"local-dir:{tmp_path / 'alloys'}", num_classes=3).eval()
    assert torch.equal(other.scaling.std, model.scaling.std)
    assert torch.equal(other.target_scaling.std, torch.ones(3))
    assert torch.equal(other.forward_features(x), model.forward_features(x))
    features = zoo.create_model(f"local-dir:{tmp_path / 'alloys'}", num_classes=0).eval()
    assert torch.equal(features(x), model.forward_features(x))


def test_of_images_its_configuration_says_nothing(tmp_path, unchecked):
    model = zoo.create_model("kan_breast_cancer")
    assert zoo.data_config(model) == {"input_size": (30,), "mean": None, "std": None}
    zoo.save_pretrained(model, tmp_path / "table")
    cfg = json.loads((tmp_path / "table" / "config.json").read_text())["pretrained_cfg"]
    assert not cfg.keys() & {"mean", "std", "interpolation", "crop_pct", "crop_mode"}
    with pytest.raises(ValueError, match=r"mean, feature_names: TabularKAN takes rows of a table"):
        zoo.set_data_config(model, mean=0.5, feature_names=["a"] * 30, label_names=["malignant", "benign"])


def test_another_classifier_forgets_the_targets():
    model = kan_tabular(1, in_features=3, task="regression", target_units=["MPa"])
    x, y = table()
    model.fit_scaling(x, y[:, :1])
    model.reset_classifier(2)
    assert model.target_units is None
    assert model.target_scaling.mean.tolist() == [0, 0]
    assert (model.scaling.mean != 0).all()
    model.init_weights()
    assert torch.equal(model.scaling.mean, torch.zeros(3))


def test_learns():
    """A product of two columns of very different scales, to a tenth of its spread."""
    torch.manual_seed(0)
    x = torch.rand(256, 2) * torch.tensor([1.0, 1e5])
    y = (x[:, :1] * x[:, 1:]) + 3e5
    model = kan_tabular(1, in_features=2, task="regression", hidden_sizes=[4])
    model.fit_scaling(x, y)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.mse_loss(model.target_scaling(model(x)), model.target_scaling(y)).backward()
        optimizer.step()
    assert float((model(x) - y).detach().square().mean().sqrt() / y.std()) < 0.1


def test_refusals(unchecked):
    x, y = table()
    cases = (
        (lambda: kan_tabular(task="clasification"), "task must be one of.*did you mean 'classification'"),
        (lambda: kan_tabular(in_features=3, feature_names=["a"]), "feature_names must be 3 texts, got"),
        (lambda: kan_tabular(in_features=3, feature_names=list("aab")), "must all be different, 'a' is there twice"),
        (lambda: kan_tabular(in_features=3)(x[:, :2]), r"expected rows \(batch, 3\), got \(50, 2\)"),
        (lambda: kan_tabular(in_features=3).fit_scaling(x, y), "no targets y"),
        (lambda: kan_tabular(2, in_features=3, task="regression").fit_scaling(x), "takes targets y"),
        (lambda: kan_tabular(in_features=3).fit_scaling(x[:0]), "one row at least"),
        (lambda: kan_tabular(in_features=3).fit_scaling(x / torch.tensor([1, 0, 1])), "column 1 has NaN or infinity"),
    )
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="x must be a floating tensor, got ndarray; torch"):
        kan_tabular(in_features=3).fit_scaling(x.numpy())


def test_saved_after_a_life_of_its_own(tmp_path):
    """With knots for each column, a finer grid, fewer nodes and masked edges."""
    torch.manual_seed(0)
    model = kan_tabular(2, in_features=3, hidden_sizes=[6]).eval()
    model.zoo_name = "kan_tabular"
    x, _ = table()
    model.fit_scaling(x)
    z = model.scaling(x)
    model.kan.update_grid(z)
    model.kan.refine(10, z)
    model.kan.prune(z, node_threshold=0.15, edge_threshold=0.1)
    assert model.kan.sizes[1] < 6
    assert any(layer.mask is not None and not layer.mask.all() for layer in model.kan.layers)
    zoo.save_pretrained(model, tmp_path / "sparse")
    again = zoo.create_model(f"local-dir:{tmp_path / 'sparse'}").eval()
    assert torch.equal(again(x), model(x))
    other = zoo.create_model(f"local-dir:{tmp_path / 'sparse'}", num_classes=4).eval()
    assert torch.equal(other.forward_features(x), model.forward_features(x))
    assert other(x).isfinite().all()
