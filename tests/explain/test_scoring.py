"""Feature scores: those of the published code, their definitions edge by edge, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo
from tests.layers.kan.goldens import golden
from zoo.explain import feature_scores
from zoo.layers.kan import KAN, FasterKAN, KANLinear
from zoo.layers.kan import feature_scores as core

NAMES = {"l1": "scores.kan_l1", "l2": "scores.kan_l2", "sensitivity": "scores.kan_si", "knockout": "scores.kan_ko"}
PRESETS = ("efficient", "fast", "faster", "chebyshev")


def _kan(preset: str = "efficient", sizes: tuple[int, ...] = (5, 4, 3), **options) -> KAN:
    torch.manual_seed(0)
    return KAN(sizes, layer=getattr(KANLinear, preset), **options)


def _rows(count: int = 20, features: int = 5) -> torch.Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(1))


def _curves(layer: KANLinear, x: torch.Tensor) -> torch.Tensor:
    """phi_oi(x_ni), one edge at a time: (rows, out, in)."""
    bases = layer.expand(x)
    curves = torch.einsum("nij,oij->noi", bases, layer.scaled_weight())
    if layer.base_weight is not None:
        curves = curves + layer.base_activation(x)[:, None] * layer.base_weight
    return curves.detach()


@pytest.mark.parametrize("name", ["selector_iris", "selector_breast_cancer"])
def test_scores_of_the_published_code(name):
    case = golden(name)
    net = KAN(case.meta["kwargs"]["layers_hidden"], grid_size=2, spline_order=1)
    net.load_state_dict(case.state())
    x, y, out = case.tensors["in.x"], case.tensors["in.y"], case.part("out")
    torch.testing.assert_close(net(x), out["y"], rtol=0, atol=1e-5)
    for method, key in NAMES.items():
        torch.testing.assert_close(feature_scores(net, x, y, method=method), out[key], rtol=0, atol=1e-5)
    for method in ("coef_l1", "coef_l2"):
        found = feature_scores(net, x, method=method, normalize=False)
        expected = out[f"own.{method}"]
        torch.testing.assert_close(found / found.sum(), expected / expected.sum(), rtol=0, atol=1e-5)
    raw = feature_scores(net, x, y, method="knockout", normalize=False)
    torch.testing.assert_close(raw, out["ko_raw_delta"], rtol=0, atol=1e-5 * float(out["loss"]))


@pytest.mark.parametrize("preset", PRESETS)
def test_definitions(preset):
    """Every method against its formula, on the basis, base branch and norm of every library."""
    net, x = _kan(preset).double(), _rows().double()
    curves = _curves(net.layers[0], x)
    weight = net.layers[0].scaled_weight().detach()
    y = torch.randn(20, 3, dtype=torch.float64)

    def score(method):
        return feature_scores(net, x, y, method=method, normalize=False)

    torch.testing.assert_close(score("l1"), curves.abs().mean((0, 1)))
    torch.testing.assert_close(score("l2"), curves.square().mean((0, 1)).sqrt())
    torch.testing.assert_close(score("coef_l1"), weight.abs().sum((0, 2)))
    torch.testing.assert_close(score("coef_l2"), weight.square().sum((0, 2)).sqrt())
    slopes = torch.func.jacrev(lambda rows: net(rows).abs().sum())(x)
    torch.testing.assert_close(score("sensitivity"), slopes.abs().mean(0))
    hidden = net.layers[0](x)
    expected = [F.mse_loss(net.layers[1](hidden - curves[..., i]), y) - F.mse_loss(net(x), y) for i in range(5)]
    torch.testing.assert_close(score("knockout"), torch.stack(expected))


def test_a_knocked_out_feature_is_a_masked_one():
    """The layer without the curves of a feature is the layer whose edges from it are masked."""
    net, x, y = _kan().double(), _rows().double(), torch.arange(20) % 3
    full = F.cross_entropy(net(x), y)
    found = feature_scores(net, x, y, method="knockout", normalize=False)
    for i in range(5):
        masked = _kan().double()
        masked.layers[0].mask_edges((torch.arange(5) != i).expand(4, 5))
        torch.testing.assert_close(found[i], F.cross_entropy(masked(x), y) - full)


@pytest.mark.parametrize("method", core.METHODS)
def test_a_dead_feature_scores_nothing_and_the_rest_sum_to_one(method):
    net, x, y = _kan(), _rows(), torch.arange(20) % 3
    net.layers[0].mask_edges((torch.arange(5) != 2).expand(4, 5))
    found = feature_scores(net, x, y, method=method)
    assert found[2] == 0
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()


@pytest.mark.parametrize("method", core.METHODS)
def test_blocks_change_nothing(method, monkeypatch):
    net, x, y = _kan().double(), _rows(50).double(), torch.arange(50) % 3
    whole = feature_scores(net, x, y, method=method, normalize=False)
    monkeypatch.setattr(core, "_BLOCK", 150)
    torch.testing.assert_close(feature_scores(net, x, y, method=method, normalize=False), whole)


def test_a_network_that_brings_its_features_to_a_kan():
    """A norm of each feature before the KAN is seen through; sensitivities are to what the KAN sees."""
    kan = _kan().double()
    norm = nn.BatchNorm1d(5).double()
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    net = nn.Sequential(nn.Flatten(), norm, nn.Dropout(0.5), kan, nn.Tanh())
    x, y = _rows().double(), torch.arange(20) % 3
    with torch.no_grad():
        seen = norm.eval()(x)
    norm.train()
    for method in ("l1", "l2", "coef_l1", "coef_l2"):
        torch.testing.assert_close(feature_scores(net, x, method=method), feature_scores(kan, seen, method=method))
    tail = nn.Sequential(kan, nn.Tanh())
    for method in ("sensitivity", "knockout"):
        expected = feature_scores(tail, seen, y, method=method)
        torch.testing.assert_close(feature_scores(net, x, y, method=method), expected)
    assert norm.training
    assert all(parameter.grad is None for parameter in net.parameters())


def test_other_kans():
    x = _rows()
    assert feature_scores(_kan().layers[0], x).sum() == pytest.approx(1)
    assert feature_scores(FasterKAN([5, 4, 3]), x).sum() == pytest.approx(1)


def test_pixels_are_features():
    model = zoo.create_model("kan_bspline", pretrained=True).eval()
    images = torch.rand(6, 1, 8, 8)
    for method in ("l1", "sensitivity"):
        found = feature_scores(model, images, method=method)
        torch.testing.assert_close(found, feature_scores(model.kan, images.flatten(1), method=method))


class _Estimator:
    """What holds a fitted model as an estimator does."""

    model_ = nn.Linear(5, 3)


def test_scores_that_are_all_zero_stay_so():
    net = _kan()
    net.layers[0].mask_edges(torch.zeros(4, 5, dtype=torch.bool))
    assert feature_scores(net, _rows()).tolist() == [0.0] * 5


def test_own_loss():
    net, x, y = _kan(sizes=(5, 4, 1)).double(), _rows().double(), (torch.arange(20) % 2).double()

    def loss(output, target):
        return F.binary_cross_entropy_with_logits(output[:, 0], target)

    found = feature_scores(net, x, y, method="knockout", normalize=False, loss=loss)
    without = net.layers[1](net.layers[0](x) - _curves(net.layers[0], x)[..., 3])
    torch.testing.assert_close(found[3], loss(without, y) - loss(net(x), y))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "sensitivty"}, ValueError, "'coef_l1'.*'sensitivty'; did you mean 'sensitivity'"),
        ({"method": "knockout"}, ValueError, "needs the targets y"),
        ({"method": "knockout", "y": torch.zeros(19)}, ValueError, "each of the 20 rows of x, got 19"),
        ({"method": "knockout", "y": torch.full((20,), 3)}, ValueError, "class numbers from 0 to 2, got 3 to 3"),
        ({"method": "knockout", "y": torch.zeros(20)}, ValueError, r"y of shape \(20,\).*outputs of shape \(20, 3\)"),
        ({"x": _rows().fill_(float("nan"))}, ValueError, r"x\[0, 0\] is nan"),
        ({"x": _rows()[0]}, ValueError, r"\(rows, features\).*\(5,\)"),
        ({"x": _rows()[:0]}, ValueError, r"one row at least, got \(0, 5\)"),
        ({"x": _rows().numpy()}, TypeError, "floating tensor, got ndarray"),
        ({"x": torch.zeros(3, 5, dtype=torch.int64)}, TypeError, "got torch.int64"),
        ({"x": _rows(features=4)}, ValueError, "in_features = 5, got 4"),
        ({"model": nn.Sequential(nn.Linear(5, 5), _kan())}, ValueError, "Sequential begins with Linear"),
        ({"model": nn.Sequential(nn.Conv2d(3, 4, 3), _kan())}, ValueError, "Sequential begins with Conv2d"),
        ({"y": _rows().numpy()}, TypeError, "y must be a tensor, got ndarray: .*searchsorted"),
        ({"model": _Estimator()}, TypeError, "model must be a torch module, got _Estimator; give its model_"),
        ({"model": nn.Sequential(nn.Tanh())}, ValueError, "Sequential has no layer with parameters"),
        ({"model": nn.Sequential(nn.AvgPool1d(2), _kan(sizes=(2, 1)))}, ValueError, "x has 5 features.*sees 2"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        feature_scores(**{"model": _kan(), "x": _rows()} | arguments)
