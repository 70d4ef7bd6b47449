"""The network of one pixel: the authors' values and gradients, and the same of all pixels at once."""

import pytest
import torch

from tests.models.super_resolution.golden import golden, part_of
from zoo.layers.pixel_adaptive.coordinates import axis_table, make_coords, output_size
from zoo.layers.pixel_adaptive.mlp import PixelUpsampler


def _golden_layer(name, dtype):
    meta, tensors = golden(name)
    kwargs = meta["kwargs"]
    layer = PixelUpsampler(kwargs["in_dim"], kwargs["hidden_list"], kwargs["out_dim"])
    layer.load_state_dict(part_of(tensors, "state."))
    return meta, tensors, layer.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["sampler_deep", "classifier_linear"])
@pytest.mark.parametrize("form", ["queries", "dense"])
def test_values_and_gradients_are_the_authors(name, form, dtype):
    meta, tensors, layer = _golden_layer(name, dtype)
    feat = tensors["in.feat"].to(dtype).requires_grad_()
    size = output_size(tuple(feat.shape[2:]), meta["kwargs"]["scale"])
    if form == "queries":
        y = layer(feat, tensors["in.coord"], tensors["in.cell"])
    else:
        values = layer.dense(feat, size).flatten(2).mT
        y = values.gather(1, tensors["in.index"][..., None].expand(-1, -1, values.shape[-1]))
    torch.testing.assert_close(y, tensors["out.y"].to(dtype), **meta["tolerance"])
    y.backward(tensors["in.cotangent"].to(dtype))
    for key, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, tensors[f"grad.{key}"].to(dtype), **meta["tolerance"])
    torch.testing.assert_close(feat.grad, tensors["grad.feat"].to(dtype), **meta["tolerance"])


@pytest.mark.parametrize("hidden", [(), (6,), (6, 5, 7)])
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 1.5, 2.5, 3.7])
def test_all_pixels_at_once_are_those_one_by_one(hidden, scale):
    torch.manual_seed(0)
    layer = PixelUpsampler(4, hidden, 2, dtype=torch.float64)
    feat = torch.randn(2, 4, 6, 7, dtype=torch.float64)
    H, W = output_size((6, 7), scale)
    coord, cell = make_coords(H, W).expand(2, -1, 2), torch.tensor([2 / H, 2 / W]).expand(2, H * W, 2)
    wanted = layer(feat, coord, cell).mT.unflatten(2, (H, W))
    torch.testing.assert_close(layer.dense(feat, (H, W)), wanted, rtol=0, atol=1e-6)  # the axes are float32


def test_the_first_layer_is_a_sum_of_three():
    torch.manual_seed(0)
    layer = PixelUpsampler(4, (6,), 2)
    feat = torch.randn(1, 4, 5, 3)
    parts, rows, columns = layer.first_layer(feat, (10, 9))
    assert (parts.shape, rows.shape, columns.shape) == ((1, 5, 3, 6), (10, 6), (9, 6))
    y, x = (axis_table(*sizes, feat.device).index for sizes in ((5, 10), (3, 9)))
    coord, cell = make_coords(10, 9)[None], torch.tensor([2 / 10, 2 / 9]).expand(1, 90, 2)
    wanted = layer.linears[0](layer.inputs(feat, coord, cell)).unflatten(1, (10, 9))
    torch.testing.assert_close(parts[:, y][:, :, x] + rows[:, None] + columns, wanted)


def test_the_whole_can_be_differentiated():
    layer = PixelUpsampler(2, (3,), 2, dtype=torch.float64)
    feat = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: layer.dense(f, (5, 4)), feat)


@pytest.mark.parametrize("sizes", [(0, (4,), 3), (4, (0,), 3), (4, (), 0)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="must be at least 1, got"):
        PixelUpsampler(*sizes)
