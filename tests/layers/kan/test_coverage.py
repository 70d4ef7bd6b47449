"""The share of inputs in the range of the basis."""

import pytest
import torch

from tests.layers.kan.samples import network, rows
from zoo.layers.kan import KANLinear


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (KANLinear(1, 1), 0.5),  # -1 and 1, the ends, and 0 lie in it; 3, -1.1 and 1.1 do not
        (KANLinear(1, 1, grid_range=(-2.0, 3.0)), 1.0),
        (KANLinear.fast(1, 1, norm=None, grid_range=(-1.0, 0.5)), 2 / 6),
        (KANLinear.faster(1, 1, norm=None), 3 / 6),
        (KANLinear.chebyshev(1, 1), 1.0),
    ],
    ids=["bspline", "wide", "gaussian", "switch", "chebyshev"],
)
def test_fraction(layer, expected):
    x = torch.tensor([-1.0, 0.0, 1.0, 3.0, -1.1, 1.1]).unsqueeze(-1)
    assert layer.coverage(x) == [pytest.approx(expected)]


def test_after_the_norm_and_with_knots_of_each_input():
    layer = KANLinear(3, 2, norm="layer")
    x = 100 * rows(40, 3).float()
    u = layer.norm(x)
    assert layer.coverage(x) == [pytest.approx(float((u.abs() <= 1).float().mean()))]
    layer = KANLinear(2, 1)
    layer.update_grid(x[:, :2], grid_eps=1.0)
    assert layer.coverage(x[:, :2]) == [1.0]
    assert layer.coverage(x[:1, :2] + torch.tensor([[500.0, 0.0]])) == [0.5]


def test_every_layer_of_a_network():
    model, x = network([3, 4, 2]), 2 * rows(30, 3)
    hidden = model.layers[0](x)
    expected = [float((values.abs() <= 1).double().mean()) for values in (x, hidden)]
    assert model.coverage(x) == pytest.approx(expected)
    assert 0.2 < expected[0] < 0.8
