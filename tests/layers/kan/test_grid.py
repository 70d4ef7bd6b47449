"""Knots that follow the data and finer ones: the official knots, and curves that stay what they were."""

import pytest
import torch

from tests.layers.answers import answers
from tests.layers.kan.goldens import golden
from tests.layers.kan.samples import network, pykan, rows
from zoo.layers.kan import KAN, KANLinear
from zoo.layers.kan.basis import cox_de_boor
from zoo.layers.kan.life.grid import local_bsplines


def _layer(seed=0, **options):
    torch.manual_seed(seed)
    return KANLinear(4, 3, **{"scale_noise": 2.0, "dtype": torch.float64, **options})


def test_the_update_of_efficient_kan():
    case = golden("bspline_grid_update")
    layer = KANLinear(4, 3, edge_scale=False)
    layer.load_state_dict(case.state())
    x = case.tensors["in.x"]
    torch.testing.assert_close(layer(x), case.tensors["out.y_before"], rtol=0, atol=1e-5)
    layer.update_grid(x)
    torch.testing.assert_close(layer.basis.knots, case.tensors["out.grid_after"], rtol=0, atol=1e-5)
    expected = case.tensors["out.spline_weight_after"]
    torch.testing.assert_close(layer.weight, expected, rtol=0, atol=5e-3 * float(expected.abs().max()))
    torch.testing.assert_close(layer(x), case.tensors["out.y_after"], rtol=0, atol=1e-3)
    with torch.no_grad():  # the same again, exactly as they had it
        layer.basis.set_knots(case.tensors["out.grid_after"])
        layer.weight.copy_(expected)
    x2 = case.tensors["in.x2"].clone().requires_grad_()
    torch.testing.assert_close(layer.expand(x2), case.tensors["out.basis2"], rtol=0, atol=1e-5)
    y = layer(x2)
    torch.testing.assert_close(y, case.tensors["out.y2"], rtol=0, atol=1e-5)
    y.backward(case.tensors["in.cotangent"])
    found = {"x2": x2.grad, "spline_weight": layer.weight.grad, "base_weight": layer.base_weight.grad}
    for name, gradient in case.part("grad").items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4)


def test_the_update_and_the_refinement_of_pykan():
    case, model = pykan("pykan_update_refine")
    x = case.tensors["in.x"]
    torch.testing.assert_close(model(x), case.tensors["out.y_before"], rtol=0, atol=1e-5)
    model.update_grid(x, rule="pykan")
    for i, layer in enumerate(model.layers):
        torch.testing.assert_close(layer.basis.knots, case.tensors[f"out.updated.act_fun.{i}.grid"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model(x), case.tensors["out.y_updated"], rtol=0, atol=1e-2)
    updated = model(x)
    model.refine(9, x)
    for i, layer in enumerate(model.layers):
        torch.testing.assert_close(layer.basis.knots, case.tensors[f"out.refined.act_fun.{i}.grid"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model(x), case.tensors["out.y_refined"], rtol=0, atol=2e-2)
    torch.testing.assert_close(model(x), updated, rtol=0, atol=1e-5)  # three times the intervals: the same curves


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize("grid_eps", [0.0, 0.02, 1.0])
def test_curves_keep_their_values_on_the_data(order, grid_eps):
    """Smooth ones at least, which the new knots can follow; with scales of edges and after a norm, too."""
    layer = _layer(grid_size=12, spline_order=order, norm="layer")
    at = torch.linspace(-1, 1, layer.num_bases, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 4, 1, dtype=torch.float64) * (2 * at).sin())
    x = torch.randn(500, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer.norm.weight.data.fill_(0.4)
    before = layer(x)
    layer.update_grid(x, grid_eps=grid_eps)
    assert layer.coverage(x) == [1.0]
    assert (layer(x) - before).std() < 0.02 * before.std()


def test_grid_eps_1_is_even_and_0_takes_quantiles():
    even, quantiles = _layer(), _layer()
    x = rows(101, 4).sinh()
    even.update_grid(x, grid_eps=1.0, margin=0.5)
    torch.testing.assert_close(even.basis.knots[:, 3], x.amin(0) - 0.5)
    torch.testing.assert_close(even.basis.knots[:, 8], x.amax(0) + 0.5)
    assert even.basis.is_uniform()
    quantiles.update_grid(x, grid_eps=0.0)
    torch.testing.assert_close(quantiles.basis.knots[:, 3:9], x.sort(0).values[::20].t())


@pytest.mark.parametrize("spread", [0.3, 3.0], ids=["a sample of a part", "a sample that goes beyond"])
def test_finer_knots_among_which_are_the_old_ones_change_nothing(spread):
    layer = _layer(spline_order=2, bias=True)
    layer.update_grid(rows(50, 4) ** 3)
    inside = torch.linspace(0, 1, 99, dtype=torch.float64).unsqueeze(-1)
    low, high = layer.basis.knots[:, 2], layer.basis.knots[:, -3]
    x = (low + inside * (high - low)).clamp(low, high)
    before, old = layer(x), layer.weight
    layer.refine(20, spread * x)
    assert layer.weight.shape == (3, 4, 22)
    assert layer.weight is not old
    torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-8)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("own_knots", [False, True])
def test_a_curve_stays_where_samples_lie_beyond_the_ends(order, own_knots):
    """Training moves hidden values off the grid: the finer outer knots, nearer to its ends, would cut the curves."""
    layer = _layer(spline_order=order)
    if own_knots:
        layer.update_grid(rows(50, 4) ** 3)
    beyond = torch.tensor([[1.0, 1.4, 2.0, 9.0]], dtype=torch.float64)
    beyond = torch.cat([rows(300, 2) * beyond[:, :2], rows(300, 2).abs() * beyond[:, 2:]], -1)
    before, deviation = layer(beyond), layer(beyond).std()
    layer.refine(12, beyond)
    assert (layer(beyond) - before).abs().max() < (0.2 if order == 1 else 0.02) * deviation
    before = layer(beyond)
    layer.refine(24, beyond)
    torch.testing.assert_close(layer(beyond), before, rtol=0, atol=1e-8)


def test_outer_knots_stay_only_beyond_the_ends_that_samples_pass():
    layer = _layer()
    old = layer.basis.knots.clone()
    x = rows(100, 4)
    x[0] = torch.tensor([1.1, -1.1, 1 + 1e-9, 0.5])
    layer.refine(10, x)
    even = -1 + 0.2 * torch.arange(-3, 14, dtype=torch.float64)
    expected = even.repeat(4, 1)
    expected[0, -3:], expected[1, :3] = old[0, -3:], old[0, :3]
    torch.testing.assert_close(layer.basis.knots, expected)


def test_a_trained_network_is_refined_without_losing_anything():
    torch.manual_seed(1)
    model, x = KAN([2, 3, 1], dtype=torch.float64), rows(300, 2)
    y = torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:].square())
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=30, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = (model(x) - y).square().mean()
        value.backward()
        return value

    optimizer.step(loss)
    assert model.coverage(x)[1] < 0.9  # training has moved what the second layer gets
    before = model(x)
    model.refine(20, x)
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-6)


def test_in_single_precision_too():
    layer = _layer(dtype=torch.float32)
    x = rows(300, 4).float()
    before = layer(x)
    layer.refine(15, x)
    torch.testing.assert_close(layer(x), before, rtol=0, atol=2e-6)


def test_where_no_sample_falls_the_curve_stays():
    """All data on the left and the right of a range whose middle is empty."""
    layer = _layer(grid_size=8)
    x = torch.cat([rows(100, 4) * 0.1 - 0.8, rows(100, 4) * 0.1 + 0.8])
    middle = torch.linspace(-0.5, 0.5, 41, dtype=torch.float64).unsqueeze(-1).expand(-1, 4)
    before = layer(middle)
    layer.refine(16, x)
    torch.testing.assert_close(layer(middle), before, rtol=0, atol=1e-6)
    layer.update_grid(x, grid_eps=1.0)
    assert (layer(middle) - before).std() < 0.1 * before.std()


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_local_splines_are_those_of_the_recursion(order):
    """On knots that are even, that coincide, and far outside."""
    knots = rows(4, 2 * order + 9).sort(-1).values
    knots[0] = torch.arange(2 * order + 9)
    knots[1, order : order + 2] = knots[1, order]
    knots[2] = (3 * knots[2]).round()
    points = torch.cat([3 * rows(4, 300), knots, torch.full((4, 1), -1e6), torch.full((4, 1), 1e6)], -1)
    found = local_bsplines(points, knots, order)
    torch.testing.assert_close(found, cox_de_boor(points.t(), knots, order).transpose(0, 1), rtol=0, atol=1e-14)


def test_a_change_of_the_curves_is_said():
    """One row far out stretches the even part of the knots: hardly an interval is left for the others."""
    layer, x = _layer(), rows(501, 4)
    at = torch.linspace(-1.6, 1.6, layer.num_bases, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 4, 1, dtype=torch.float64) * (3 * at).sin())
    x[7] = 1e6
    before, usual = layer(x), torch.arange(501) != 7
    with pytest.warns(UserWarning, match=r"outputs of layer 0 by 6\d% of their deviation.*far from the others"):
        layer.update_grid(x)
    changed = (layer(x) - before)[usual].std() / before[usual].std()
    assert 0.6 < float(changed.detach()) < 0.7


@pytest.mark.parametrize("data", ["normal", "ties", "skewed", "constant"])
def test_ordinary_changes_are_not_said(data):
    x = torch.randn(300, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = {"normal": x, "ties": x.relu(), "skewed": x.exp(), "constant": 0 * x}[data]
    for seed in range(5):
        _layer(seed).update_grid(x)  # a warning is an error here


def test_few_samples_ties_and_constant_inputs():
    layer = _layer(grid_size=10)
    x = rows(4, 4)  # fewer rows than basis functions
    x[:, 1] = x[0, 1]
    x[:2, 2] = x[2:, 2] = 0.25
    x[:3, 3] = 0.5
    knots = layer.basis.knots.clone()
    before = layer(x)
    for grid_eps in (0.0, 0.02, 1.0):
        layer.update_grid(x, grid_eps=grid_eps)
        assert layer.weight.isfinite().all()
        assert layer(rows(50, 4)).isfinite().all()
        torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-5)
    for constant in (1, 2):
        torch.testing.assert_close(layer.basis.knots[constant], knots[0])
    layer.refine(11, x)
    torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-5)


def test_a_masked_edge_stays_masked_and_the_rest_as_it_was():
    layer = _layer()
    layer.mask_edges(torch.tensor([[True, False, True, True]] * 3))
    x = rows(200, 4)
    before = layer(x)
    layer.refine(10, x)
    torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-9)
    assert not layer.edge_curve(x[:, 0], 1, 0).any()


def test_the_state_of_an_updated_and_refined_layer_loads():
    model = network([4, 3, 2])
    x = rows(50, 4)
    model.update_grid(x)
    model.refine(7, x)
    again = network([4, 3, 2], seed=5, grid_size=7)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


def test_the_update_is_a_change_in_place():
    layer = _layer()
    weight = layer.weight
    layer.update_grid(rows(50, 4))
    assert layer.weight is weight
    assert weight.requires_grad
    assert weight.grad_fn is None


REFUSED = {
    "layer.update_grid(x[:1])": ["ValueError", "2 rows or more", "got 1"],
    "layer.update_grid(x / 0)": ["ValueError", "finite", "5 of its 5 rows"],
    "layer.update_grid(x[:, :2])": ["ValueError", "in_features = 3", "got 2"],
    "layer.update_grid(x, grid_eps=1.5)": ["ValueError", "grid_eps", "from 0 (quantiles) to 1 (even)", "1.5"],
    "layer.update_grid(x, margin=-0.1)": ["ValueError", "margin", "at least 0", "-0.1"],
    "layer.update_grid(x, rule='pykn')": ["ValueError", "rule", "did you mean 'pykan'"],
    "layer.refine(5, x)": ["ValueError", "grid_size must be larger than the present 5", "got 5"],
    "layer.refine(7.5, x)": ["TypeError", "grid_size", "integer", "7.5"],
    "layer.refine(7, x[:1])": ["ValueError", "2 rows or more", "got 1"],
    "KANLinear.fast(3, 2).update_grid(x)": ["TypeError", "only B-splines", "GaussianBasis"],
    "KAN([3, 2], layer=KANLinear.chebyshev).refine(7, x)": ["TypeError", "only B-splines", "ChebyshevBasis"],
}


@pytest.fixture(scope="module")
def messages():
    return answers(REFUSED, "from zoo.layers.kan import KAN, KANLinear\nlayer, x = KANLinear(3, 2), torch.zeros(5, 3)")


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_what_is_allowed(case, messages):
    assert all(part in messages[case] for part in REFUSED[case]), messages[case]
