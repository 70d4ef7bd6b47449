"""How images are prepared for a model: its real channels and size, with the statistics that belong to them."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from zoo.naming import check_keywords

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming", "random")
#: timm's, and "canvas": images lie in the middle of one of `input_size`, all scaled by `crop_pct`, none to fill it.
CANVAS = "canvas"
CROP_MODES = ("center", "squash", "border", CANVAS)
#: Mean and standard deviation of images in [0, 1], or in another unit of theirs, lie within these.
MAX_STATISTIC = 1e6
MIN_STD = 1e-6
#: What is taken for a field that nothing records: timm's own defaults.
DEFAULTS: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.875,
    "crop_mode": "center",
}
#: What tells of outputs and weights, for models of anything.
WORDS = ("label_names", "label_descriptions", "license", "description")
_FIELDS = (
    "input_size",
    "interpolation",
    "crop_pct",
    "crop_mode",
    "mean",
    "std",
    "label_names",
    "label_descriptions",
    "feature_names",
    "license",
    "description",
)


def data_config(model: nn.Module) -> dict[str, Any]:
    """The data configuration of a model as it is now, for `timm.data.create_transform(**config)`.

    With `crop_mode` "canvas", which timm does not know and would take for another, it is for
    `zoo.training.data.transform.eval_transform(config)`, which knows every mode.

    Unlike timm's `resolve_model_data_config`, it reports the channels and the image size that the model has, not those
    of the checkpoint that it came from. The statistics follow: for one channel the mean of the recorded ones, for more
    the recorded ones repeated in turn, with a warning that asks for real ones.

    Args:
        model: a model of the zoo or of timm.

    Returns:
        `input_size` (channels, height, width), `interpolation`, `mean`, `std` (one value a channel, in units of
        images scaled to [0, 1]), `crop_pct` and `crop_mode`. Of a model of bags of images, those of an instance. Of one
        of bags of vectors or sequences `input_size`, the shape of an instance, `mean` and `std` alone: by these its
        features are standardised, one value a feature, or they are None. Of a model of tables `input_size`,
        (columns,), and `mean` and `std`, None: it standardises columns itself. Of a model of sequences of letters
        `input_size`, (words,), the most that it takes, and `mean` and `std`, None.
    """
    recorded_fields = getattr(model, "pretrained_cfg", None) or {}
    if (columns := table_columns(model)) is not None:
        return {"input_size": (columns,), "mean": None, "std": None}
    if words_of(model) is not None:
        return {"input_size": (model.max_len,), "mean": None, "std": None}
    instance = getattr(model, "instance_shape", None)
    if instance is not None and len(instance) != 3:
        found = [recorded_fields.get(key) for key in ("mean", "std")]
        known = [tuple(value) for value in found if isinstance(value, Sequence) and len(value) == instance[0]]
        mean, std = known if len(known) == 2 else (None, None)
        return {"input_size": instance, "mean": mean, "std": std}
    cfg = {k: default if recorded_fields.get(k) is None else recorded_fields[k] for k, default in DEFAULTS.items()}
    recorded = tuple(instance or cfg["input_size"])
    channels = getattr(model, "in_chans", None) or recorded[0]
    size = (getattr(model, "_traits", None) or {}).get("img_size") or recorded[1:]
    return {
        "input_size": (channels, *size),
        "interpolation": cfg["interpolation"],
        "mean": _fit(cfg["mean"], channels, "mean"),
        "std": _fit(cfg["std"], channels, "std"),
        "crop_pct": cfg["crop_pct"],
        "crop_mode": cfg["crop_mode"],
    }


def words_of(model: Any) -> Any | None:
    """The tokenizer of a model that takes sequences of letters; None for the other models."""
    tokenizer = getattr(model, "tokenizer", None)
    return tokenizer if hasattr(tokenizer, "encode") and hasattr(model, "max_len") else None


def table_columns(model: Any) -> int | None:
    """Columns of the rows that a model of tables takes; None for the other models."""
    columns, cfg = getattr(model, "in_features", None), getattr(model, "pretrained_cfg", None) or {}
    return columns if isinstance(columns, int) and cfg.get("input_size", ()) is None else None


def _fit(recorded: float | int | Sequence[float | int], channels: int, what: str) -> tuple[float, ...]:
    numbers = [recorded] * channels if isinstance(recorded, int | float) else recorded
    values = tuple(float(v) for v in numbers)
    if len(values) == channels:
        return values
    if channels == 1:
        return (sum(values) / len(values),)
    if len(values) > 1:
        warnings.warn(
            f"the model takes {channels} channels but only {len(values)} values of {what} are known; repeated here; "
            f"give the real ones by zoo.set_data_config(model, mean=[...], std=[...])",
            stacklevel=3,
        )
    return tuple(values[i % len(values)] for i in range(channels))


def set_data_config(model: nn.Module, **fields: Any) -> dict[str, Any]:
    """Record how images are prepared for a model, and what its classes are called.

    The values go into `model.pretrained_cfg`, from where timm, `zoo.data_config` and a saved config.json take them.

    Args:
        model: a model of the zoo or of timm; changed in place.
        **fields: any of `input_size` (channels, height, width), `mean` and `std` (a number, or one a channel; of bags
            of vectors, a feature),
            `interpolation`, `crop_pct`, `crop_mode`, `label_names` (one a class), `label_descriptions` (name -> text),
            `feature_names` (one a feature, of bags of vectors: columns of tables are found by them), `license`,
            `description`.

    Returns:
        `data_config(model)` afterwards.

    Raises:
        TypeError: an unknown field.
        ValueError: a value that does not fit the model, or is out of range; how images are prepared, of a model of
            tables.
    """
    check_keywords(fields, _FIELDS, "set_data_config")
    if table_columns(model) is not None and (others := [key for key in fields if key not in WORDS]):
        raise ValueError(
            f"{', '.join(others)}: {type(model).__name__} takes rows of a table, which it standardises itself "
            f"(fit_scaling), and has its own feature_names; set_data_config knows of it {', '.join(WORDS)}"
        )
    cfg = getattr(model, "pretrained_cfg", None)
    if not isinstance(cfg, dict):
        raise ValueError(f"{type(model).__name__} has no pretrained_cfg; only models made by name can be described")
    checked = {key: _CHECKS[key](model, key, value) for key, value in fields.items() if value is not None}
    cfg.update(checked)
    return data_config(model)


def _input_size(model: nn.Module, key: str, value: Any) -> tuple[int, int, int]:
    if not isinstance(value, Sequence) or len(value) != 3 or not all(type(v) is int and v > 0 for v in value):
        raise ValueError(f"{key} must be (channels, height, width), three whole numbers from 1, got {value!r}")
    channels = getattr(model, "in_chans", value[0])
    if value[0] != channels:
        raise ValueError(f"{key}={tuple(value)} has {value[0]} channels, the model takes {channels}")
    fixed = (getattr(model, "_traits", None) or {}).get("img_size")
    if fixed and tuple(fixed) != tuple(value[1:]):
        raise ValueError(
            f"{key}={tuple(value)} does not fit a model built for images of {fixed[0]} x {fixed[1]}; build it with "
            f"img_size={value[1]}, or call its set_input_size first"
        )
    return (value[0], value[1], value[2])


def _statistics(model: nn.Module, key: str, value: Any) -> tuple[float, ...]:
    instance = getattr(model, "instance_shape", None)
    channels, unit = (instance[0], "features") if instance else (getattr(model, "in_chans", 3), "channels")
    values = (value,) * channels if isinstance(value, int | float) else tuple(value)
    if len(values) == 1:
        values *= channels
    if len(values) != channels:
        raise ValueError(f"{key} has {len(values)} values, the model takes {channels} {unit}")
    if not all(isinstance(v, int | float) and abs(v) <= MAX_STATISTIC for v in values):
        raise ValueError(f"{key} must be finite numbers of at most {MAX_STATISTIC:,.0f}, got {values!r}")
    if key == "std" and min(values) < MIN_STD:
        raise ValueError(f"std must be positive (from {MIN_STD:g}), got {values!r}")
    return tuple(float(v) for v in values)


def _choice(allowed: tuple[str, ...]) -> Any:
    def check(model: nn.Module, key: str, value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {value!r}")
        return value

    return check


def _crop_pct(model: nn.Module, key: str, value: Any) -> float:
    if not isinstance(value, int | float) or not 0 < value <= 2:
        raise ValueError(f"{key} must be a number in (0, 2], got {value!r}")
    return float(value)


def _label_names(model: nn.Module, key: str, value: Any) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else None
    if names is None or not all(isinstance(n, str) and n for n in names):
        raise ValueError(f"{key} must be a list of texts, one a class, got {value!r}")
    if len(names) != getattr(model, "num_classes", len(names)):
        raise ValueError(f"{key} has {len(names)} names, the model has {model.num_classes} classes")
    if len(set(names)) != len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise ValueError(f"{key} has names that appear twice: {', '.join(map(repr, twice[:5]))}")
    return names


def _feature_names(model: nn.Module, key: str, value: Any) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else None
    if names is None or not all(isinstance(n, str) for n in names) or len(set(names)) != len(names):
        raise ValueError(f"{key} must be a list of texts, each another one, got {value!r}")
    shape = getattr(model, "instance_shape", None)
    if shape is None or len(shape) != 1 or shape[0] not in (None, len(names)):
        raise ValueError(f"{key} has {len(names)} names, the model takes instances of {shape}")
    return names


def _descriptions(model: nn.Module, key: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for pair in value.items() for v in pair):
        raise ValueError(f"{key} must map label names to texts, got {value!r}")
    return dict(value)


def _text(model: nn.Module, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key} must be a text, got {value!r}")
    return value


_CHECKS: dict[str, Any] = {
    "input_size": _input_size,
    "interpolation": _choice(INTERPOLATIONS),
    "crop_pct": _crop_pct,
    "crop_mode": _choice(CROP_MODES),
    "mean": _statistics,
    "std": _statistics,
    "label_names": _label_names,
    "label_descriptions": _descriptions,
    "feature_names": _feature_names,
    "license": _text,
    "description": _text,
}
