"""Metrics of restored images (super-resolution, denoising): PSNR and SSIM on luma, with a border left out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo.errors import MissingExtraError

# ITU-R BT.601 with "studio" range: white is 235 and black 16 of 255.
_WEIGHTS, _BLACK = (65.481, 128.553, 24.966), 16.0
_WINDOW = 11


def luma(images: Tensor) -> Tensor:
    """Y of BT.601, from 16 / 255 for black to 235 / 255 for white, as MATLAB's `rgb2ycbcr` gives it.

    Args:
        images: (B, 3, H, W) in [0, 1].

    Returns:
        (B, 1, H, W).
    """
    weights = torch.tensor(_WEIGHTS, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    return ((images * weights).sum(1, keepdim=True) + _BLACK) / 255


def psnr(restored: Tensor, truth: Tensor, *, border: int = 0, on: str = "y", whole: bool = False) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, 10 log10(1 / mean squared error).

    Args:
        restored, truth: (B, 3, H, W), or (B, 1, H, W), in [0, 1]; values outside are cut off.
        border: pixels left out at every side; papers on super-resolution leave out as many as the scale.
        on: "y" compares luma (one channel is compared as it is), "rgb" all channels.
        whole: round to whole steps of 8 bits first, as an image file would.

    Returns:
        (B,); infinite where the images are equal.

    Raises:
        ValueError: shapes that differ, a border that leaves nothing, another `on`.
        MissingExtraError: without the extra `train`.
    """
    restored, truth = _comparable(restored, truth, border, on, whole)
    return _functional().peak_signal_noise_ratio(
        restored, truth, data_range=1.0, reduction="none", dim=(1, 2, 3)
    )  # torchmetrics gives one value an image


def ssim(restored: Tensor, truth: Tensor, *, border: int = 0, on: str = "y", whole: bool = False) -> Tensor:
    """Structural similarity of each image (Wang et al., 2004): Gaussian windows of 11 x 11, sigma 1.5.

    The mean is over the windows that lie inside the image, as in Wang's code and in papers on super-resolution;
    torchmetrics' own mean also counts windows that reach over a mirrored border.

    Arguments and errors as of `psnr`; at least 11 x 11 pixels must be left.

    Returns:
        (B,); 1 where the images are equal.
    """
    restored, truth = _comparable(restored, truth, border, on, whole)
    if min(restored.shape[2:]) < _WINDOW:
        raise ValueError(f"ssim needs {_WINDOW} x {_WINDOW} pixels, got {restored.shape[2]} x {restored.shape[3]}")
    _, everywhere = _functional().structural_similarity_index_measure(
        restored, truth, data_range=1.0, reduction="none", sigma=1.5, return_full_image=True
    )
    inside = _WINDOW // 2
    return everywhere[:, :, inside:-inside, inside:-inside].mean((1, 2, 3))


def _comparable(restored: Tensor, truth: Tensor, border: int, on: str, whole: bool) -> tuple[Tensor, Tensor]:
    if restored.shape != truth.shape or restored.ndim != 4 or restored.shape[1] not in (1, 3):
        raise ValueError(
            f"expected two batches (B, 3, H, W) or (B, 1, H, W) of one shape, got {tuple(restored.shape)} and "
            f"{tuple(truth.shape)}"
        )
    if on not in ("y", "rgb"):
        raise ValueError(f"on must be 'y' or 'rgb', got {on!r}")
    if border < 0 or 2 * border >= min(restored.shape[2:]):
        raise ValueError(f"border={border} leaves nothing of {restored.shape[2]} x {restored.shape[3]} pixels")
    prepared = []
    for images in (restored, truth):
        images = images.detach().double().clamp(0, 1)
        images = (images * 255).round() / 255 if whole else images
        images = luma(images) if on == "y" and images.shape[1] == 3 else images
        prepared.append(images[:, :, border : images.shape[2] - border, border : images.shape[3] - border])
    return prepared[0], prepared[1]


def _functional() -> Any:
    try:
        from torchmetrics.functional import image
    except ImportError as error:
        raise MissingExtraError("measuring restored images", "torchmetrics", "train") from error
    return image
