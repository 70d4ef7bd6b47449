"""The settings of a run, made out of what `zoo.finetune` was given: "auto" resolved, all checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from zoo.composition import SLOTS, Choice, Composed
from zoo.training.data.bags import BagSet
from zoo.training.data.image_set import ImageSet, Splits
from zoo.training.data.sequences import SequenceSet
from zoo.training.freeze import FreezeSpec
from zoo.training.lora import resolve_lora
from zoo.training.loss import resolve_class_weights
from zoo.training.metrics import metric_names
from zoo.training.model_source import model_name
from zoo.training.optimise import auto_lr
from zoo.training.options import Options

#: What is taken where nothing is given.
BATCH_SIZE, WEIGHT_DECAY = 64, 0.05
#: Settings of models that enlarge images, and what they are when nobody gave them.
OF_PATCHES = {"patch_size": 32, "queries": None, "epoch_patches": None, "phases": None}


def resolve(given: Mapping[str, Any], splits: Splits, name: str) -> Options:
    """The settings of a run.

    Args:
        given: every argument of `zoo.finetune`.
        splits: the data.
        name: of the model.

    Raises:
        ValueError: a setting out of range; the message says what is allowed.
        UnknownModuleError, TypeError: parts of the model that are no modules.
    """
    from zoo.training.engine import resolve_amp
    from zoo.training.stitching import read_sampling

    train = splits.present()["train"]
    foreign = [key for key in ("patch_size", "queries", "epoch_patches", "phases") if given[key] != OF_PATCHES[key]]
    if foreign:
        raise ValueError(f"{', '.join(foreign)}: for models that enlarge images, which {name} does not")
    epochs, accum = given["epochs"], given["accum"]
    opt = "adamw" if given["opt"] == "auto" else given["opt"]
    batch_size, fitted = read_batch_size(BATCH_SIZE if given["batch_size"] is None else given["batch_size"])
    freeze, warmup, device = given["freeze"], given["warmup_epochs"], given["device"]
    on_gpu = torch.cuda.is_available() and device in (None, "cuda")
    as_given = (
        "layer_decay", "sched", "min_lr", "mixup", "cutmix", "label_smoothing", "ema", "early_stop",
        "seed", "aug", "img_size", "transform", "scale", "standardise", "max_instances", "save_every", "keep_last",
        "on_nan", "stitch_lr", "stitch_init",
    )  # fmt: skip
    return Options(
        **{key: given[key] for key in as_given},
        epochs=epochs,
        batch_size=batch_size,
        accum=accum,
        opt=opt,
        weight_decay=WEIGHT_DECAY if given["weight_decay"] == "auto" else given["weight_decay"],
        lr=_lr(given["lr"], opt, batch_size, accum, freeze),
        warmup_epochs=min(5.0, epochs / 10) if warmup is None else warmup,
        class_weights=resolve_class_weights(given["class_weights"], train),
        amp=resolve_amp(given["amp"], device),
        clip_grad=given["clip_grad"] or None,
        freeze=freeze if freeze is None or isinstance(freeze, str) else list(freeze),
        lora=_lora(given["lora"], freeze),
        unfreeze=dict(given["unfreeze"]) if given["unfreeze"] else None,
        monitor=_monitor(given["monitor"], splits),
        hflip=_hflip(given["hflip"], train),
        of_images=not isinstance(train, SequenceSet) and (not isinstance(train, BagSet) or train.shape is None),
        **_distillation(given),
        stitch_sampling=read_sampling(given["stitch_sampling"]),
        model=name,
        model_args=_model_args(given["model"], given["model_args"]),
        workers=read_workers(given["workers"], on_gpu),
        derived=frozenset(
            name
            for name, left in (("lr", given["lr"] == "auto"), ("warmup_epochs", warmup is None), ("batch_size", fitted))
            if left
        ),
    )


def _distillation(given: Mapping[str, Any]) -> dict[str, Any]:
    """The teacher and how it teaches; None throughout where there is none."""
    names = ("distillation", "distillation_alpha", "distillation_tau")
    if given["teacher"] is not None:
        return {"teacher": model_name(given["teacher"]), **{name: given[name] for name in names}}
    for name, default in zip(names, ("hard", 0.5, 1.0), strict=True):
        if given[name] != default:
            raise ValueError(f"{name}={given[name]!r} says how a teacher teaches, and there is none: give teacher=")
    return {"teacher": None, **dict.fromkeys(names)}


def _lora(given: Any, freeze: FreezeSpec) -> dict[str, Any] | None:
    spec = resolve_lora(given)
    if spec is not None and freeze == "backbone":
        raise ValueError(
            "lora trains adapters in the backbone, freeze='backbone' would fix them: leave one of the two out (with "
            "lora, all but the adapters and the classifier is fixed anyway)"
        )
    return spec


def read_batch_size(value: int | str) -> tuple[int, bool]:
    """A batch size, and whether it is only where the search for one that fits begins ("auto", "auto:256").

    Raises:
        ValueError: another word.
    """
    if not isinstance(value, str):
        return value, False  # Options refuses what is no whole number
    word, colon, number = value.partition(":")
    if word != "auto" or (colon and not (number.isdecimal() and int(number) > 0)):
        raise ValueError(f"batch_size must be a whole number from 1, 'auto' or e.g. 'auto:256', got {value!r}")
    return int(number) if colon else 64, True


def _model_args(model: Any, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the model is made of, in the one form by which a resumed run tells whether it is the same."""
    if isinstance(model, Composed):
        return {slot: choice.to_dict() for slot, choice in model.zoo_composition.spec.choices.items()} or None
    args = {key: value for key, value in (given or {}).items() if key not in SLOTS or value is not None}
    parts = {slot: Choice.of(slot, args[slot]).to_dict() for slot in SLOTS if slot in args}
    return {**args, **parts} or None


def _lr(lr: float | str, opt: str, batch_size: int, accum: int, freeze: FreezeSpec) -> float:
    if lr != "auto":
        return lr  # type: ignore[return-value] - Options refuses what is not a number
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return auto_lr(opt, max(batch_size, 1) * max(accum, 1) * world, probe=freeze == "backbone")


def _monitor(monitor: str, splits: Splits) -> str:
    train = splits.present()["train"]
    if monitor == "auto":
        return "auroc" if train.multi_label else "accuracy"
    allowed = metric_names(multi_label=train.multi_label, ordinal=train.ordinal)
    if monitor not in allowed:
        raise ValueError(f"monitor must be 'auto' or one of {', '.join(allowed)}; got {monitor!r}")
    return monitor


def _hflip(hflip: float | str, train: ImageSet) -> float:
    if hflip == "auto":
        return 0.5 if train.flip else 0.0
    return hflip  # type: ignore[return-value] - Options refuses what is not a number


def read_workers(workers: int | str, on_gpu: bool) -> int:
    """A number of processes that read images."""
    if workers == "auto":
        return min(8, (os.cpu_count() or 2) - 1) if on_gpu else 0
    return workers  # type: ignore[return-value] - Options refuses what is not a number
