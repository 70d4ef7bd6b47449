"""The penalties of a sample: pykan's numbers, gradients, and what is refused."""

import pytest
import torch

from tests.layers.answers import answers
from tests.layers.kan.samples import network, pykan, rows
from zoo.layers.kan import KANLinear
from zoo.layers.kan.life.regularise import METRICS


@pytest.mark.parametrize("name", ["pykan_net", "pykan_net_mult"])
def test_penalties_of_pykan(name):
    case, model = pykan(name)
    x = case.tensors["in.x"]
    for metric in METRICS[:4]:
        expected = case.tensors[f"out.reg_{metric}"]
        torch.testing.assert_close(model.sample_regularization(x, metric=metric), expected, rtol=1e-4, atol=1e-4)
    found = model.sample_regularization(x, coefficients=0.3, differences=0.7)
    torch.testing.assert_close(found, case.tensors["out.reg_with_coef"], rtol=1e-4, atol=1e-4)


def test_nodes_by_hand():
    model, x = network([3, 2, 1]), rows(30, 3)
    expected = torch.zeros((), dtype=torch.float64)
    for score in model.node_scores(x):
        p = score / (score.sum() + 1)
        expected += 0.5 * score.sum() - 3 * (p * (p + 1e-4).log2()).sum()
    torch.testing.assert_close(model.sample_regularization(x, metric="node_backward", l1=0.5, entropy=3.0), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_gradients(metric):
    """Of one weight, by differences; and none that is NaN where edges are 0 and a hidden node is constant."""
    model, x = network([3, 2, 2]), rows(30, 3)
    model.layers[0].mask_edges(torch.tensor([[True, False, True], [False, False, False]]))

    def value():
        return model.sample_regularization(x, metric=metric, coefficients=0.1, differences=0.1)

    value().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    weight, step = model.layers[0].weight, 1e-6
    with torch.no_grad():
        weight[0, 0, 3] += step
        above = value()
        weight[0, 0, 3] -= 2 * step
        below = value()
    torch.testing.assert_close(weight.grad[0, 0, 3], (above - below) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("preset", ["efficient", "fast", "faster", "chebyshev"])
def test_a_step_against_the_penalty_lowers_it_in_every_basis(preset):
    torch.manual_seed(0)
    layer, x = getattr(KANLinear, preset)(4, 3), rows(30, 4).float()
    before = layer.sample_regularization(x)
    before.backward()
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
    assert layer.sample_regularization(x) < before


REFUSED = {
    "layer.sample_regularization(x, metric='edge_forward')": ["ValueError", "did you mean 'edge_forward_sum'"],
    "layer.sample_regularization(x[:1])": ["ValueError", "2 rows or more", "got 1"],
    "layer.node_scores(x.log())": ["ValueError", "finite", "NaN or infinity"],
    "layer.edge_scores(x[:, :2])": ["ValueError", "in_features = 3", "got 2"],
}


@pytest.fixture(scope="module")
def messages():
    return answers(REFUSED, "from zoo.layers.kan import KANLinear\nlayer, x = KANLinear(3, 2), torch.zeros(5, 3)")


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_what_is_allowed(case, messages):
    assert all(part in messages[case] for part in REFUSED[case]), messages[case]
