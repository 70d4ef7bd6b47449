"""What a run folder and trackers are told of how a run came about."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from zoo.training.checkpoint import versions
from zoo.training.data.image_set import Splits
from zoo.training.data.source import BUILT_IN
from zoo.training.model_source import model_name, starts_from_weights
from zoo.training.options import Options

#: Settings whose "auto" is resolved: the settings hold what it came to, the record what was given.
AUTOMATIC = ("lr", "amp", "hflip", "opt", "weight_decay")


def _told(value: Any) -> Any:
    """A source as args.json tells it: text, numbers, and paths that are right from every folder; None for objects."""
    if not isinstance(value, str | os.PathLike):
        return value if isinstance(value, bool | int | float) else None
    text = os.fspath(value)
    kind = next(
        (kind for kind in ("local-dir:", "wds:", "bags:", "repertoires:", "sequences:") if text.startswith(kind)), ""
    )
    path = os.path.expanduser(text.removeprefix(kind))
    named = text in BUILT_IN or text in ("no", "none")
    return f"{kind}{os.path.abspath(path)}" if not named and os.path.exists(path) else text


def _told_of(value: Any) -> Any:
    """As `_told`; an object cannot be told, but that there was one can."""
    return {"object": type(value).__name__} if value is not None and _told(value) is None else _told(value)


def _given(given: Mapping[str, Any]) -> dict[str, Any]:
    """What `zoo.finetune` was given that its settings do not hold, or hold only as it was resolved."""
    model = given["model"]
    told = {
        "model": None if isinstance(model, nn.Module) else _told(model),
        "data": _told(given["data"]),
        "val": _told_of(given["val"]),
        "teacher": _told_of(given["teacher"]),
        "weights": starts_from_weights(model, given["pretrained"]),
    }
    return (
        told
        | {name: given[name] for name in ("pretrained", "on_bad", *AUTOMATIC)}
        | {"class_weights": given["class_weights"] if isinstance(given["class_weights"], str) else None}
    )


def tracked(name: str, splits: Splits, options: Options) -> dict[str, Any]:
    """What trackers are told of a run at its start."""
    train = splits.present()["train"]
    return {**options.as_json(), "model": name, "data": splits.name, f"train_{train.noun}s": len(train)}


def arguments(
    given: Mapping[str, Any], net: nn.Module, splits: Splits, options: Options, accelerator: Any
) -> dict[str, Any]:
    """What args.json holds of a run: enough to repeat it, and to see later what it was."""
    return {
        "model": model_name(net),
        "given": _given(given),
        "data": {
            **splits.facts,
            "name": splits.name,
            "classes": splits.present()["train"].classes,
            "noun": splits.present()["train"].noun,
            "images": {name: len(split) for name, split in splits.present().items()},
            "fingerprint": splits.fingerprint(),
        },
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "options": options.as_json(),
        "versions": versions(),
    }
