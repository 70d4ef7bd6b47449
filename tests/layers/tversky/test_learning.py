"""What Tversky layers learn: exclusive or by one layer, and digits."""

from __future__ import annotations

import statistics

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from zoo.layers.tversky import TverskyProjection, tversky_similarity

SEEDS = 100


def solved(features: int, **options) -> float:
    """Fraction of the seeds whose layer, trained on the four points of exclusive or, classifies them all."""
    points = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    labels = torch.tensor([0, 1, 1, 0]).repeat(SEEDS)
    draw = torch.Generator().manual_seed(0)
    prototypes = torch.rand(SEEDS, 2, 2, generator=draw)
    banks = torch.rand(SEEDS, features, 2, generator=draw)
    weights = [torch.full((SEEDS,), value) for value in (1.0, 0.5, 0.5)]
    learned = [tensor.requires_grad_() for tensor in (prototypes, banks, *weights)]

    def one(prototypes: Tensor, bank: Tensor, theta: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        return tversky_similarity(points, prototypes, bank, theta=theta, alpha=alpha, beta=beta, **options)

    every = torch.func.vmap(one)  # all seeds at once; Adam treats each number by itself
    optimizer = torch.optim.Adam(learned, lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        (cross_entropy(every(*learned).reshape(-1, 2), labels) * SEEDS).backward()
        optimizer.step()
    with torch.no_grad():
        right = every(*learned).argmax(-1).flatten() == labels
    return float(right.view(SEEDS, 4).all(1).float().mean())


@pytest.mark.parametrize(
    ("intersection", "per_feature", "at_least"),
    [("product", False, 0.85), ("product", True, 0.9), ("gmean", False, 0.9), ("gmean", True, 0.9)],
)
def test_one_layer_learns_exclusive_or(intersection, per_feature, at_least):
    options = {"intersection": intersection, "difference": "substractmatch", "per_feature": per_feature}
    assert solved(16, **options) >= at_least


def test_minimum_of_sums_cannot_from_positive_banks():
    assert solved(16, intersection="min", difference="substractmatch") == 0


def accuracy(seed: int, **options) -> float:
    """Test accuracy of a single layer on the digits' pixels."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images, labels = digits.data / 16, digits.target
    split = train_test_split(images, labels, test_size=0.3, random_state=0, stratify=labels)
    x, x_test = (torch.tensor(part, dtype=torch.float32) for part in split[:2])
    y, y_test = (torch.tensor(part) for part in split[2:])
    torch.manual_seed(seed)
    layer = TverskyProjection(64, 10, 32, **options)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        cross_entropy(layer(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        return float((layer(x_test).argmax(1) == y_test).float().mean())


def test_one_layer_learns_digits():
    reached = [accuracy(seed, difference="substractmatch") for seed in range(6)]
    assert statistics.mean(reached) >= 0.96, reached


def test_start_of_the_authors_library_learns_less():
    assert accuracy(0, difference="substractmatch", init="uniform") < accuracy(0, difference="substractmatch") - 0.05
