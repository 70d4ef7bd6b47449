"""`zoo.evaluate` of models that enlarge images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from zoo.layers.bicubic import bicubic_downscale
from zoo.training.model_source import model_name, ready_model
from zoo.training.progress import Progress
from zoo.training.super_resolution.measure import COLUMNS, compare, means, measured
from zoo.training.super_resolution.photos import Photos
from zoo.training.super_resolution.policy import policy_options, refuse_options
from zoo.training.super_resolution.source import open_photos_of
from zoo.training.super_resolution.task import check_scale, enlarge_with_info, refuse_other_channels

_WITHOUT = ("bicubic", "bilinear")


def evaluate_super_resolution(
    model: Any,
    data: Any,
    split: str,
    *,
    scale: float | None,
    policy: str | Mapping[str, Any] | None,
    budget: float | None,
    on_bad: str,
    device: str | None,
    amp: str,
    detail: bool,
    progress: Progress,
) -> dict[str, Any]:
    """PSNR and SSIM of photographs that a model makes out of small ones, and of what bicubic interpolation makes.

    Args as of `zoo.evaluate`.
    """
    from zoo.training.engine import engine, resolve_amp

    net = ready_model(model)
    refuse_other_channels(net)
    factor = check_scale(net, scale)
    options = policy_options(policy, budget)
    if not hasattr(net, "train_queries"):
        refuse_options(options, model_name(net))
    name, split_name, photos = open_photos_of(data, split, scale=factor, on_bad=on_bad)
    home, training = next(net.parameters()).device, {m for m in net.modules() if m.training}
    progress.start(0, len(photos), 0, "measuring")
    rows: list[list[float]] = []
    costs: list[dict[str, float]] = []
    try:
        with engine(resolve_amp(amp, device), device) as accelerator, torch.inference_mode():
            net.to(accelerator.device).eval()
            for index in range(len(photos)):
                small, large = photos.image(index)
                with accelerator.autocast():
                    made, cost = enlarge_with_info(net, small.to(accelerator.device), factor, **options)
                row = measured(made.cpu(), large, factor, photos.where(index))
                size = (large.shape[1], large.shape[2])
                for how in _WITHOUT:
                    row += compare(_interpolated(small.float() / 255, size, how), large, factor, photos.where(index))
                rows.append(row)
                costs.append(cost)
                progress.tick(1)
    finally:
        progress.close()
        net.to(home)
        for module in net.modules():
            module.training = module in training
    return {
        "split": split_name,
        "dataset": name,
        "scale": factor,
        **_summary(rows),
        **{key: sum(cost[key] for cost in costs) / len(costs) for key in costs[0]},
        **({"images": _by_image(photos, rows, costs)} if detail else {}),
    }


def _interpolated(small: torch.Tensor, size: tuple[int, int], how: str) -> torch.Tensor:
    """The small image, enlarged by a formula: bicubic as MATLAB has it, or bilinear."""
    if how == "bicubic":
        return bicubic_downscale(small, size)
    return F.interpolate(small[None], size, mode="bilinear", align_corners=False)[0]


def _summary(rows: list[list[float]]) -> dict[str, Any]:
    found = torch.tensor(rows, dtype=torch.float64).unflatten(1, (1 + len(_WITHOUT), len(COLUMNS)))
    summary = means(found[:, 0])
    for place, how in enumerate(_WITHOUT, 1):
        summary |= {
            f"{how}_{key}": value for key, value in means(found[:, place]).items() if key not in ("samples", "loss")
        }
    return summary


def _by_image(photos: Photos, rows: list[list[float]], costs: list[dict[str, float]]) -> list[dict[str, Any]]:
    return [
        {"image": photos.where(index), **dict(zip(COLUMNS, row, strict=False)), **cost}
        for index, (row, cost) in enumerate(zip(rows, costs, strict=True))
    ]
