"""The crop: reference values and gradients, an identity, true gradients, precision, refusals."""

from __future__ import annotations

import re

import jaxtyping
import pytest
import torch
import torch.nn.functional as F

from tests.layers.varifocal.goldens import check_close, golden
from zoo.layers.varifocal import VarifocalCrop, boxcar_mask, check_boxes, decode_region, racnn_crop, varifocal_crop


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["crop_inset", "crop_rect_clamp"])
def test_values_and_gradients_are_the_references(name, dtype):
    kwargs, tensors = golden(name)
    images, region = (tensors[f"in.{key}"].to(dtype).requires_grad_() for key in ("image", "region"))
    layer = VarifocalCrop(kwargs["size"], box_mode=kwargs["mode"], min_ratio=kwargs["min_ratio"])
    crop, box = layer(images, region)
    check_close(box, tensors["out.box"], 1e-6)
    check_close(crop, tensors["out.crop"], 1e-5)
    (crop * tensors["in.cotangent"]).sum().backward()
    check_close(images.grad, tensors["grad.image"], 1e-5)
    check_close(region.grad, tensors["grad.region"], 1e-5)
    mask = boxcar_mask(box, images.shape[2:], kwargs["boxcar_k"])
    check_close(mask, tensors["out.boxcar_mask"], 1e-5)


@pytest.mark.parametrize(
    ("size", "dtype"), [((64, 64), torch.float32), ((256, 256), torch.float32), ((30, 44), torch.float64)]
)
def test_the_whole_image_at_half_its_size_is_average_pooling(size, dtype):
    images = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(0), dtype=dtype)
    whole = torch.tensor([[0.0, 0, 1, 1]]).expand(3, 4)
    crop = varifocal_crop(images, whole, (size[0] // 2, size[1] // 2))
    torch.testing.assert_close(crop, F.avg_pool2d(images, 2), rtol=0, atol=1e-6)


def test_the_whole_image_at_its_size_is_the_image():
    images = torch.rand(2, 1, 9, 13, generator=torch.Generator().manual_seed(0))
    crop = varifocal_crop(images, torch.tensor([[0.0, 0, 1, 1]]).expand(2, 4), (9, 13))
    torch.testing.assert_close(crop, images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["inset", "clamp"])
def test_gradients_are_the_true_ones(mode):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 2, 7, 9, dtype=torch.float64, generator=generator, requires_grad=True)
    boxes = torch.tensor([[0.11, 0.23, 0.57, 0.81], [0.32, 0.08, 0.93, 0.61]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, b: varifocal_crop(x, b, (4, 5)), (images, boxes))
    region = torch.tensor([[0.43, 0.52, 0.31], [0.61, 0.47, 0.12]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, u: VarifocalCrop((4, 5), box_mode=mode)(x, u)[0], (images, region))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_places_are_exact_in_half_precision(dtype):
    """The image is rounded, the places are not: the crop is that of the rounded image."""
    images = torch.rand(2, 1, 256, 256, generator=torch.Generator().manual_seed(0)).to(dtype)
    boxes = torch.tensor([[0.1, 0.2, 0.71, 0.81], [0.333, 0.011, 0.997, 0.675]])
    crop = varifocal_crop(images, boxes, 128)
    assert crop.dtype == dtype
    assert torch.equal(crop, varifocal_crop(images.float(), boxes, 128).to(dtype))


def test_under_autocast_places_are_exact():
    images, boxes = torch.rand(2, 1, 64, 64), torch.tensor([[0.1, 0.2, 0.71, 0.81], [0.3, 0.01, 0.9, 0.61]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        crop = varifocal_crop(images, boxes, 32)
    assert torch.equal(crop, varifocal_crop(images, boxes, 32))


def test_each_image_has_its_box():
    images = torch.rand(3, 1, 20, 20)
    boxes = decode_region(torch.rand(3, 3))
    together = varifocal_crop(images, boxes, 8)
    alone = torch.cat([varifocal_crop(images[i : i + 1], boxes[i : i + 1], 8) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)
    assert varifocal_crop(images[:0], boxes[:0], 8).shape == (0, 1, 8, 8)


def test_the_crop_of_peers():
    kwargs, tensors = golden("racnn_crop")
    crop = racnn_crop(tensors["in.image"], tensors["in.locs"], kwargs["out_size"], kwargs["k"])
    check_close(crop[:, :, ::4, ::4], tensors["out.crop_stride4"], 1e-4)
    with pytest.raises(ValueError, match="of square images"):
        racnn_crop(torch.rand(1, 1, 8, 9), torch.rand(1, 3))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (torch.rand(4), r"boxes must be \(batch, 4\).*got \(4,\)"),
        (torch.rand(2, 3), r"boxes must be \(batch, 4\).*got \(2, 3\)"),
        (torch.tensor([[0.5, 0.1, 0.5, 0.9]]), "must have x0 < x1"),
        (torch.tensor([[0.1, 0.9, 0.5, 0.2]]), "must have x0 < x1 and y0 < y1"),
        (torch.tensor([[0.1, 0.1, 0.5, 1.2]]), "inside the image"),
        (torch.tensor([[-0.1, 0.1, 0.5, 0.9]]), "inside the image"),
        (torch.tensor([[float("nan"), 0.1, 0.5, 0.9]]), "inside the image"),
        (torch.tensor([[10.0, 20, 100, 120]]), "divide pixels by size"),
    ],
)
def test_boxes_that_are_none_are_refused(boxes, message):
    with pytest.raises(ValueError, match=message):
        check_boxes(boxes)


@pytest.fixture
def unchecked():
    """Without the session's run-time checks of annotations, which would speak before our own messages do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


BAD = {
    "NaN": (torch.tensor([[float("nan"), 0.1, 0.5, 0.9]]), ValueError, "inside the image, all .* got .nan"),
    "inverted": (torch.tensor([[0.5, 0.1, 0.2, 0.9]]), ValueError, r"must have x0 < x1 and y0 < y1, got \[0\.5"),
    "pixels": (torch.tensor([[10.0, 20, 30, 40]]), ValueError, r"got \[10\.0, .*; divide pixels by size"),
    "whole pixels": (torch.tensor([[10, 20, 30, 40]]), ValueError, r"got \[10, .*; divide pixels by size"),
    "list": ([[0.1, 0.1, 0.5, 0.9]], TypeError, r"boxes must be a tensor .*got list; torch\.as_tensor"),
    "flat": (torch.tensor([0.1, 0.1, 0.5, 0.9]), ValueError, r"boxes must be \(batch, 4\), .* got \(4,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_boxes_are_refused_where_they_are_used(unchecked, case):
    boxes, error, message = BAD[case]
    for call in (lambda: varifocal_crop(torch.rand(1, 1, 8, 8), boxes, 4), lambda: boxcar_mask(boxes, (8, 8))):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("size", [0, -1, 2.5, (2, 2, 2), (2, 2.5), True, "4"])
def test_bad_sizes_are_refused(unchecked, size):
    images, boxes = torch.rand(1, 1, 8, 8), torch.tensor([[0.1, 0.1, 0.5, 0.9]])
    message = f"size must be one side or (height, width), whole numbers from 1, got {size!r}"
    calls = (lambda: varifocal_crop(images, boxes, size), lambda: boxcar_mask(boxes, size), lambda: VarifocalCrop(size))
    for call in calls:
        with pytest.raises(ValueError, match=re.escape(message)):
            call()
    with pytest.raises(ValueError, match="k must be a steepness above 0, got 0"):
        boxcar_mask(boxes, 8, 0)


def test_values_are_not_looked_at_where_that_would_break_or_wait():
    """Transformed code has no values to look at; a box of the wrong kind then gives what it gives."""
    images, boxes = torch.rand(3, 1, 8, 8), torch.tensor([[0.1, 0.1, 0.5, 0.9]]).expand(3, 4)
    each = torch.func.vmap(lambda x, box: varifocal_crop(x[None], box[None], 4)[0])(images, boxes)
    assert torch.equal(each, varifocal_crop(images, boxes, 4))
    with pytest.raises(ValueError, match="inside the image"):
        varifocal_crop(images, (boxes + 1).requires_grad_(), 4)  # learning on a CPU waits for nobody


def test_a_crop_that_is_none_is_refused():
    with pytest.raises(ValueError, match="did you mean 'clamp'"):
        VarifocalCrop(4, box_mode="clmp")
    with pytest.raises(ValueError, match="min_ratio must be above 0"):
        VarifocalCrop(4, min_ratio=0)


def test_without_values_there_is_a_shape():
    images, boxes = torch.rand(2, 3, 8, 8, device="meta"), torch.rand(2, 4, device="meta")
    assert varifocal_crop(images, boxes, (4, 6)).shape == (2, 3, 4, 6)
