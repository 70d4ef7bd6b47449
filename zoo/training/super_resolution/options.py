"""The settings of a run that learns to enlarge images."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from zoo.naming import did_you_mean
from zoo.training.optimise import auto_lr
from zoo.training.options import Options
from zoo.training.settings import read_batch_size, read_workers

#: Metrics that a run can be judged by: of all channels, and of luma alone.
METRICS = ("psnr", "ssim", "psnr_y", "ssim_y", "loss")
BATCH_SIZE = 16
#: Adam forgets squared gradients sooner than usual, as the authors have it.
BETAS = (0.9, 0.99)

#: Settings of other tasks, and what they are when nobody gave them.
_NOT_OURS: dict[str, Any] = {
    "layer_decay": None,
    "mixup": 0.0,
    "cutmix": 0.0,
    "label_smoothing": 0.0,
    "class_weights": None,
    "lora": None,
    "freeze": None,
    "unfreeze": None,
    "teacher": None,
    "distillation": "hard",
    "distillation_alpha": 0.5,
    "distillation_tau": 1.0,
    "stitch_sampling": "uniform",
    "stitch_lr": None,
    "stitch_init": True,
    "aug": "light",
    "hflip": "auto",
    "img_size": None,
    "transform": "auto",
    "standardise": "auto",
    "max_instances": None,
}
_NEUTRAL = {
    **_NOT_OURS,
    **dict.fromkeys(("distillation", "distillation_alpha", "distillation_tau", "stitch_sampling", "stitch_init")),
    "hflip": 0.5,
}


@dataclass(frozen=True, kw_only=True)
class RestorationOptions(Options):
    """Settings of `zoo.finetune` for models that enlarge images; see there for their meaning.

    Attributes:
        upscale: how much larger images become.
        lengths: updates of each phase; None where these are whole epochs.
        phase_epochs: epochs of each phase.
    """

    said: ClassVar[Mapping[str, str]] = {"upscale": "scale"}

    upscale: int
    patch_size: int
    queries: int | None
    epoch_patches: int | None
    phase_epochs: tuple[int, ...]
    lengths: tuple[int, ...] | None

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON stores them, without those of other tasks."""
        return {name: value for name, value in super().as_json().items() if name not in {*_NOT_OURS, "scale"}}


def resolve(given: Mapping[str, Any], name: str, *, scale: int, phases: int) -> RestorationOptions:
    """The settings of a run; its epochs are set when it is known how long they are, if updates were given.

    Args:
        given: every argument of `zoo.finetune`.
        name: of the model.
        scale: how much larger images become.
        phases: how many the model is trained in.

    Raises:
        ValueError: a setting out of range, or one of another task.
    """
    from zoo.training.engine import resolve_amp

    foreign = [key for key, default in _NOT_OURS.items() if given[key] != default]
    if foreign:
        raise ValueError(f"{', '.join(foreign)}: not for models that enlarge images")
    monitor = "psnr" if given["monitor"] == "auto" else given["monitor"]
    if monitor not in METRICS:
        hint = did_you_mean(str(monitor), METRICS)
        raise ValueError(f"monitor must be 'auto' or one of {', '.join(METRICS)}; got {monitor!r}{hint}")
    if given["early_stop"] is not None and phases > 1:
        raise ValueError(f"early_stop={given['early_stop']!r}: {name} is trained in {phases} phases of set length")
    _check("patch_size", given["patch_size"], 1)
    for key in ("queries", "epoch_patches"):
        if given[key] is not None:
            _check(key, given[key], 1)
    lengths = _lengths(given["phases"], phases, name)
    epochs, opt, accum = given["epochs"], given["opt"], given["accum"]
    batch_size, fitted = read_batch_size(BATCH_SIZE if given["batch_size"] is None else given["batch_size"])
    opt = "adam" if opt == "auto" else opt
    lr = given["lr"]
    if lr == "auto":
        world = int(os.environ.get("WORLD_SIZE", "1"))
        lr = auto_lr(opt, max(batch_size, 1) * max(accum, 1) * world, probe=False)
    as_given = ("sched", "min_lr", "ema", "early_stop", "seed", "save_every", "keep_last", "on_nan", "accum")
    return RestorationOptions(
        **{**_NEUTRAL, **{key: given[key] for key in as_given}},
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        opt=opt,
        weight_decay=0.0 if given["weight_decay"] == "auto" else given["weight_decay"],
        warmup_epochs=given["warmup_epochs"] or 0.0,
        amp=resolve_amp(given["amp"], given["device"]),
        clip_grad=given["clip_grad"] or None,
        monitor=monitor,
        scale=None,
        model=name,
        model_args=dict(given["model_args"]) if given["model_args"] else None,
        workers=read_workers(given["workers"], torch.cuda.is_available() and given["device"] in (None, "cuda")),
        upscale=scale,
        patch_size=given["patch_size"],
        queries=given["queries"],
        epoch_patches=given["epoch_patches"],
        phase_epochs=_shares(epochs, phases),
        lengths=lengths,
        derived=frozenset(key for key, left in (("lr", given["lr"] == "auto"), ("batch_size", fitted)) if left),
    )


def epochs_of(lengths: Sequence[int], updates: int) -> tuple[int, ...]:
    """Epochs of `updates` updates that phases of so many updates take; the last of each may be shorter."""
    return tuple(math.ceil(length / updates) for length in lengths)


def _shares(epochs: Any, phases: int) -> tuple[int, ...]:
    """Epochs by phase: the second of two gets a third of all, at least one."""
    if phases == 1 or isinstance(epochs, bool) or not isinstance(epochs, int):
        return (epochs,)  # Options refuses what is no whole number
    if epochs < phases:
        raise ValueError(f"epochs={epochs}: the model is trained in {phases} phases, give at least {phases}")
    second = max(1, round(epochs / 3))
    return epochs - second, second


def _lengths(given: Any, phases: int, name: str) -> tuple[int, ...] | None:
    if given is None:
        return None
    lengths = (given,) if isinstance(given, int) else tuple(given)
    good = all(isinstance(one, int) and not isinstance(one, bool) and one >= 1 for one in lengths)
    if not good or len(lengths) != phases:
        raise ValueError(f"phases: {name} is trained in {phases}, give as many whole numbers of updates, got {given!r}")
    return lengths


def _check(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number from {least}, got {value!r}")
