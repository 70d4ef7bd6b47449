"""Scores: what pykan measures, the deviation of curves that are written out, dead inputs."""

import pytest
import torch

from tests.layers.kan.samples import network, pykan, rows
from zoo.layers.kan import KANLinear
from zoo.layers.kan.life.scores import attribution


def _curves(layer, x):
    """phi_oi of every row, (rows, out, in): the way that takes all the memory."""
    curves = torch.einsum("bik,oik->boi", layer.expand(x), layer.scaled_weight())
    base = layer.masked_base_weight()
    return curves if base is None else curves + base * layer.base_activation(x).unsqueeze(1)


@pytest.mark.parametrize("name", ["pykan_net", "pykan_net_mult"])
def test_scores_of_pykan(name):
    case, model = pykan(name)
    x = case.tensors["in.x"]
    limits = {"rtol": 1e-4, "atol": 1e-4}
    for i, deviations in enumerate(model.edge_deviations(x)):
        torch.testing.assert_close(deviations, case.tensors[f"out.edge_scale_{i}"], **limits)
    for i, scores in enumerate(model.edge_scores(x)):
        torch.testing.assert_close(scores, case.tensors[f"out.edge_score_{i}"], **limits)
    nodes = model.node_scores(x)
    for i, scores in enumerate(nodes):
        torch.testing.assert_close(scores, case.tensors[f"out.node_score_{i}"], **limits)
    torch.testing.assert_close(nodes[0], case.tensors["out.feature_score"], **limits)


@pytest.mark.parametrize("preset", ["efficient", "fast", "faster", "chebyshev"])
def test_deviations_by_covariances_are_those_of_the_curves(preset, monkeypatch):
    torch.manual_seed(0)
    layer = getattr(KANLinear, preset)(4, 3, dtype=torch.float64)
    x = rows(60, 4)
    expected = _curves(layer, x).std(0)
    torch.testing.assert_close(layer.edge_deviations(x)[0], expected, rtol=1e-10, atol=1e-12)
    monkeypatch.setattr("zoo.layers.kan.life.scores._BLOCK", 200)  # of the sample and of the inputs
    torch.testing.assert_close(layer.edge_deviations(x)[0], expected, rtol=1e-10, atol=1e-12)


def test_far_from_0_no_digits_are_lost():
    torch.manual_seed(0)
    layer = KANLinear(2, 3, base_activation="identity")
    with torch.no_grad():
        layer.weight.fill_(7.0)  # inside the range the splines are constant
    x = 0.5 + 1e-3 * rows(50, 2).float()
    torch.testing.assert_close(layer.edge_deviations(x)[0], layer.base_weight.abs() * x.std(0), rtol=1e-3, atol=1e-6)


def test_a_dead_input_scores_0():
    model = network([4, 3, 2])
    x = rows(50, 4)
    x[:, 2] = 0.3
    features = model.node_scores(x)[0]
    assert features[2] < 1e-6
    assert (features[[0, 1, 3]] > 1e-3).all()


def test_over_the_only_edge_of_a_chain_goes_all_of_the_deviation():
    model, x = network([1, 1, 1]), rows(50, 1)
    first, last = (deviation / (deviation + 1e-4) for deviation in model.edge_deviations(x))
    torch.testing.assert_close(model.edge_scores(x), [first * last, last])


def test_scores_are_differentiable_where_edges_are_0():
    model = network([3, 2, 1])
    model.layers[0].mask_edges(torch.tensor([[True, False, True], [False, False, False]]))
    edges, nodes = attribution(model.stages(), rows(20, 3))
    (sum(e.sum() for e in edges) + nodes[0].sum()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_the_mode_stays_and_no_random_number_is_drawn():
    model = network([3, 4, 1], norm=torch.nn.Dropout(0.5))
    model.layers[1].eval()
    before, x = torch.get_rng_state(), rows(20, 3)
    first = model.node_scores(x)[0]
    assert torch.equal(first, model.node_scores(x)[0])
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert not model.layers[1].training
