"""The maps from scores to associations."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.layers.hopfield import Hopfield, associate

MAPS = [
    ("softmax", {}),
    ("sparsemax", {}),
    ("entmax", {}),
    ("entmax", {"alpha": 1.2}),
    ("normmax", {"alpha": 3.0}),
    ("budget", {"k": 2}),
    ("topk", {"k": 2}),
]


def scores(seed: int = 0):
    return 2 * torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("name", "options"), MAPS)
def test_weights_are_shares_of_what_is_allowed(name, options):
    z = scores()
    z[0, 3:] = -math.inf
    z[1] = -math.inf
    p = associate(z, name, **options)
    total = float(options.get("k", 1)) if name == "budget" else 1.0
    torch.testing.assert_close(p.sum(-1), torch.tensor([total, 0.0, total, total, total], dtype=torch.float64))
    assert (p >= 0).all()
    assert (p <= 1 + 1e-12).all()
    assert not p[0, 3:].any()
    torch.testing.assert_close(p[0, :3], associate(z[0, :3], name, **options))
    torch.testing.assert_close(associate(z[2:] + 3.0, name, **options), p[2:])


@pytest.mark.parametrize(("name", "options"), MAPS)
def test_gradients_of_first_and_second_order(name, options):
    z = scores()
    z[0, 3:] = -math.inf
    allowed = z > -math.inf

    def run(values):
        return associate(torch.where(allowed, values, z), name, **options)

    leaf = scores().requires_grad_()
    assert torch.autograd.gradcheck(run, leaf)
    assert torch.autograd.gradgradcheck(run, leaf)


def test_a_learned_alpha_has_its_gradient():
    alpha = torch.tensor([[1.1], [1.5], [1.9], [2.0], [1.3]], dtype=torch.float64, requires_grad=True)
    z = scores().requires_grad_()
    assert torch.autograd.gradcheck(lambda z, a: associate(z, "entmax", alpha=a), (z, alpha))
    layer = Hopfield(7, num_heads=1, association="entmax", alpha=2.0, learn_alpha=True)
    assert 1.999 < float(layer.map().detach()) < 2


@pytest.mark.parametrize("learned", [False, True])
def test_an_alpha_a_row_is_that_alpha_in_that_row(learned):
    alphas = [1.0, 1.25, 1.5, 2.0, 3.0]
    z = scores()
    found = associate(z, "entmax", alpha=torch.tensor(alphas, dtype=torch.float64, requires_grad=learned).unsqueeze(-1))
    wanted = torch.stack([associate(row, "entmax", alpha=alpha) for row, alpha in zip(z, alphas, strict=True)])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[0], z[0].softmax(-1))
    torch.testing.assert_close(found[3], associate(z[3], "sparsemax"), rtol=0, atol=1e-12)


def test_only_the_largest_of_top_k_and_by_their_softmax():
    z = torch.tensor([3.0, -1.0, 2.0, -5.0])
    expected = torch.zeros(4)
    expected[[0, 2]] = z[[0, 2]].softmax(-1)
    torch.testing.assert_close(associate(z, "topk", k=2), expected)
    # Scores below 0 are not lifted to 0 by the choice.
    torch.testing.assert_close(associate(z - 10, "topk", k=2), expected)


@pytest.mark.parametrize(("name", "margin"), [("sparsemax", 1.0), ("entmax", 2.0), ("normmax", 1.0)])
def test_the_margin_is_where_a_single_pattern_begins(name, margin):
    z = torch.zeros(6, dtype=torch.float64)
    z[2] = margin
    assert associate(z, name)[2] == 1
    z[2] = margin - 1e-3
    assert associate(z, name)[2] < 1
