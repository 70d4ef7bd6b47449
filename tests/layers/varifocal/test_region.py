"""Regions: boxes stay inside, every number has a gradient; rough targets are where they should be."""

from __future__ import annotations

import pytest
import torch

from tests.layers.varifocal.goldens import check_close, golden
from zoo.layers.varifocal import (
    LocalizationHead,
    centre_form,
    check_boxes,
    decode_region,
    foreground_region,
    pseudo_region,
    racnn_region,
    square_box,
)


@pytest.mark.parametrize("mode", ["inset", "clamp"])
@pytest.mark.parametrize("min_ratio", [0.01, 0.25, 1])
def test_boxes_are_squares_inside_the_image(mode, min_ratio):
    region = torch.cat([torch.rand(500, 3), torch.cartesian_prod(*3 * [torch.tensor([0.0, 0.5, 1])])])
    boxes = decode_region(region, mode, min_ratio)
    check_boxes(boxes)
    sides = boxes[:, 2:] - boxes[:, :2]
    torch.testing.assert_close(sides[:, 0], sides[:, 1], rtol=0, atol=1e-6)
    torch.testing.assert_close(sides[:, 0], min_ratio + (1 - min_ratio) * region[:, 2], rtol=0, atol=1e-6)
    torch.testing.assert_close(square_box(centre_form(boxes)), boxes, rtol=0, atol=1e-6)


def test_inset_boxes_pass_a_gradient_to_every_number():
    region = torch.tensor([[0.001, 0.999, 0.6], [0.5, 0.5, 0.001]], requires_grad=True)
    weights = torch.tensor([1.0, 2, 3, 5])
    (decode_region(region) * weights).sum().backward()
    assert (region.grad != 0).all()
    clamped = torch.tensor([[0.001, 0.999, 0.6]], requires_grad=True)
    (decode_region(clamped, "clamp") * weights).sum().backward()
    assert (clamped.grad[0, :2] == 0).all()  # why "inset" is the default


def test_a_rough_target_is_the_strongest_cell():
    features = torch.zeros(3, 2, 4, 8)
    features[0, :, 1, 3] = 1
    features[1, 0, 3, 7] = 5
    features[2, 1, 0, 0] = 2
    wanted = torch.tensor([[3.5 / 8, 1.5 / 4, 0.5], [0.75, 0.75, 0.5], [0.25, 0.25, 0.5]])
    torch.testing.assert_close(pseudo_region(features), wanted)
    torch.testing.assert_close(pseudo_region(features, 0.1)[1], torch.tensor([0.9, 3.5 / 4, 0.2]))
    with pytest.raises(ValueError, match=r"half must be above 0 and at most 0\.5"):
        pseudo_region(features, 0.6)


def test_the_rough_target_of_peers():
    _, tensors = golden("racnn_crop")
    check_close(racnn_region(tensors["in.feat1"], 448), tensors["out.weak_loc1"], 1e-7)
    check_close(racnn_region(tensors["in.feat2"], 224), tensors["out.weak_loc2"], 1e-7)


def test_the_foreground_is_where_the_object_is():
    images = torch.zeros(4, 1, 20, 40)
    images[0, :, 4:12, 10:20] = 0.7  # a rectangle: centroid in its middle, 8 of 20 rows, 10 of 40 columns
    images[1, :, 0:2, 0:2] = 1  # in a corner: smaller than the smallest side, moved inside
    images[3, :, :, 5] = 1  # as high as the image
    found = foreground_region(images)
    wanted = torch.tensor([[15 / 40, 8 / 20, 0.4], [0.125, 0.125, 0.25], [0.5, 0.5, 1], [0.5, 0.5, 1]])
    torch.testing.assert_close(found, wanted)
    check_boxes(square_box(found))
    torch.testing.assert_close(foreground_region(images, threshold=0.8)[0], torch.tensor([0.5, 0.5, 1.0]))


def test_the_localisation_begins_about_the_middle_and_says_float32():
    torch.manual_seed(0)
    head = LocalizationHead(6, pool=4, hidden=10)
    region = head(torch.rand(5, 6, 9, 9))
    assert region.shape == (5, 3)
    assert float((region.detach() - 0.5).abs().max()) < 0.4
    assert head.to(torch.bfloat16)(torch.rand(5, 6, 8, 8, dtype=torch.bfloat16)).dtype == torch.float32
    with pytest.raises(ValueError, match="must be at least 1"):
        LocalizationHead(6, pool=0)


def test_any_size_of_map_is_pooled_to_the_same_cells():
    head = LocalizationHead(2, pool=4, hidden=3)
    features = torch.randn(2, 2, 8, 8)
    torch.testing.assert_close(head(features), head(features.repeat_interleave(3, 2).repeat_interleave(2, 3)))
    assert head(torch.randn(2, 2, 5, 3)).shape == (2, 3)
