"""Colours of classes over an image."""

import numpy as np
import pytest
import torch

from zoo.models.super_resolution.overlay import visualize

GREEN, RED = (40, 170, 70), (220, 50, 40)


def test_classes_have_colours() -> None:
    image, classes = np.full((2, 3, 3), 100, np.uint8), torch.tensor([[0, 1, 0], [1, 1, 0]], dtype=torch.uint8)
    found = visualize(image, classes[None], opacity=1)
    assert tuple(found[0, 0]) == GREEN
    assert tuple(found[1, 0]) == RED
    half = visualize(image, classes, opacity=0.5)
    assert tuple(half[0, 0]) == (70, 135, 85)
    assert np.array_equal(visualize(image, classes, opacity=0), image)


def test_more_classes_lie_between_and_alone_a_light_one_is_green() -> None:
    image = torch.zeros(3, 1, 3)
    found = visualize(image, torch.tensor([[0, 1, 2]], dtype=torch.uint8), opacity=1)
    assert [tuple(pixel) for pixel in found[0]] == [GREEN, (130, 110, 55), RED]
    assert tuple(visualize(image, torch.zeros(1, 3, dtype=torch.uint8), opacity=1)[0, 0]) == GREEN


def test_values_of_any_type() -> None:
    classes = torch.zeros(2, 2, dtype=torch.uint8)
    for image in (torch.full((3, 2, 2), 0.4), np.full((2, 2, 3), 102, np.uint8), np.full((2, 2), 26214, np.uint16)):
        assert visualize(image, classes, opacity=0)[0, 0].tolist() == [102] * 3


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"the size of the image, \(2, 2\), got \(2, 3\)"):
        visualize(torch.zeros(3, 2, 2), torch.zeros(2, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="from 0 to 1"):
        visualize(torch.zeros(3, 2, 2), torch.zeros(2, 2, dtype=torch.uint8), opacity=2)
