"""Values by grouped pixels and by planes are those of the plain form."""

import copy

import pytest
import torch

from zoo.layers.pixel_adaptive import routing
from zoo.layers.pixel_adaptive.mlp import PixelUpsampler
from zoo.layers.pixel_adaptive.refine import refine_, refined

HIDDEN = [(), (5,), (20, 20, 20), (40, 33), (74, 74)]
SIZES = [
    ((6, 5), (24, 20)),
    ((7, 9), (17, 23)),
    ((1, 1), (4, 4)),
    ((5, 4), (5, 4)),
    ((3, 2), (60, 61)),
    ((3, 2), (9, 6)),
]
TOLERANCES = {torch.float32: 2e-6, torch.float64: 1e-13, torch.bfloat16: 0.1}


def networks(dtype=torch.float32):
    torch.manual_seed(0)
    return [PixelUpsampler(12, hidden, 3).to(dtype) for hidden in HIDDEN]


@torch.no_grad()
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("small", "size"), SIZES)
def test_all_pixels(small, size, dtype):
    features = torch.randn(2, 12, *small).to(dtype)
    grid = routing.grid_of(small, size, features.device)
    for network in networks(dtype):
        wanted = network.dense(features, size)
        close = {"atol": TOLERANCES[dtype], "rtol": 0}
        torch.testing.assert_close(routing.values_of_all(network, features, size), wanted, **close)
        rows = torch.empty(3, size[0] * size[1], dtype=dtype)
        routing._by_rows(network, routing._rows(features[1], dtype), grid, rows)
        torch.testing.assert_close(rows.view(3, *size), wanted[1], **close)
        routing._by_planes(network, routing._rows(features[0], dtype), grid, rows)
        torch.testing.assert_close(rows.view(3, *size), wanted[0], **close)


@torch.no_grad()
@pytest.mark.parametrize(("small", "size"), SIZES)
def test_parts_of_an_image(small, size):
    features = torch.randn(1, 12, *small)
    rows, columns = slice(small[0] // 3, small[0]), slice(small[1] // 3, max(small[1] - 1, 1))
    grid = routing.grid_of(small, size, features.device, (rows, columns))
    own = tuple(routing.enlarged_span(m, n, s) for m, n, s in zip(small, size, (rows, columns), strict=True))
    assert grid.size == tuple(span.stop - span.start for span in own)
    for network in networks():
        wanted = network.dense(features, size)[:, :, own[0], own[1]]
        found = routing.values_on(network, features[:, :, rows, columns], grid)
        torch.testing.assert_close(found, wanted, atol=2e-6, rtol=0)
        classes = torch.zeros(1, *grid.size, dtype=torch.uint8)
        found = routing.by_class([network, networks()[1]], features[:, :, rows, columns], classes, grid)
        torch.testing.assert_close(found, wanted, atol=2e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    "parts",
    [(0.2, 0.2, 0.2, 0.2, 0.2), (0.96, 0.04, 0, 0, 0), (0, 0, 0.6, 0.4, 0), (0, 0, 0.04, 0, 0.96), (0, 0, 0, 1, 0)],
)
@pytest.mark.parametrize(("small", "size"), SIZES)
def test_every_pixel_by_the_network_of_its_class(small, size, parts):
    features = torch.randn(2, 12, *small)
    drawn = torch.multinomial(torch.tensor(parts, dtype=torch.float32), 2 * size[0] * size[1], replacement=True)
    classes = drawn.view(2, *size).to(torch.uint8)
    all_of_them = torch.stack([network.dense(features, size) for network in networks()])
    wanted = all_of_them.gather(0, classes[None, :, None].expand(1, -1, 3, -1, -1).long())[0]
    found = routing.by_class(networks(), features, classes)
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("small", "size"), SIZES)
def test_bands_of_rows(small, size, monkeypatch):
    monkeypatch.setattr(routing, "_BAND", 2 * small[1])
    test_every_pixel_by_the_network_of_its_class(small, size, (0.0, 0.0, 0.5, 0.0, 0.5))
    features, out, network = torch.randn(1, 12, *small), torch.empty(3, size[0] * size[1]), networks()[3]
    grid = routing.grid_of(small, size, features.device)
    routing._by_rows(network, routing._rows(features[0], torch.float32), grid, out)
    torch.testing.assert_close(out.view(3, *size), network.dense(features, size)[0], atol=2e-6, rtol=0)


@torch.no_grad()
def test_batches_and_memory_layouts_change_nothing():
    features, network = torch.randn(3, 12, 6, 7), networks()[2]
    wanted = routing.values_of_all(network, features, (24, 28))
    alone = torch.cat([routing.values_of_all(network, one[None], (24, 28)) for one in features])
    assert torch.equal(alone, wanted)
    for other in (features.contiguous(memory_format=torch.channels_last), features.mT.contiguous().mT):
        torch.testing.assert_close(routing.values_of_all(network, other, (24, 28)), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_edited_weights_are_seen(hidden):
    network, features = PixelUpsampler(4, hidden, 3), torch.randn(1, 4, 5, 5)
    with torch.no_grad():
        routing.values_of_all(network, features, (20, 20))
        network.linears[-1].weight.mul_(2)
        copied = copy.deepcopy(network)
        copied.linears[0].bias.add_(1)
        for one in (network, copied):
            found = routing.values_of_all(one, features, (20, 20))
            torch.testing.assert_close(found, one.dense(features, (20, 20)), atol=2e-6, rtol=0)
    network.double()
    with torch.no_grad():
        assert routing.values_of_all(network, features.double(), (20, 20)).dtype == torch.float64


def test_gradients_pass_where_they_are_wanted():
    network, features = networks()[1], torch.randn(1, 12, 3, 3, requires_grad=True)
    routing.values_of_all(network, features, (12, 12)).sum().backward()
    assert features.grad is not None
    assert all(p.grad is not None for p in network.parameters())
    frozen = networks()[1].requires_grad_(False)
    assert not routing.without_gradients(features, [frozen])
    assert routing.without_gradients(features.detach(), [frozen])


@torch.no_grad()
def test_autocast_computes_in_bfloat16_and_gives_float32():
    features, network = torch.randn(1, 12, 6, 6), networks()[4]
    with torch.autocast("cpu", torch.bfloat16):
        found = routing.values_of_all(network, features, (24, 24))
    wanted = network.dense(features, (24, 24))
    assert found.dtype == torch.float32
    assert 0 < (found - wanted).abs().max() < 0.05
    assert torch.allclose(routing.values_of_all(network, features, (24, 24)), wanted, atol=2e-6)


@pytest.mark.parametrize("shape", [(2, 3, 9, 11), (1, 3, 3, 3), (1, 1, 2, 9), (1, 3, 200, 300)])
@pytest.mark.parametrize("classes", [2, 3])
def test_refinement_in_place(shape, classes):
    image, chosen = torch.randn(shape), torch.randint(classes, (shape[0], *shape[2:])).to(torch.uint8)
    wanted = refined(image, chosen)
    torch.testing.assert_close(refine_(image.clone(), chosen), wanted, atol=1e-6, rtol=0)
    spread = image.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(refine_(spread, chosen), wanted, atol=1e-6, rtol=0)
