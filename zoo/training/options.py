"""The settings of a run, checked once, stored in args.json and compared on resuming."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from zoo.errors import TrainingError
from zoo.naming import did_you_mean
from zoo.training.data.transform import AUGMENTATIONS
from zoo.training.freeze import FreezeSpec
from zoo.training.optimise import SCHEDULES, check_optimiser

# These change nothing in what is learned by a given update.
_FREE = {"workers", "save_every", "keep_last", "early_stop", "on_nan"}
# How images are prepared and varied.
_OF_IMAGES = {"aug", "hflip", "img_size", "transform", "scale", "mixup", "cutmix"}

ON_NAN = ("raise", "skip")
DISTILLATIONS = ("hard", "soft")


@dataclass(frozen=True)
class Options:
    """Settings of `zoo.finetune` after "auto" has been resolved; see there for their meaning."""

    #: What users call settings that have another name here.
    said: ClassVar[Mapping[str, str]] = {}

    epochs: int
    batch_size: int
    accum: int
    lr: float
    opt: str
    weight_decay: float
    layer_decay: float | None
    sched: str
    warmup_epochs: float
    min_lr: float
    mixup: float
    cutmix: float
    label_smoothing: float
    class_weights: list[float] | None
    ema: float | None
    amp: str
    clip_grad: float | None
    on_nan: str
    lora: dict[str, Any] | None
    freeze: FreezeSpec
    unfreeze: dict[int, FreezeSpec] | None
    early_stop: int | None
    monitor: str
    seed: int
    aug: str
    hflip: float
    img_size: int | None
    transform: str | None
    scale: float | None
    standardise: bool | str
    max_instances: int | None
    teacher: str | None
    distillation: str | None
    distillation_alpha: float | None
    distillation_tau: float | None
    stitch_sampling: str | dict[str, Any] | None
    stitch_lr: float | None
    stitch_init: bool | None
    model: str
    model_args: dict[str, Any] | None
    workers: int
    save_every: int | None
    keep_last: int
    #: Settings that were left to be derived from others; not stored.
    derived: frozenset[str] = field(default=frozenset(), compare=False)
    #: Whether the data are images; of others it is not stored how they are prepared.
    of_images: bool = field(default=True, compare=False)

    def __post_init__(self) -> None:
        whole = ("epochs", "batch_size", "accum", "keep_last")
        for name in whole:
            _require(_is_whole(getattr(self, name)) and getattr(self, name) >= 1, name, self, "a whole number from 1")
        for name in ("early_stop", "save_every", "max_instances"):
            value = getattr(self, name)
            _require(value is None or (_is_whole(value) and value >= 1), name, self, "None or a whole number from 1")
        _require(_is_whole(self.workers) and self.workers >= 0, "workers", self, "a whole number from 0, or 'auto'")
        check_seed(self.seed)
        _require(_is_number(self.lr) and self.lr > 0, "lr", self, "a positive number, or 'auto'")
        for name in ("weight_decay", "warmup_epochs", "min_lr", "mixup", "cutmix"):
            _require(_is_number(getattr(self, name)) and getattr(self, name) >= 0, name, self, "a number from 0")
        _require(self.min_lr <= self.lr, "min_lr", self, f"at most lr ({self.lr:.3g}): the rate would grow")
        _require(self.warmup_epochs < self.epochs, "warmup_epochs", self, f"less than epochs ({self.epochs})")
        for name in ("label_smoothing", "hflip"):
            value = getattr(self, name)
            _require(_is_number(value) and 0 <= value <= 1, name, self, "a number from 0 to 1")
        _require(self.ema is None or 0 < self.ema < 1, "ema", self, "None or a decay between 0 and 1, e.g. 0.999")
        ok = self.clip_grad is None or (_is_number(self.clip_grad) and self.clip_grad > 0)
        _require(ok, "clip_grad", self, "None or a positive number")
        _require(self.transform in ("auto", None), "transform", self, "'auto' or None")
        ok = self.scale is None or (_is_number(self.scale) and self.scale > 0)
        _require(ok, "scale", self, "None or a positive number")
        _require(self.sched in SCHEDULES, "sched", self, f"one of {', '.join(SCHEDULES)}")
        _require(self.aug in AUGMENTATIONS, "aug", self, f"one of {', '.join(AUGMENTATIONS)}")
        _require(self.on_nan in ON_NAN, "on_nan", self, "'raise' or 'skip'")
        check_optimiser(self.opt)
        self._check_distillation()
        ok = self.stitch_lr is None or (_is_number(self.stitch_lr) and self.stitch_lr > 0)
        _require(ok, "stitch_lr", self, "None or a positive number")
        least = f"at least min_lr ({self.min_lr:.3g}): the rate would grow"
        _require(self.stitch_lr is None or self.stitch_lr >= self.min_lr, "stitch_lr", self, least)
        _require(self.stitch_init in (None, True, False), "stitch_init", self, "True or False")
        self._check_unfreeze()

    def _check_distillation(self) -> None:
        """Refuse what says nothing without a teacher, and values out of range."""
        if self.teacher is None:
            return
        if self.distillation not in DISTILLATIONS:
            hint = did_you_mean(str(self.distillation), DISTILLATIONS)
            raise ValueError(f"distillation must be one of {', '.join(DISTILLATIONS)}, got {self.distillation!r}{hint}")
        alpha, tau = self.distillation_alpha, self.distillation_tau
        _require(_is_number(alpha) and 0 <= alpha <= 1, "distillation_alpha", self, "a number from 0 to 1")  # pyright: ignore
        _require(_is_number(tau) and tau > 0, "distillation_tau", self, "a positive number")  # pyright: ignore

    def _check_unfreeze(self) -> None:
        """Refuse a plan that cannot be followed or changes nothing."""
        plan = self.unfreeze or {}
        for epoch in plan:
            if not _is_whole(epoch) or epoch < 1:
                raise ValueError(f"unfreeze: epochs are whole numbers from 1, got {epoch!r}")
            if epoch >= self.epochs:
                raise ValueError(
                    f"unfreeze: after {epoch} epochs the run of epochs={self.epochs} is over; use 1 to "
                    f"{self.epochs - 1}, or leave {{{epoch}: …}} out"
                )
        if plan and self.freeze in (None, "none") and all(spec in (None, "none") for spec in plan.values()):
            raise ValueError(f"unfreeze={plan} does nothing without freeze, e.g. freeze='backbone'")

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON stores them."""
        left_out = {"derived", "of_images"} | (set() if self.of_images else _OF_IMAGES)
        settings = {name: value for name, value in asdict(self).items() if name not in left_out}
        return json.loads(json.dumps(settings, default=str))

    def recipe(self) -> dict[str, Any]:
        """The settings that shaped the weights, without those that were off."""
        left_out = {*_FREE, "monitor", "model", "img_size", "scale", "standardise"}
        settings = {name: value for name, value in self.as_json().items() if name not in left_out}
        return {name: value for name, value in settings.items() if value or name == "seed"}

    def like(self, stored: Mapping[str, Any]) -> Options:
        """These settings with the batch that a stored run found to fit, where it was left to be found."""
        size, accum = stored.get("batch_size"), stored.get("accum")
        left = "batch_size" in self.derived
        if not left or size is None or accum is None or size * accum != self.batch_size * self.accum:
            return self
        return replace(self, batch_size=size, accum=accum, derived=self.derived - {"batch_size"})

    def same_run(self, stored: Mapping[str, Any]) -> list[str]:
        """The names of the settings in which a stored run differs, apart from those that may."""
        mine = self.like(stored).as_json()
        return [name for name in mine if name not in _FREE and mine[name] != stored.get(name)]

    def check_resume(self, stored: Mapping[str, Any], folder: object) -> None:
        """Refuse to go on with other settings.

        Raises:
            TrainingError: naming the settings that differ, their values then and now.
        """
        mine = self.like(stored).as_json()
        differing = self.same_run(stored)
        if differing:
            # What follows from another setting is no change of its own.
            differing = [name for name in differing if name not in self.derived] or differing
            what = "; ".join(
                f"{self.said.get(name, name)} was {stored.get(name)!r}, is {mine[name]!r}" for name in differing
            )
            raise TrainingError(
                f"{folder} holds a run with other settings ({what}). Give them back to resume it, take another out "
                "(--out), or start anew with resume=False (--no-resume), which removes that run"
            )


def check_batch_size(value: Any) -> None:
    """Refuse a batch size that is no whole number from 1.

    Raises:
        ValueError: with the value.
    """
    if not _is_whole(value) or value < 1:
        raise ValueError(f"batch_size must be a whole number from 1, got {value!r}")


def check_seed(value: Any) -> None:
    """Refuse a seed that is no whole number from 0; done before the data is split by it.

    Raises:
        ValueError: with the value.
    """
    if not _is_whole(value) or value < 0:
        raise ValueError(f"seed must be a whole number from 0, got {value!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _require(holds: bool, name: str, options: Options, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {wanted}, got {getattr(options, name)!r}")
