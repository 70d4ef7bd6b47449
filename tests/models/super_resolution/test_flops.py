"""FLOPs to the integer of the published tables, costs of classes, other backbones, receptive radius."""

import pytest
import torch
from torch import nn

from tests.models.super_resolution.golden import NETWORKS as CLASSES
from tests.models.super_resolution.golden import description
from zoo.layers.pixel_adaptive.mlp import PixelUpsampler
from zoo.models.super_resolution.carn import CARN
from zoo.models.super_resolution.flops import PartFlops, costs, network_flops, part_flops, upsampler_flops
from zoo.models.super_resolution.fsrcnn import FSRCNN
from zoo.models.super_resolution.pcsr import PCSR
from zoo.models.super_resolution.structure import receptive_radius

MODELS = description("configs_flops")["models"]


def parts(name: str):
    config = MODELS[name]["config"]
    args = {key: value for key, value in config["encoder"]["args"].items() if key != "no_upsampling"}
    backbone = CLASSES[name](no_upsampling=True, **args, device="meta")
    classifier = PixelUpsampler(backbone.out_channels, config["classifier"], 2, device="meta")
    hidden = (config["light_sampler"], config["heavy_sampler"])
    return backbone, classifier, [PixelUpsampler(backbone.out_channels, widths, device="meta") for widths in hidden]


@pytest.fixture
def no_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network was run")

    monkeypatch.setattr(nn.Module, "__call__", refuse)


@pytest.mark.usefixtures("no_forward")
@pytest.mark.parametrize("name", MODELS)
def test_the_published_tables_to_the_integer(name: str) -> None:
    golden, (backbone, classifier, upsamplers) = MODELS[name], parts(name)
    original = CLASSES[name](device="meta")
    for side in (16, 32):
        row = golden[f"flops_{side}x{side}_x4"]
        found = part_flops(backbone, classifier, upsamplers, (side, side), (4 * side, 4 * side))
        assert found == (row["encoder"], row["classifier"], (row["light"], row["heavy"]))
        assert original.flops((side, side), 4) == row["original"]
    size, enlarged = (32, 32), (128, 128)
    assert original.flops(size, convention="true") == golden["original_true_flops_32x32_x4"]
    row = golden["factorised_flops_32x32_x4"]
    found = part_flops(backbone, classifier, upsamplers, size, enlarged, "factorised")
    assert found == (golden["encoder_true_flops_32x32"], row["classifier"], (row["light"], row["heavy"]))
    true = part_flops(backbone, classifier, upsamplers, size, enlarged, "true")
    assert true.upsamplers == part_flops(backbone, classifier, upsamplers, size, enlarged).upsamplers
    assert true.backbone == golden["encoder_true_flops_32x32"]


@pytest.mark.usefixtures("no_forward")
@pytest.mark.parametrize("name", MODELS)
def test_costs_and_parameters(name: str) -> None:
    golden, (backbone, classifier, upsamplers) = MODELS[name], parts(name)
    assert costs(backbone, upsamplers, 4) == pytest.approx(golden["cost_x4"], abs=1e-6)
    count = {part: sum(p.numel() for p in module.parameters()) for part, module in (
        ("original", CLASSES[name](device="meta")), ("encoder", backbone), ("classifier", classifier),
        ("light", upsamplers[0]), ("heavy", upsamplers[1]),
    )}  # fmt: skip
    assert count == {part: golden["params"][part] for part in count}


def test_a_backbone_of_unknown_structure_is_counted_by_what_it_runs() -> None:
    known = FSRCNN(no_upsampling=True, d=8, s=4, m=2)

    class Unknown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = known

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    for convention in ("paper", "true", "factorised"):
        assert network_flops(Unknown(), (9, 7), convention) == network_flops(known, (9, 7), convention)
    known = CARN(no_upsampling=True, nf=8).eval()
    assert network_flops(Unknown(), (9, 7)) == network_flops(known, (9, 7))


def test_a_whole_of_fractions() -> None:
    found = PartFlops(100, 10, (20, 200))
    assert found.whole() == 310
    assert found.whole((0.75, 0.25)) == pytest.approx(110 + 15 + 50)
    with pytest.raises(ValueError, match="2 numbers of at least 0 that add up to 1"):
        found.whole((0.5, 0.6))


def test_what_cannot_be_counted(unchecked: None) -> None:
    with pytest.raises(ValueError, match="did you mean 'paper'"):
        upsampler_flops(PixelUpsampler(4), 4, 16, "papre")
    original = FSRCNN(device="meta")
    with pytest.raises(ValueError, match="this FSRCNN enlarges by 4 alone, got scale=3"):
        original.flops((32, 32), 3)
    for network in (original, PCSR("fsrcnn", device="meta")):
        with pytest.raises(ValueError, match="did you mean 'true'"):
            network.flops((32, 32), convention="ture")
        with pytest.raises(TypeError, match=r"size must be \(height, width\), two whole numbers of pixels, got 32"):
            network.flops(32)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match=r"size must be of at least one pixel a side, got \(0, 32\)"):
            network.flops((0, 32))


@pytest.mark.parametrize(("name", "radius"), [("carn", 19), ("fsrcnn", 6), ("srresnet", 33)])
def test_receptive_radius(name: str, radius: int) -> None:
    assert receptive_radius(parts(name)[0]) == radius


@pytest.mark.parametrize("name", MODELS)
def test_receptive_radius_is_what_gradients_reach(name: str) -> None:
    torch.manual_seed(0)
    small = {"carn": {"nf": 8}, "fsrcnn": {"d": 8, "s": 4, "m": 2}, "srresnet": {"nf": 4, "nb": 3}}[name]
    backbone = CLASSES[name](no_upsampling=True, **small).double().eval()
    radius = receptive_radius(backbone)
    assert radius is not None
    side = 2 * radius + 5
    x = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    backbone(x)[0, :, side // 2, side // 2].pow(2).sum().backward()
    assert x.grad is not None
    reached = x.grad[0].abs().sum(0).nonzero()
    assert (reached - side // 2).abs().max() <= radius
    if name == "fsrcnn":  # no ReLU that could cut it short
        assert (reached - side // 2).abs().max() == radius


def test_receptive_radius_of_other_backbones() -> None:
    chain = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=2, dilation=2))
    assert receptive_radius(chain) == 3
    assert receptive_radius(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1))) is None
    assert receptive_radius(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3))) is None
    assert receptive_radius(nn.Sequential(nn.Conv2d(3, 4, 2, padding=1))) is None
    stated = nn.Module()
    stated.receptive_radius = 5  # pyright: ignore[reportAttributeAccessIssue]
    assert receptive_radius(stated) == 5
