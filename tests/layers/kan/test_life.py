"""A KAN's whole life on a small table, in either precision, and under autocast."""

import pytest
import torch
import torch.nn.functional as F

from tests.layers.kan.samples import network, rows
from zoo.layers.kan import KAN, KANLinear


def test_trained_pruned_refined_and_trained_again():
    """The recipe of the docstring finds out which of four columns matter."""
    x = rows(100, 4)
    y = torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:2].square())
    kan = network([4, 2, 1], grid_size=3, scale_noise=0.1)

    def train(steps, strength):
        optimizer = torch.optim.LBFGS(kan.parameters(), max_iter=5, line_search_fn="strong_wolfe")

        def loss():
            optimizer.zero_grad()
            value = F.mse_loss(kan(x), y) + strength * kan.sample_regularization(x)
            value.backward()
            return value

        for step in range(steps):
            if step < steps // 2 and step % 5 == 0:
                kan.update_grid(x)
            optimizer.step(loss)
        return float(F.mse_loss(kan(x), y).detach() / y.var())

    train(20, 1e-2)
    pruned = kan.prune(x)
    assert pruned.edges[0][:, 2:].all()
    assert not pruned.edges[0][:, :2].all()
    kan.refine(8, x)
    assert train(6, 0.0) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_in_lower_precision(dtype):
    exact = network([3, 4, 2])
    low = KAN([3, 4, 2], dtype=dtype)
    low.load_state_dict(exact.state_dict())
    x = rows(60, 3)
    limit = 1e-5 if dtype == torch.float32 else 0.05
    for found, expected in zip(low.edge_scores(x.to(dtype)), exact.edge_scores(x), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=limit * float(expected.max()))
    low.update_grid(x.to(dtype))
    low.prune(x.to(dtype), edge_threshold=0.1)
    assert low(x.to(dtype)).isfinite().all()


def test_autocast_changes_no_measurement():
    model, x = KAN([3, 4, 2]), rows(60, 3).float()
    expected = model.sample_regularization(x, metric="edge_backward")
    with torch.autocast("cpu", torch.bfloat16):
        found = model.sample_regularization(x, metric="edge_backward")
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_samples_of_any_shape():
    layer, x = KANLinear(3, 2), rows(60, 3).float()
    torch.testing.assert_close(layer.edge_scores(x.view(5, 12, 3)), layer.edge_scores(x), rtol=0, atol=0)
