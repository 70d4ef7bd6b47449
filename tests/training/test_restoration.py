"""PSNR and SSIM of restored images: by hand, and as torchmetrics and the BT.601 matrix have them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from zoo.training.restoration import luma, psnr, ssim


def pair(channels: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(3, channels, 24, 30, generator=generator, dtype=torch.float64)
    noise = torch.randn(truth.shape, generator=generator, dtype=torch.float64)
    return (truth + 0.1 * noise).clamp(0, 1), truth


def test_luma_of_known_colours() -> None:
    # BT.601 in steps of 8 bits: black 16, white 235, red 81.481, green 144.553, blue 40.966.
    colours = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    y = luma(colours[:, :, None, None])[:, 0, 0, 0] * 255
    assert y.tolist() == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-9)


def test_psnr_by_hand() -> None:
    truth = torch.full((1, 3, 8, 8), 0.5)
    restored = truth.clone()
    restored[:, :, 4, 4] = 0.6
    step = 0.1 * 219 / 255  # what a step of grey is in luma
    assert psnr(restored, truth).item() == pytest.approx(10 * math.log10(64 / step**2), abs=1e-5)
    assert psnr(restored, truth, border=3).item() == pytest.approx(10 * math.log10(4 / step**2), abs=1e-5)
    assert psnr(restored, truth, on="rgb").item() == pytest.approx(10 * math.log10(64 / 0.1**2), abs=1e-5)
    assert psnr(restored, truth, border=0).isfinite().all()
    outside = restored.clone()
    outside[:, :, 0, 0] = 0.6
    assert psnr(outside, truth, border=3).item() == psnr(restored, truth, border=3).item()
    assert psnr(truth, truth).item() == math.inf


@pytest.mark.parametrize("border", [0, 4])
def test_each_image_equals_torchmetrics(border: int) -> None:
    restored, truth = pair()
    inner = [luma(x)[:, :, border : 24 - border, border : 30 - border] for x in (restored, truth)]
    for i in range(3):
        a, b = (x[i : i + 1] for x in inner)
        assert psnr(restored, truth, border=border)[i].item() == pytest.approx(
            peak_signal_noise_ratio(a, b, data_range=1.0).item(), rel=1e-6
        )
        everywhere = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)[1]
        assert ssim(restored, truth, border=border)[i].item() == pytest.approx(
            everywhere[0, 0, 5:-5, 5:-5].mean().item(), rel=1e-6
        )


def test_ssim_is_wangs_on_valid_windows() -> None:
    restored, truth = (x[:1] for x in pair(1))
    offset = np.arange(11) - 5
    line = np.exp(-(offset**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def blur(x: np.ndarray) -> np.ndarray:
        return np.einsum("ijkl,kl->ij", np.lib.stride_tricks.sliding_window_view(x, (11, 11)), window)

    x, y = restored[0, 0].numpy(), truth[0, 0].numpy()
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    map_ = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(restored, truth).item() == pytest.approx(map_.mean(), rel=1e-6)
    assert ssim(truth, truth).item() == pytest.approx(1)


def test_whole_steps_are_those_of_a_file() -> None:
    restored, truth = pair()
    stored = (restored * 255).round() / 255
    assert psnr(restored, stored, on="rgb").isfinite().all()
    assert (psnr(restored, stored, on="rgb", whole=True) == math.inf).all()
    assert not torch.equal(psnr(restored, truth), psnr(restored, truth, whole=True))


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((1, 3, 8, 8), (1, 3, 8, 9)), {}, r"of one shape, got \(1, 3, 8, 8\) and \(1, 3, 8, 9\)"),
        (((1, 2, 8, 8), (1, 2, 8, 8)), {}, "of one shape"),
        (((1, 3, 8, 8), (1, 3, 8, 8)), {"border": 4}, "border=4 leaves nothing of 8 x 8"),
        (((1, 3, 8, 8), (1, 3, 8, 8)), {"on": "luma"}, "on must be 'y' or 'rgb', got 'luma'"),
    ],
)
def test_images_that_cannot_be_compared(shapes: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        psnr(torch.zeros(shapes[0]), torch.zeros(shapes[1]), **options)
    with pytest.raises(ValueError, match=message):
        ssim(torch.zeros(shapes[0]), torch.zeros(shapes[1]), **options)


def test_ssim_needs_a_window() -> None:
    with pytest.raises(ValueError, match="ssim needs 11 x 11 pixels, got 8 x 10"):
        ssim(torch.zeros(1, 3, 8, 10), torch.zeros(1, 3, 8, 10))
