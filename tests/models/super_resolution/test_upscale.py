"""Pictures in tiles are pictures as a whole; budgets of memory and of FLOPs; what pictures may be."""

import re

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import zoo.models.super_resolution.upscale as module
from zoo.models.super_resolution.checks import Policy
from zoo.models.super_resolution.pcsr import PCSR

BACKBONES = {
    "fsrcnn": {"name": "fsrcnn", "d": 8, "s": 4, "m": 2},
    "carn": {"name": "carn", "nf": 8},
    "srresnet": {"name": "srresnet", "nf": 6, "nb": 3},
}
POLICIES = [
    {},
    {"k": 0.5},
    {"policy": "adm"},
    {"policy": "target", "target": 0.8},
    {"policy": "heavy"},
    {"policy": "light"},
    {"refine": False},
]


def model_of(name: str = "carn", *, hidden=((6,), (40, 40)), classifier=(5,), mean=(0.4, 0.5, 0.6)) -> PCSR:
    """A network whose pixels are of both classes."""
    torch.manual_seed(0)
    model = PCSR(BACKBONES[name], hidden, classifier, mean=mean).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that classes and networks differ from pixel to pixel
            parameter.mul_(2)
        scores = model.scores(model.encoder(model.normalisation(picture(24, 24))), (96, 96))
        middle = (scores[:, 1:] - scores[:, :1]).flatten(2).median(2).values[0]
        model.classifier.linears[-1].bias[1:] -= middle
    return model


def picture(height: int, width: int, seed: int = 1) -> torch.Tensor:
    noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return (F.avg_pool2d(F.pad(noise, (2,) * 4, mode="replicate"), 5, 1) + 0.5).clamp(0, 1)


def check(model: PCSR, x: torch.Tensor, tile: int, **how) -> None:
    with torch.no_grad():
        wanted, info = model(x, return_info=True, **how)
    found, told = model.upscale(x[0], tile=tile, out="float32", return_info=True, **how)
    near = {"atol": 2e-6 * float(wanted.abs().max()), "rtol": 0}
    found = torch.from_numpy(found).permute(2, 0, 1)[None]
    moved = told.class_map != info.class_map
    if moved.any():  # where the margin is below what float32 tells apart
        assert moved.sum() <= 2
        found = torch.where(F.max_pool2d(moved.float(), 3, 1, 1).bool()[:, None], wanted, found)
    torch.testing.assert_close(found, wanted, **near)
    assert told.fractions.tolist()[0] == pytest.approx(info.fractions.tolist()[0], abs=1e-3)


@pytest.mark.parametrize("how", POLICIES, ids=str)
@pytest.mark.parametrize("name", BACKBONES)
def test_tiles_are_the_whole(name: str, how: dict) -> None:
    check(model_of(name), picture(47, 39), 13, **how)


@pytest.mark.parametrize(
    ("height", "width", "tile"), [(9, 70, 16), (5, 3, 64), (64, 64, 64), (65, 1, 8), (130, 70, 64)]
)
def test_odd_sizes_and_sizes_below_a_tile(height: int, width: int, tile: int) -> None:
    for how in ({}, {"policy": "adm"}):
        check(model_of("fsrcnn"), picture(height, width), tile, **how)


@pytest.mark.filterwarnings("ignore:the network learnt to enlarge by")
@pytest.mark.parametrize("asked", [{"scale": 2.5}, {"scale": 3}, {"size": (101, 83)}, {"scale": 1}])
def test_other_scales(asked: dict) -> None:
    model, x = model_of("fsrcnn"), picture(37, 41)
    for how in ({}, {"policy": "adm"}):
        check(model, x, 12, **asked, **how)


def test_three_classes() -> None:
    for how in ({}, {"k": 0.3}, {"policy": "adm"}, {"policy": "target", "target": 0.85}):
        check(model_of("fsrcnn", hidden=((4,), (10, 10), (40, 40))), picture(31, 40), 14, **how)


@pytest.mark.parametrize("target", [0.7, 0.8, 0.93, 1.0])
def test_a_budget_is_met_within_a_pixel(target: float) -> None:
    model = model_of("fsrcnn")
    x = picture(23, 31)
    small, enlarged = (23, 31), (92, 124)
    parts = model.parts(small, enlarged)
    _, info = model.upscale(x[0], policy="target", target=target, tile=9, return_info=True)
    step = (parts.upsamplers[1] - parts.upsamplers[0]) / (92 * 124)
    assert 0 <= target * parts.whole() - info.flops["paper"][0] < step * (1 + 1e-6)


def test_costs_fall_with_k_and_rise_with_the_target() -> None:
    model, x = model_of("carn"), picture(20, 22)[0]

    def flops(**how) -> float:
        return model.upscale(x, tile=11, return_info=True, **how)[1].flops["true"][0]

    of_k = [flops(k=k) for k in (-25, -1, -0.2, 0, 0.2, 1, 25)]
    assert of_k == sorted(of_k, reverse=True)
    assert of_k[0] > of_k[3] > of_k[-1]
    of_target = [flops(policy="target", target=target) for target in (0.75, 0.8, 0.9, 1)]
    assert of_target == sorted(of_target)


def test_what_a_picture_may_be(tmp_path) -> None:
    model = model_of("fsrcnn")
    values = (picture(12, 14)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    wanted = model.upscale(values)
    assert wanted.shape == (48, 56, 3)
    assert wanted.dtype == np.uint8
    Image.fromarray(values).save(tmp_path / "picture.png")
    tensor = torch.from_numpy(values).permute(2, 0, 1)
    for same in (tmp_path / "picture.png", str(tmp_path / "picture.png"), Image.fromarray(values), tensor):
        assert np.array_equal(model.upscale(same), wanted)
    for near in (values.astype(np.uint16) * 257, (values / 255).astype(np.float32), tensor.double() / 255, values[::1]):
        assert np.abs(model.upscale(near).astype(int) - wanted).max() <= 1
    assert np.array_equal(model.upscale(values[::-1]), model.upscale(values[::-1].copy()))
    turned = Image.fromarray(values)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert model.upscale(tmp_path / "turned.jpg").shape == (56, 48, 3)
    grey = model.upscale(values[..., 0])
    assert np.array_equal(grey, model.upscale(np.repeat(values[..., :1], 3, 2)))
    deep = model.upscale(values, out="uint16").astype(int)
    assert np.abs(deep / 257 - wanted).max() <= 0.51
    exact = model.upscale(values, out="float32")
    assert np.abs(exact.clip(0, 1) * 255 - wanted).max() <= 0.501


def test_tiles_are_told_of_and_modes_stay() -> None:
    model, told = model_of("fsrcnn").train(), []
    model.upscale(picture(20, 20)[0], tile=10, on_tile=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert model.training
    told.clear()
    model.upscale(picture(20, 20)[0], tile=10, policy="adm", on_tile=lambda done, total: told.append((done, total)))
    assert told[-1] == (8, 8)


@pytest.mark.parametrize("how", [{"policy": "adm"}, {"policy": "target", "target": 0.8}], ids=str)
def test_features_are_kept_or_computed_again(how: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = model_of("fsrcnn"), picture(30, 28)[0]
    wanted = model.upscale(x, tile=10, **how)
    monkeypatch.setattr(module, "_SHARE_WITH_FEATURES", 0)
    assert not module.plan_of(model, (30, 28), (120, 112), Policy(**how_named(how)), 10, 2e9, 1).keeps_features
    assert np.array_equal(model.upscale(x, tile=10, **how), wanted)


def how_named(how: dict) -> dict:
    return {"name" if key == "policy" else key: value for key, value in how.items()}


def test_a_backbone_that_does_not_say_how_far_it_sees() -> None:
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv2d(3, 8, 5, padding=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).relu()

    model = PCSR(Foreign(), [(4,), (8, 8)], (4,)).eval()
    x = picture(40, 40)
    check(model, x, 8)  # as a whole
    with pytest.raises(ValueError, match="set its attribute receptive_radius"):
        model.upscale(x[0], max_memory="1MB")
    model.encoder.receptive_radius = 2  # pyright: ignore[reportAttributeAccessIssue]
    check(model, x, 8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_memory": "10kb"}, r"max_memory is 10 kB, but [\d.]+ kB are needed for 80x80 pixels: tiles have 16 pix"),
        ({"max_memory": "much"}, "max_memory='much' is no size: write '500MB'"),
        ({"max_memory": 0}, "max_memory must be above 0, got 0"),
        ({"tile": 0}, "whole number of pixels of the small image from 1, or 'auto', got 0"),
        ({"tile": True}, "whole number of pixels .* got True"),
        ({"tile": "big"}, "or 'auto', got 'big'"),
        ({"out": "int8"}, "one of uint8, uint16, float32"),
        ({"policy": "target", "target": 0.01}, "all pixels light"),
        ({"policy": "amd"}, "did you mean 'adm'"),
        ({"scale": 4, "size": (80, 80)}, "not both"),
    ],
)
def test_what_cannot_be(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model_of("fsrcnn").upscale(picture(20, 20)[0], **options)


def test_what_is_no_picture() -> None:
    model = model_of("fsrcnn")
    for wrong, error in (
        (np.zeros((4, 4, 2), np.uint8), ValueError),
        (np.zeros((0, 4, 3), np.uint8), ValueError),
        (np.zeros((4,), np.uint8), ValueError),
        (np.zeros((4, 4, 3), np.int64), TypeError),
        (torch.zeros(4, 4, 3), ValueError),
        ([1, 2], TypeError),
    ):
        with pytest.raises(error):
            model.upscale(wrong)


def test_files_that_would_be_cut(tmp_path) -> None:
    model, deep = model_of("fsrcnn"), np.zeros((4, 5, 5), np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep[..., :3].copy(), photometric="rgb")
    with pytest.raises(ValueError, match=r"deep.tif is of 16-bit colour, of which 8 bits would be kept: zoo\.upscale"):
        model.upscale(tmp_path / "deep.tif")
    tifffile.imwrite(tmp_path / "many.tif", deep.astype(np.uint8), photometric="rgb", planarconfig="contig")
    with pytest.raises(ValueError, match=r"many.tif has 5 channels, of which some would be dropped"):
        model.upscale(tmp_path / "many.tif")
    pages = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(UserWarning, match="has 2 pictures; the first is taken"):
        found = model.upscale(tmp_path / "pages.tif")
    assert np.array_equal(found, model.upscale(pages[0]))


def test_what_is_said_to_be_needed_is_enough() -> None:
    model, x = model_of("fsrcnn"), picture(20, 20)[0]
    with pytest.raises(ValueError, match="are needed") as refused:
        model.upscale(x, max_memory=1.5e5)
    needed = re.search(r"is 150 kB, but ([\d.]+ [kM]B) are", str(refused.value))
    assert needed is not None
    model.upscale(x, max_memory=needed[1].lower(), tile=16)


def test_values_that_have_no_range() -> None:
    """As of `zoo.upscale`."""
    model, x = model_of("fsrcnn"), picture(6, 7)[0]
    for wrong, words in (
        (x * 255, r"the picture has real numbers from .*, where 0 to 1 are expected: divide by the value of white"),
        (x - 1, "from -.* where 0 to 1 are expected: clip them"),
        (Image.fromarray(np.full((4, 5), 70_000, np.int32)), "from 70000 to 70000, where 0 to 65535 are expected"),
        (Image.fromarray(np.full((4, 5), -1, np.int32)), "from -1 to -1, where 0 to 65535 are expected"),
    ):
        with pytest.raises(ValueError, match=words):
            model.upscale(wrong)
    with pytest.warns(UserWarning, match=r"mode I, .* has none above 255: if 255 is white, give image.convert\('L'\)"):
        model.upscale(Image.fromarray(np.full((4, 5), 255, np.int32)))


@torch.no_grad()
def test_bfloat16_changes_psnr_by_less_than_a_twentieth_of_a_decibel() -> None:
    torch.manual_seed(0)
    model, x = PCSR(BACKBONES["carn"], [(6,), (40, 40)], (5,)).eval(), picture(40, 40)
    wanted = model(x)
    assert (wanted - F.interpolate(x, scale_factor=4, mode="bilinear")).std() > 0.02  # the network's share
    truth = wanted + 10 ** (-30 / 20) * torch.randn_like(wanted)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
        tiled = torch.from_numpy(model.upscale(x[0], tile=16, out="float32")).permute(2, 0, 1)[None]
    for image in (found, tiled):
        assert (image - wanted).abs().max() > 1e-5  # it is another precision
        assert abs(psnr(image, truth) - psnr(wanted, truth)) < 0.05


def psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10 * torch.log10((image - truth).pow(2).mean()))
