"""The settings of a run in stages."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from zoo.naming import check_keywords, did_you_mean
from zoo.training import settings
from zoo.training.data.image_set import Splits
from zoo.training.options import Options
from zoo.training.phases import shares
from zoo.training.varifocal.loss import STAGES

RECIPES = ("auto", "plain", "varifocal")
REGIONS = ("foreground", "pseudo")
#: Epochs of the stages, as our recipe has them.
PARTS = (60, 20, 40, 20)
LR, WEIGHT_DECAY = 1e-3, 1e-4
#: Epochs of `zoo.finetune` where nobody gives them.
EPOCHS = 20

#: Settings of other ways of training, and what they are when nobody gave them.
_NOT_OURS: dict[str, Any] = {
    "layer_decay": None,
    "mixup": 0.0,
    "cutmix": 0.0,
    "class_weights": None,
    "lora": None,
    "freeze": None,
    "unfreeze": None,
    "teacher": None,
    "stitch_sampling": "uniform",
    "stitch_lr": None,
    "stitch_init": True,
    "early_stop": None,
    "max_instances": None,
}


@dataclass(frozen=True, kw_only=True)
class VarifocalOptions(Options):
    """Settings of `zoo.finetune` for networks that look twice; see there for their meaning.

    Attributes:
        stage_epochs: epochs of each of `STAGES`.
        region: what the rough targets of the box come from, "foreground" or "pseudo".
        half: half of the side of a box of "pseudo".
        threshold: brightest background of "foreground", of pixels in [0, 1].
        ranking: weight of the ranking term.
    """

    stage_epochs: tuple[int, ...]
    region: str
    half: float
    threshold: float
    ranking: float

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON stores them, without those of other ways of training; its own as `recipe` takes them."""
        everything = super().as_json()
        own = {name: everything.pop(name) for name in ("region", "half", "threshold", "ranking")}
        recipe = {"name": "varifocal", "epochs": everything.pop("stage_epochs"), **own}
        return {"recipe": recipe} | {name: value for name, value in everything.items() if name not in _NOT_OURS}


def read_recipe(given: Any) -> tuple[str, dict[str, Any]]:
    """The name of a recipe and its options, of a name or of a mapping with `name`.

    Raises:
        ValueError: an unknown recipe, or no `name`; an option for a recipe that has none.
        TypeError: an unknown option.
    """
    options = dict(given) if isinstance(given, Mapping) else {"name": given}
    name = options.pop("name", None)
    if name not in RECIPES:
        hint = did_you_mean(str(name), RECIPES)
        raise ValueError(
            f"recipe must be one of {', '.join(RECIPES)}, or a mapping with such a name, got {given!r}{hint}"
        )
    check_keywords(options, ("region", "half", "threshold", "ranking", "epochs"), "recipe")
    if options and name == "plain":
        raise ValueError(f"recipe 'plain' has no options, got {', '.join(options)}")
    return name, options


def resolve(given: Mapping[str, Any], splits: Splits, name: str, *, canvas: bool) -> VarifocalOptions:
    """The settings of a run.

    Args:
        given: every argument of `zoo.finetune`.
        splits: the data.
        name: of the model.
        canvas: images lie on an empty background, and have their own size.

    Raises:
        ValueError: a setting out of range, or one of another way of training.
    """
    foreign = [key for key, default in _NOT_OURS.items() if given[key] != default]
    if foreign:
        raise ValueError(f"{', '.join(foreign)}: not for training in stages; recipe='plain' (--recipe plain) has them")
    _, own = read_recipe(given["recipe"])
    options = {"region": "foreground" if canvas else "pseudo", "half": 0.25, "threshold": 0.25, "ranking": 0.0} | own
    if options["region"] not in REGIONS:
        hint = did_you_mean(str(options["region"]), REGIONS)
        raise ValueError(f"region must be one of {', '.join(REGIONS)}, got {options['region']!r}{hint}")
    for key, least, most in (("half", 0, 0.5), ("threshold", 0, 1), ("ranking", 0, math.inf)):
        value = options[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"{key} must be a number from {least} to {most}, got {value!r}")
    lengths = _lengths(given["epochs"], options.pop("epochs", None))
    usual: dict[str, Any] = {"epochs": sum(lengths)}
    if given["weight_decay"] == "auto":
        usual["weight_decay"] = WEIGHT_DECAY
    if given["lr"] == "auto" and given["opt"] in ("auto", "adamw"):
        usual["lr"] = LR * math.sqrt(_images(given) / 64)
    if given["warmup_epochs"] is None:
        usual["warmup_epochs"] = 0.0
    made = settings.resolve({**given, **usual}, splits, name)
    left = {key for key in ("lr", "warmup_epochs") if given[key] == ("auto" if key == "lr" else None)}
    plain = {field.name: getattr(made, field.name) for field in fields(Options)}
    plain |= {"derived": made.derived | left, "stitch_sampling": None, "stitch_init": None}
    return VarifocalOptions(**plain, **options, stage_epochs=lengths)


def _images(given: Mapping[str, Any]) -> int:
    """Images of an update."""
    size = given["batch_size"]
    size, _ = settings.read_batch_size(settings.BATCH_SIZE if size is None else size)
    accum = given["accum"]
    whole = all(isinstance(n, int) and n >= 1 for n in (size, accum))  # Options refuses others
    return size * accum * int(os.environ.get("WORLD_SIZE", "1")) if whole else 64


def _lengths(epochs: Any, own: Any) -> tuple[int, ...]:
    """Epochs of each stage."""
    if own is not None:
        found = tuple(own) if isinstance(own, list | tuple) else ()
        if len(found) != len(STAGES) or not all(type(n) is int and n >= 1 for n in found):
            raise ValueError(f"epochs of a recipe are four whole numbers from 1, of {', '.join(STAGES)}; got {own!r}")
        if epochs not in (EPOCHS, sum(found)):
            raise ValueError(
                f"epochs={epochs!r}, and the stages of the recipe have {sum(found)} ({', '.join(map(str, found))}): "
                "leave one of them out"
            )
        return found
    if type(epochs) is not int or epochs < len(STAGES):
        raise ValueError(f"epochs={epochs!r}: training has {len(STAGES)} stages ({', '.join(STAGES)}), give one each")
    return shares(epochs, PARTS)
