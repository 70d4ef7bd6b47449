"""FSRCNN, CARN-M and SRResNet: what the authors' code gave, published sizes, scales and normalisation."""

import pytest
import torch
import torch.nn.functional as F

from tests.models.super_resolution.golden import NETWORKS, description, golden, network, part_of

WIDTH = {"fsrcnn": "d", "carn": "nf", "srresnet": "nf"}
SMALL = {"fsrcnn": {"d": 8, "s": 4, "m": 2}, "carn": {"nf": 8}, "srresnet": {"nf": 8, "nb": 2}}


def _images(*shape, seed=0, **options):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("form", ["encoder", "x4"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_give_what_the_authors_code_gives(name, form, dtype):
    meta, tensors = golden(f"{name}_{form}")
    model = network(name, **meta["kwargs"]).eval()
    missing = model.load_state_dict(part_of(tensors, "state."), strict=False)
    assert not missing.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
    got = model.to(dtype)(tensors["in.x"].to(dtype))
    torch.testing.assert_close(got, tensors["out.y"].to(dtype), **meta["tolerance"])


@pytest.mark.parametrize("name", NETWORKS)
def test_published_numbers_of_parameters(name):
    published = description("configs_flops")["models"][name]
    count = published["params"]
    assert sum(p.numel() for p in network(name).parameters()) == count["original"]
    encoder = network(name, **published["config"]["encoder"]["args"])
    assert sum(p.numel() for p in encoder.parameters()) == count["encoder"]
    assert encoder.out_channels == published["config"]["encoder"]["args"][WIDTH[name]]


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name, cls in NETWORKS.items() for scale in cls.scales])
def test_every_scale_that_there_is_a_tail_for(name, scale):
    y = network(name, scale=scale, **SMALL[name]).eval()(_images(2, 3, 5, 7))
    assert y.shape == (2, 3, 5 * scale, 7 * scale)


@pytest.mark.parametrize(
    ("name", "scale", "allowed"), [("fsrcnn", 2, "4"), ("carn", 5, "2, 3, 4, 8"), ("srresnet", 8, "2, 3, 4")]
)
def test_a_scale_without_a_tail_is_refused(name, scale, allowed):
    with pytest.raises(ValueError, match=f"no tail for scale {scale}; it has one for {allowed}$"):
        network(name, scale=scale)
    assert network(name, scale=scale, no_upsampling=True, **SMALL[name]).scale == scale  # an encoder has no tail


@pytest.mark.parametrize("name", NETWORKS)
def test_mean_and_deviation_go_before_the_network_and_come_back_after_it(name):
    torch.manual_seed(0)
    plain = network(name, **SMALL[name]).eval()
    mean, std = (0.4, 0.5, 0.6), (0.5, 0.25, 2.0)
    model = network(name, mean=mean, std=std, **SMALL[name]).eval()
    model.load_state_dict(plain.state_dict())
    x = _images(1, 3, 6, 5)
    m, s = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
    torch.testing.assert_close(model(x), plain((x - m) / s) * s + m)


@pytest.mark.parametrize("given", [{"mean": (0.5,)}, {"std": (1.0, 0.0, 1.0)}])
def test_means_and_deviations_that_do_not_fit_are_refused(given):
    with pytest.raises(ValueError, match="mean and std must be 3 numbers"):
        network("carn", **given)


@pytest.mark.parametrize("name", ["fsrcnn", "srresnet"])
def test_a_new_network_begins_small(name):
    """Near nothing for FSRCNN, near the bilinearly enlarged image for SRResNet."""
    torch.manual_seed(0)
    x = _images(1, 3, 8, 8)
    wanted = F.interpolate(x, scale_factor=4, mode="bilinear") if name == "srresnet" else torch.zeros(1, 3, 32, 32)
    assert (network(name)(x) - wanted).abs().max() < 0.2


def test_encoders_are_shift_invariant_inside():
    """A pixel sees as far as the convolutions reach: 19 pixels in CARN, 6 in FSRCNN, 2 and 2 a block in SRResNet."""
    for name, radius in (("fsrcnn", 6), ("carn", 19), ("srresnet", 33)):
        torch.manual_seed(0)
        small = {k: v for k, v in SMALL[name].items() if k not in ("m", "nb")}
        model = network(name, no_upsampling=True, **small).eval().double()
        x = _images(1, 3, 1, 2 * radius + 9, dtype=torch.float64)
        changed = x.clone()
        changed[..., 0] += 1.0
        moved = (model(changed) - model(x)).abs().amax((0, 1, 2)).nonzero().max()
        assert moved <= radius
