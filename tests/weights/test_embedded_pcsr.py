"""The small network of super-resolution: better than bicubic interpolation on what it never saw, within its budget."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image

import zoo
from zoo.registry import weights_entry

NAME = "pcsr_srresnet_nano_x4.photos"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / weights_entry(NAME).command.removeprefix("python ")))


@pytest.fixture
def centre(script, tmp_path) -> list[Path]:
    """The middle of a photograph of the test split."""
    with Image.open(script["files"](script["TEST"][:1])[0]) as photo:
        left, top = (size // 2 - 80 for size in photo.size)
        photo.convert("RGB").crop((left, top, left + 160, top + 160)).save(tmp_path / "centre.png")
    return [tmp_path / "centre.png"]


@pytest.mark.slow
def test_it_reaches_what_the_manifest_states(script):
    metrics = weights_entry(NAME).metrics
    found = zoo.evaluate(NAME, script["files"](script["TEST"]), progress=False)
    assert metrics["split"] == "test"
    assert found["samples"] == metrics["samples"] == len(script["TEST"])
    assert found["psnr"] == pytest.approx(metrics["psnr"], abs=2e-3)
    assert found["psnr"] > found["bicubic_psnr"] + 0.25
    assert found["ssim"] > found["bicubic_ssim"]
    assert 0 < found["hard"] < 1


def test_nothing_it_is_measured_on_was_learned_from(script):
    assert not {*script["TEST"]} & {*script["TRAIN"], *script["VAL"]}
    assert not {*script["VAL"]} & {*script["TRAIN"]}


def test_more_heavy_pixels_cost_more_and_come_nearer(centre):
    net = zoo.create_model("pcsr_srresnet_nano_x4", pretrained=True).eval()
    rows = [zoo.evaluate(net, centre, policy=policy, progress=False) for policy in ("light", "heavy")]
    assert rows[0]["flops"] < rows[1]["flops"]
    assert rows[0]["psnr"] < rows[1]["psnr"]


def test_a_budget_is_met():
    net = zoo.create_model("pcsr_srresnet_nano_x4", pretrained=True).eval()
    image = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, info = net(image, scale=4, policy="target", target=0.7, return_info=True)
    heavy = net.flops((24, 32), 4)
    assert 0.6999 * heavy <= info.flops["paper"][0] <= 0.7 * heavy


@torch.no_grad()
def test_half_precision_costs_less_than_a_twentieth_of_a_decibel(centre):
    """Measured in bfloat16 as `zoo.evaluate` measures, on a photograph of the test split."""
    net = zoo.create_model("pcsr_srresnet_nano_x4", pretrained=True).eval()
    whole, half = (zoo.evaluate(net, centre, amp=amp, progress=False) for amp in ("no", "bf16"))
    assert whole["psnr"] > whole["bicubic_psnr"]
    assert whole["ssim"] > whole["bicubic_ssim"]
    assert 0 < whole["hard"] < 1
    assert half["psnr"] != whole["psnr"]  # it is another precision
    assert half["psnr"] == pytest.approx(whole["psnr"], abs=0.05)


def test_grey_images_need_no_other_network():
    with pytest.raises(zoo.errors.MismatchError, match="images of 3 channels, the model for 1: leave in_chans out"):
        zoo.create_model("pcsr_srresnet_nano_x4", pretrained=True, in_chans=1)
