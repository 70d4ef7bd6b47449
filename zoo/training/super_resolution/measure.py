"""PSNR and SSIM of photographs that a model has made out of small ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from zoo.errors import DataError, TrainingError
from zoo.training.restoration import psnr, ssim
from zoo.training.super_resolution.photos import Photos, in_steps
from zoo.training.super_resolution.task import enlarge

#: What every photograph is given, in this order.
COLUMNS = ("psnr", "ssim", "psnr_y", "ssim_y", "loss")


def compare(made: Tensor, large: Tensor, scale: int, where: str) -> list[float]:
    """PSNR and SSIM over red, green and blue and of luma, and the mean absolute difference.

    As papers on super-resolution have it: values in whole steps of 8 bits, and `scale` pixels left out at every side.

    Args:
        made: (3, H, W) in [0, 1].
        large: (3, H, W) uint8.
        scale: of the model.
        where: the photograph, in messages.

    Raises:
        DataError: a photograph that is too small.
    """
    truth, rounded = large[None].float() / 255, in_steps(made)[None].float() / 255
    try:
        found = [float(metric(rounded, truth, border=scale, on=on)) for on in ("rgb", "y") for metric in (psnr, ssim)]
    except ValueError as error:
        raise DataError(f"{where} cannot be measured: {error}") from error
    return [*found, float((made - truth[0]).abs().mean())]


def measured(made: Tensor, large: Tensor, scale: int, where: str) -> list[float]:
    """`compare` of a model's answer.

    Raises:
        TrainingError: one with NaN or infinity.
        DataError: a photograph that is too small.
    """
    if not bool(torch.isfinite(made).all()):
        raise TrainingError(
            f"the model's answer to {where} is not finite: it has diverged (lower lr, --lr; set clip_grad, --clip-grad)"
        )
    return compare(made, large, scale, where)


@torch.inference_mode()
def measure_photos(
    model: nn.Module,
    photos: Photos,
    accelerator: Accelerator,
    *,
    tick: Callable[[int], None] = lambda images: None,
    **policy: Any,
) -> dict[str, Any]:
    """The means over all photographs; each process does its share of them.

    Args:
        model: on the accelerator's device; runs in evaluation mode.
        photos: the photographs.
        accelerator: of the run.
        tick: called with the number of photographs done.
        policy: options of the model's forward.

    Raises:
        TrainingError, DataError: as `measured`.
    """
    model.eval()
    rows = torch.zeros(len(photos), len(COLUMNS), dtype=torch.float64)
    for index in range(accelerator.process_index, len(photos), accelerator.num_processes):
        small, large = photos.image(index)
        with accelerator.autocast():
            made = enlarge(model, small.to(accelerator.device), photos.scale, **policy).cpu()
        rows[index] = torch.tensor(measured(made, large, photos.scale, photos.where(index)), dtype=torch.float64)
        tick(1)
    everywhere: Any = accelerator.reduce(rows.to(accelerator.device), "sum")
    return means(everywhere.cpu())


def means(rows: Tensor) -> dict[str, Any]:
    """Of (photographs, metrics); an infinite PSNR, of equal images, is left out of the mean."""
    found: dict[str, Any] = {"samples": len(rows)}
    for name, column in zip(COLUMNS, rows.T, strict=True):
        finite = column[torch.isfinite(column)]
        found[name] = float(finite.mean()) if len(finite) else math.inf
    return found
