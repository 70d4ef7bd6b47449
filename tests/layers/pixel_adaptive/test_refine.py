"""Pixels beside those of a heavier class."""

import pytest
import torch

from zoo.layers.pixel_adaptive import reference
from zoo.layers.pixel_adaptive.refine import refined


def _by_hand(image, classes):
    result = image.clone()
    for b, y, x in _inside(image):
        around = classes[b, y - 1 : y + 2, x - 1 : x + 2]
        if around.max() > classes[b, y, x]:
            result[b, :, y, x] = image[b, :, y - 1 : y + 2, x - 1 : x + 2].mean((1, 2))
    return result


def _inside(image):
    batch, _, height, width = image.shape
    return [(b, y, x) for b in range(batch) for y in range(1, height - 1) for x in range(1, width - 1)]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("size", [(9, 11), (3, 3), (2, 7), (7, 1)])
def test_they_become_the_mean_around_them(count, size):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    classes = torch.randint(0, count, (2, *size), generator=generator, dtype=torch.uint8)
    wanted = _by_hand(image, classes)
    torch.testing.assert_close(refined(image, classes), wanted)
    plain = reference.refined(image.flatten(2).mT, classes.flatten(1), size)
    torch.testing.assert_close(plain.mT.unflatten(2, size), wanted)


def test_one_class_has_no_seams():
    image = torch.randn(1, 3, 6, 6)
    for place in (0, 1):
        classes = torch.full((1, 6, 6), place, dtype=torch.uint8)
        assert torch.equal(refined(image, classes), image)
