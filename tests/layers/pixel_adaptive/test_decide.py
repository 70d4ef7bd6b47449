"""Classes of pixels: the authors' clusters, ties, budgets."""

import itertools

import pytest
import torch

from tests.models.super_resolution.golden import golden
from zoo.layers.pixel_adaptive.decide import (
    adm_classes,
    adm_thresholds,
    argmax_classes,
    expected_class,
    hardness,
    target_classes,
)

COSTS = (0.2, 0.3, 0.5)


def _scores(*shape, seed=0, dtype=torch.float32):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["adm_bimodal", "adm_balanced"])
def test_clusters_are_the_authors(name, dtype):
    meta, tensors = golden(name)
    chances = tensors["in.prob_hard"].to(dtype)
    got = adm_classes(chances[None, None], per_image=False)
    assert torch.equal(got[0, 0], tensors["out.flag"])
    normal = (chances - chances.min()) / (chances.max() - chances.min())
    assert adm_thresholds(normal) == pytest.approx([meta["threshold_on_normalised_prob"]], abs=1e-5)


def test_clusters_are_of_an_image_or_of_the_batch():
    torch.manual_seed(0)
    chances = torch.rand(3, 20, 30) ** torch.tensor([1.0, 3.0, 9.0])[:, None, None]
    alone = torch.cat([adm_classes(chances[i : i + 1]) for i in range(3)])
    assert torch.equal(adm_classes(chances), alone)
    together = adm_classes(chances, per_image=False)
    assert not torch.equal(together, alone)
    assert torch.equal(together, adm_classes(chances.reshape(1, 60, 30)).reshape(3, 20, 30))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_flat_image_is_all_light(value):
    assert not adm_classes(torch.full((2, 4, 5), value)).any()


def test_more_clusters_are_found_where_they_are():
    """Three groups of hardness become three classes; with two the rule is the authors'."""
    values = torch.tensor([0.0, 0.02, 0.5, 0.52, 0.97, 1.0])[None, None]
    assert adm_classes(values, 3).flatten().tolist() == [0, 0, 1, 1, 2, 2]


def test_the_expected_class_of_two_is_the_chance_of_the_heavy_one():
    scores = _scores(2, 2, 3, 4)
    torch.testing.assert_close(hardness(scores), scores.softmax(1)[:, 1])
    chances = _scores(5, 4).softmax(-1)
    wanted = (chances * torch.tensor([0, 1 / 3, 2 / 3, 1])).sum(-1)
    torch.testing.assert_close(expected_class(chances, 1), wanted)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_ties_are_light(classes):
    assert not argmax_classes(torch.zeros(1, classes, 3, 3)).any()


@pytest.mark.parametrize("k", [-1.0, 0.0, 0.5, 2.0])
def test_scores_stand_for_probabilities(k):
    scores = _scores(2, 3, 20, 20, dtype=torch.float64)
    weighed = scores.softmax(1) / torch.tensor(COSTS, dtype=torch.float64)[:, None, None] ** k
    assert torch.equal(argmax_classes(scores, COSTS, k), weighed.argmax(1).to(torch.uint8))


def test_no_pixel_becomes_heavier_with_growing_k():
    scores = _scores(1, 3, 30, 30)
    found = [argmax_classes(scores, COSTS, k) for k in (-25.0, -1.0, 0.0, 0.5, 1.0, 2.0, 25.0)]
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(found))
    assert (found[0] == 2).all()
    assert not found[-1].any()


@pytest.mark.parametrize("part", [0.0, 0.001, 0.25, 0.5, 0.777, 1.0])
def test_two_classes_meet_a_budget_to_the_pixel(part):
    scores, prices = _scores(2, 2, 23, 31), (1.0, 5.0)
    found = target_classes(scores, (0.2, 0.8), prices, 1 + 4 * part)
    pixels = 23 * 31
    for image, classes in zip(scores, found, strict=True):
        heavy = int(classes.sum())
        assert heavy == int(part * pixels + 1e-9)
        margins = (image[1] - image[0]).flatten()
        assert set(margins.topk(heavy).indices.tolist()) == set(classes.flatten().nonzero().flatten().tolist())


@pytest.mark.parametrize("budget", [1.0, 1.5, 2.9, 4.2, 6.99, 7.0])
def test_three_classes_meet_a_budget_to_a_step_of_a_pixel(budget):
    prices = torch.tensor([1.0, 3.0, 7.0])
    for seed in range(3):
        classes = target_classes(_scores(1, 3, 17, 19, seed=seed), COSTS, prices.tolist(), budget)
        spent = float(prices[classes.long()].sum())
        assert budget * classes.numel() - 6 < spent <= budget * classes.numel() + 1e-6


def test_ties_share_a_budget():
    """A flat image is light and heavy in the parts that were asked for."""
    classes = target_classes(torch.zeros(1, 2, 10, 10), (0.2, 0.8), (1.0, 2.0), 1.37)
    assert int(classes.sum()) == 37


def test_the_budget_is_of_each_image():
    scores = (
        _scores(3, 2, 12, 12)
        + torch.tensor([0.0, 4.0, -4.0])[:, None, None, None] * torch.tensor([0.0, 1.0])[:, None, None]
    )
    found = target_classes(scores, (0.3, 0.7), (1.0, 2.0), 1.5)
    assert found.sum((1, 2)).tolist() == [72, 72, 72]


def test_no_images_no_classes():
    empty = torch.zeros(0, 2, 3, 4)
    for found in (argmax_classes(empty), adm_classes(hardness(empty)), target_classes(empty, (0.3, 0.7), (1, 2), 1.5)):
        assert found.shape == (0, 3, 4)
        assert found.dtype == torch.uint8
