"""CARN without its batch norms, and features in bands."""

import pytest
import torch

from tests.models.super_resolution.golden import network
from zoo.models.super_resolution import tiles
from zoo.models.super_resolution.carn import CARN
from zoo.models.super_resolution.folding import can_fold, folded_features
from zoo.models.super_resolution.structure import receptive_radius

SMALL = {"fsrcnn": {"d": 8, "s": 4, "m": 2}, "carn": {"nf": 8}, "srresnet": {"nf": 8, "nb": 2}}


def carn(dtype=torch.float32) -> CARN:
    """Its batch norms have seen something."""
    torch.manual_seed(0)
    model = CARN(nf=8, no_upsampling=True).to(dtype)
    with torch.no_grad():
        for _ in range(5):
            model(torch.rand(2, 3, 12, 12, dtype=dtype))
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("shape", [(1, 3, 9, 7), (3, 3, 5, 90), (1, 3, 1, 1), (1, 3, 80, 70)])
def test_folded(shape, dtype, tolerance):
    model, x = carn(dtype), torch.rand(shape, dtype=dtype)
    assert can_fold(model, x)
    torch.testing.assert_close(folded_features(model, x), model(x), atol=tolerance, rtol=0)
    assert folded_features(model, x).is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def test_weights_and_statistics_that_change_are_seen():
    model, x = carn(), torch.rand(1, 3, 9, 7)
    folded_features(model, x)
    for change in (model.b2.c1[1].running_mean, model.b1.b1.body[4].bias, model.c3[0].weight):
        assert isinstance(change, torch.Tensor)
        change.add_(0.1)
        torch.testing.assert_close(folded_features(model, x), model(x), atol=2e-6, rtol=0)


def test_what_learns_is_not_folded():
    model, x = carn(), torch.rand(1, 3, 9, 7)
    assert not can_fold(model, x)
    tiles.quick_features(model, x).sum().backward()
    assert model.c3[0].weight.grad is not None
    with torch.no_grad():
        assert can_fold(model, x)
        model.b1.c1[1].train()
        assert not can_fold(model, x)
        assert not can_fold(torch.nn.Identity(), x)


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_bands_are_the_whole(name, monkeypatch):
    torch.manual_seed(0)
    model = network(name, no_upsampling=True, **SMALL[name]).eval()
    x = torch.rand(2, 3, 101, 40)
    wanted = model(x)
    radius = receptive_radius(model)
    monkeypatch.setattr(tiles, "_BAND_PIXELS", 1000)
    monkeypatch.setattr(tiles, "_BAND_RADII", 1)
    assert len(tiles.spans(101, max(25, radius), radius)) > 2
    found = tiles.quick_features(model, x)
    torch.testing.assert_close(found, wanted, atol=2e-6 * float(wanted.abs().max()), rtol=0)


def test_spans_cover_an_axis_once():
    for length, longest, radius in ((10, 3, 2), (1, 8, 5), (64, 64, 3), (65, 64, 3)):
        found = tiles.spans(length, longest, radius)
        assert [p for span in found for p in range(span.begin, span.end)] == list(range(length))
        assert all(span.end - span.begin <= longest for span in found)
        for span in found:
            assert span.first == max(0, span.begin - radius)
            assert span.last == min(length, span.end + radius)
            assert list(range(span.first, span.last))[span.kept] == list(range(span.begin, span.end))
    assert len(list(tiles.tiles_of(65, 64, 64, 3))) == 2
