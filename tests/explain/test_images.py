"""Grids show the images of a bank, and the examples that are nearest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from zoo import explain
from zoo.layers.tversky import TverskyProjection
from zoo.layers.tversky.data_bank import DataDomainBank


def _shown(figure: Any) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


def _titles(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def _pixels() -> TverskyProjection:
    torch.manual_seed(0)
    return TverskyProjection(6, 4, 9)


def _data_domain(channels: int = 3) -> TverskyProjection:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(channels * 4, 6))
    return TverskyProjection(6, 4, feature_bank=DataDomainBank(encoder, 5, (channels, 2, 2)))


def test_vectors_of_pixels_are_images() -> None:
    layer = _pixels()
    figure = explain.prototype_images(nn.Sequential(nn.Flatten(), layer), image_shape=(2, 3))
    shown = _shown(figure)
    assert len(shown) == 4
    for image, row in zip(shown, layer.prototypes.weight.detach(), strict=True):
        np.testing.assert_array_equal(image, row.view(2, 3))
    low, high = figure.axes[0].images[1].get_clim()
    assert high == -low == pytest.approx(layer.prototypes.weight[1].abs().max().item())
    assert _titles(figure) == ["0", "1", "2", "3"]
    chosen = explain.feature_images(layer, image_shape=(1, 3, 2), indices=[7, 2], names=[f"f{k}" for k in range(9)])
    np.testing.assert_array_equal(_shown(chosen)[0], layer.feature_bank.weight[7].detach().view(3, 2))
    assert _titles(chosen) == ["f7", "f2"]


def test_a_data_domain_bank_shows_its_inputs() -> None:
    layer = _data_domain()
    inputs = layer.feature_bank.inputs.detach()
    for source in (layer, layer.feature_bank, TverskyProjection(6, 2, feature_bank=layer)):
        shown = _shown(explain.feature_images(source))
        assert len(shown) == 5
        for image, given in zip(shown, inputs, strict=True):
            wanted = (given - given.min()) / (given.max() - given.min())
            np.testing.assert_allclose(image, wanted.permute(1, 2, 0), atol=1e-6)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)
    shown = _shown(explain.feature_images(layer, mean=mean, std=std))
    wanted = inputs[2] * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    np.testing.assert_allclose(shown[2], wanted.clamp(0, 1).permute(1, 2, 0), atol=1e-6)
    grey = _data_domain(channels=1)
    np.testing.assert_array_equal(
        _shown(explain.feature_images(grey))[4], grey.feature_bank.inputs[4, 0].detach().numpy()
    )


def test_images_do_not_lie_on_each_other() -> None:
    layer = TverskyProjection(6, 20)
    figure = explain.prototype_images(layer, image_shape=(3, 2))
    boxes = [image.get_extent() for image in figure.axes[0].images]
    for i, (left, right, bottom, top) in enumerate(boxes):
        assert (right - left) / (bottom - top) == pytest.approx(2 / 3)
        for other in boxes[:i]:
            apart_x = left >= other[1] or right <= other[0]
            assert apart_x or top >= other[2] or bottom <= other[3]


def test_nearest_examples_are_the_largest() -> None:
    layer = _pixels()
    inputs, images = torch.randn(20, 6), torch.randn(20, 1, 4, 4)
    figure = explain.nearest_examples(layer, inputs, images, count=3, names=["a", "b", "c", "d"])
    values, numbers = layer(inputs).topk(3, dim=0)
    shown = _shown(figure)
    assert len(shown) == 12
    for prototype in range(4):
        for rank in range(3):
            np.testing.assert_array_equal(shown[3 * prototype + rank], images[numbers[rank, prototype], 0])
    assert _titles(figure) == [*(f"{v:.3g}" for v in values.T.flatten().tolist()), "a", "b", "c", "d"]
    figure = explain.nearest_examples(layer, inputs, images, of="features", count=2, indices=[5])
    best = (inputs @ layer.feature_bank.weight[5]).argmax()
    np.testing.assert_array_equal(_shown(figure)[0], images[best, 0])
    assert len(_shown(explain.nearest_examples(layer, inputs[:2], images[:2, 0]))) == 8


def test_refusals() -> None:
    layer = _pixels()
    with pytest.raises(ValueError, match=r"vector of 6 numbers: give image_shape"):
        explain.prototype_images(layer)
    with pytest.raises(ValueError, match=r"image_shape \(2, 2\) has 4 numbers, a feature 6"):
        explain.feature_images(layer, image_shape=(2, 2))
    with pytest.raises(ValueError, match=r"of 1 or 3 channels first, got \(6, 1, 1\)"):
        explain.feature_images(layer, image_shape=(6, 1, 1))
    with pytest.raises(ValueError, match=r"indices must be in 0\.\.3, got 4"):
        explain.prototype_images(layer, image_shape=(2, 3), indices=[4])
    with pytest.raises(ValueError, match="names must be 4 names, got 1"):
        explain.prototype_images(layer, image_shape=(2, 3), names=["a"])
    with pytest.raises(ValueError, match="of must be 'prototypes' or 'features', got 'classes'"):
        explain.nearest_examples(layer, torch.zeros(1, 6), torch.zeros(1, 2, 2), of="classes")
    with pytest.raises(ValueError, match=r"\(n, 6\) with an image each, got \(2, 6\) and 1 images"):
        explain.nearest_examples(layer, torch.zeros(2, 6), torch.zeros(1, 2, 2))
