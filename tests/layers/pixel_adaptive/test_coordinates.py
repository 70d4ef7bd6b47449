"""Pixels of the enlarged image among those of the small one: the authors' numbers, bit for bit."""

import pytest
import torch
import torch.nn.functional as F

from tests.models.super_resolution.golden import golden
from zoo.layers.pixel_adaptive.coordinates import axis_table, make_coords, output_size
from zoo.layers.pixel_adaptive.mlp import PixelUpsampler

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["coords_x4", "coords_x3", "coords_x2_5"])
def test_coordinates_are_the_authors(name):
    meta, tensors = golden(name)
    kwargs = meta["kwargs"]
    size = output_size(tuple(kwargs["lr_size"]), kwargs["scale"])
    assert size == tuple(kwargs["hr_size"])
    coord = make_coords(*size)
    torch.testing.assert_close(coord, tensors["out.coord"], rtol=0, atol=0)
    cell = torch.tensor([2 / n for n in size])
    torch.testing.assert_close(cell, tensors["out.cell"], rtol=0, atol=0)
    feat, wanted = tensors["in.feat"], tensors["out.sampler_input"]
    batch, channels = feat.shape[:2]
    got = PixelUpsampler(channels).inputs(feat, coord.expand(batch, -1, 2), cell.expand(batch, len(coord), 2))
    torch.testing.assert_close(got[..., :channels], wanted[..., :channels], rtol=0, atol=0)  # the same pixels
    torch.testing.assert_close(got, wanted, **meta["tolerance"])


@pytest.mark.parametrize("name", ["coords_x4", "coords_x3", "coords_x2_5"])
def test_two_axes_say_as_much_as_all_pixels(name):
    meta, tensors = golden(name)
    (h, w), (H, W) = meta["kwargs"]["lr_size"], meta["kwargs"]["hr_size"]
    rows, columns = axis_table(h, H, CPU), axis_table(w, W, CPU)
    wanted = tensors["out.sampler_input"][0].unflatten(0, (H, W))
    found = tensors["in.feat"][0][:, rows.index][:, :, columns.index]
    torch.testing.assert_close(found.permute(1, 2, 0), wanted[..., :-4], rtol=0, atol=0)
    torch.testing.assert_close(rows.relative[:, None].expand(H, W), wanted[..., -4], **meta["tolerance"])
    torch.testing.assert_close(columns.relative[None].expand(H, W), wanted[..., -3], **meta["tolerance"])


@pytest.mark.parametrize("sizes", [(7, 28), (5, 12), (64, 160), (33, 99), (97, 251), (480, 1200), (1, 3), (3, 3)])
def test_the_pixel_is_that_of_nearest_sampling(sizes):
    """As `grid_sample` finds it, halves included."""
    n_lr, n_hr = sizes
    table = axis_table(n_lr, n_hr, CPU)
    grid = torch.stack([make_coords(1, n_hr)[:, 1], torch.zeros(n_hr)], -1)[None, None]
    ramp = torch.arange(n_lr, dtype=torch.float32)[None, None, None]
    wanted = F.grid_sample(ramp, grid, mode="nearest", align_corners=False)[0, 0, 0]
    assert torch.equal(table.index.float(), wanted)
    assert table.relative.abs().max() < 1 + 1e-4


def test_tables_are_kept_and_serve_after_inference_mode():
    with torch.inference_mode():
        first = axis_table(11, 22, CPU)
    assert axis_table(11, 22, CPU) is first
    assert not first.relative.is_inference()


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_a_scale_that_is_no_size_is_refused(scale):
    with pytest.raises(ValueError, match="scale must be a finite number above 0, got"):
        output_size((4, 4), scale)


def test_halves_are_rounded_to_the_even_number():
    assert output_size((5, 7), 2.5) == (12, 18)
