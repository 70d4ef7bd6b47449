"""config.json, read: one file that describes a model to timm and to the zoo alike.

Layout (timm's own, with one more top-level key that timm ignores): `architecture`, `num_classes`, `num_features`,
`global_pool`, `label_names`, `label_descriptions`, `model_args` (everything the constructor needs), `pretrained_cfg`
(timm's fields only) and `zoo` (format, version, sums of the files, training, metrics).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo._version import __version__
from zoo.errors import ConfigError, MissingFileError
from zoo.models.data_config import DEFAULTS
from zoo.weights.config_checks import (
    check_architecture,
    check_arguments,
    check_block,
    check_fields,
    ordered_labels,
)
from zoo.weights.strict_json import read_json, shorten

FORMAT = 1
CONFIG_NAME = "config.json"
#: Without these a model's images are prepared by guess. (A crop that is not recorded is the middle one.)
_PREPARATION = ("input_size", "interpolation", "mean", "std", "crop_pct")
SOURCE_KEYS = ("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source")


@dataclass
class ModelConfig:
    """What a config.json says.

    Attributes:
        architecture: name in the zoo's or timm's registry.
        model_args: keywords of the constructor.
        pretrained_cfg: timm's fields, label names (one a class) and class count merged in, no source fields.
        zoo: the zoo's own block, empty when another library wrote the file.
        origin: where it came from, for messages.
        remarks: contradictions and gaps that do not hinder loading, for a warning.
    """

    architecture: str
    model_args: dict[str, Any] = field(default_factory=dict)
    pretrained_cfg: dict[str, Any] = field(default_factory=dict)
    zoo: dict[str, Any] = field(default_factory=dict)
    origin: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def num_classes(self) -> int | None:
        """Classes of the weights, where stated."""
        return self.pretrained_cfg.get("num_classes")

    @property
    def multi_label(self) -> bool:
        """Whether it was trained to give an image several labels."""
        return (self.zoo.get("training") or {}).get("task") == "multi-label"

    @property
    def takes_images(self) -> bool:
        """Whether the model's inputs are images of a stated size."""
        return self.pretrained_cfg.get("input_size") is not None

    @property
    def instance_shape(self) -> list[int | None] | None:
        """Shape of an instance of a model of bags, [None] of a sequence; None for other models."""
        return self.zoo.get("instance_shape")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What the features are called of a model of bags of vectors; empty where that is not known."""
        return tuple(self.zoo.get("feature_names") or ())

    @property
    def table_task(self) -> str | None:
        """What a model of tables is for, "classification" or "regression"; None for other models."""
        return None if self.takes_images or "in_features" not in self.model_args else self.model_args.get("task")

    @property
    def vocabulary(self) -> int | None:
        """Tokens that a language model knows; None for other models."""
        return None if self.takes_images else self.model_args.get("vocab_size")

    @property
    def words(self) -> int | None:
        """Words that a model of sequences of letters takes of each; None for other models."""
        return self.model_args.get("max_len") if "tokenizer" in self.model_args else None

    @property
    def in_chans(self) -> int | None:
        """Image channels of the weights, where stated."""
        size = self.pretrained_cfg.get("input_size")
        return size[0] if size else None

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """file name -> {"sha256": ..., "size": ...} as recorded at saving."""
        return self.zoo.get("files") or {}


def read_config(path: str | os.PathLike[str], *, origin: str | None = None) -> ModelConfig:
    """Read a config.json, or the one in a folder.

    Args:
        path: the file, or the folder that holds it.
        origin: how messages name its home (a repository and revision, say). Default: the path.

    Raises:
        MissingFileError: there is none.
        ConfigError: too large, not JSON (with line and column), no architecture, a wrong type, a number beyond any
            model, or a format from the future.
    """
    path = Path(path)
    if path.is_dir():
        path = path / CONFIG_NAME
    if not path.is_file():
        raise MissingFileError(f"no {CONFIG_NAME} in {origin or path.parent}: it is not a published model")
    where = f"{path.name} of {origin}" if origin else str(path)
    return parse_config(read_json(path, where), where)


def parse_config(data: Any, where: str) -> ModelConfig:
    """Interpret the content of a config.json; `where` names it in messages."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where} holds a {type(data).__name__}, not an object")
    block = _part(data, "zoo", where)
    _check_format(block, where)
    check_block(block, where)
    architecture = check_architecture(data.get("architecture"), where)
    legacy = "pretrained_cfg" not in data
    cfg = dict(data) if legacy else _part(data, "pretrained_cfg", where)
    model_args = _part(data, "model_args", where)
    check_arguments(model_args, where)
    if legacy:
        for key in ("architecture", "num_features", "zoo", "model_args", "global_pool"):
            cfg.pop(key, None)
    if "labels" in cfg:
        cfg.setdefault("label_names", cfg.pop("labels"))
    for key in ("num_classes", "label_names", "label_descriptions"):
        if data.get(key) is not None:
            cfg[key] = data[key]
    for key in SOURCE_KEYS:
        cfg.pop(key, None)
    cfg = _known_fields(cfg, where, block, quiet=legacy)
    check_fields(cfg, where)
    _take_model_args(cfg, model_args, where)
    remarks = [*_order_labels(cfg, model_args, where), *_check_classes(cfg, model_args, where), *_missing(cfg, where)]
    return ModelConfig(architecture, model_args, cfg, block, where, remarks)


def _part(data: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = data.get(key)
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{where}: {key!r} is a {type(value).__name__}, not an object")
    return dict(value or {})


def _check_format(block: Mapping[str, Any], where: str) -> None:
    number = block.get("format", FORMAT)
    if type(number) is not int or number < 1:
        raise ConfigError(f"{where}: zoo.format must be a whole number from 1, got {shorten(number)}")
    if number > FORMAT:
        raise ConfigError(
            f"{where} is of format {number}, written by zoo {_written(block)}; this zoo "
            f"({__version__}) reads formats up to {FORMAT}. Upgrade it: pip install -U zoo-layers"
        )


def _written(block: Mapping[str, Any]) -> str:
    version = block.get("version")
    return version[:50] if isinstance(version, str) else "(unknown version)"


def timm_fields() -> set[str]:
    from dataclasses import fields

    from timm.models import PretrainedCfg

    return {f.name for f in fields(PretrainedCfg)}


def _known_fields(cfg: dict[str, Any], where: str, block: Mapping[str, Any], *, quiet: bool) -> dict[str, Any]:
    known = timm_fields()
    foreign = sorted(key[:50] for key in cfg.keys() - known)
    if foreign and not quiet:
        writer = f" (written by zoo {block['version']})" if "version" in block else ""
        warnings.warn(
            f"{where}{writer}: unknown pretrained_cfg fields ignored: {', '.join(foreign[:20])}", stacklevel=4
        )
    return {key: _tuples(value) if key != "label_descriptions" else value for key, value in cfg.items() if key in known}


def _tuples(value: Any) -> Any:
    return tuple([_tuples(v) if isinstance(v, list) else v for v in value]) if isinstance(value, list) else value


def _take_model_args(cfg: dict[str, Any], model_args: Mapping[str, Any], where: str) -> None:
    """The constructor's arguments describe the saved weights; source metadata of older exports gives way to them."""
    size = cfg.get("input_size") or (DEFAULTS["input_size"] if model_args.get("img_size") else None)
    if size:
        channels = model_args.get("in_chans") or size[0]
        spatial = model_args.get("img_size") or tuple(size[1:])
        spatial = (spatial, spatial) if isinstance(spatial, int | float | str) else tuple(spatial)
        cfg["input_size"] = (channels, *spatial)
        check_fields({"input_size": cfg["input_size"]}, f"{where}: in_chans and img_size in model_args")


def _order_labels(cfg: dict[str, Any], model_args: Mapping[str, Any], where: str) -> list[str]:
    """Make a list of labels that are written as class number -> name; what cannot be one is left out and remarked."""
    labels = cfg.get("label_names")
    if not isinstance(labels, Mapping):
        return []
    built = model_args.get("num_classes")
    classes = cfg.get("num_classes") or (built if type(built) is int else None)
    ordered = ordered_labels(labels, classes, cfg.get("label_offset") or 0)
    if ordered or not labels:
        cfg["label_names"] = ordered if labels else None
        return []
    del cfg["label_names"]
    wanted = f"class numbers below {classes}" if classes else "the class numbers from 0"
    keys = ", ".join(shorten(key, 20) for key in list(labels)[:5])
    return [f"{where}: label_names are left out, for their keys are not {wanted}: {keys}"]


def _missing(cfg: Mapping[str, Any], where: str) -> list[str]:
    """What the config does not say of how images are prepared, and what is taken for it."""
    if cfg.get("input_size", ()) is None:  # written so for a model that takes no images
        return []
    missing = [key for key in _PREPARATION if cfg.get(key) is None]
    if not missing:
        return []
    taken = ", ".join(f"{key}={DEFAULTS[key]!r}" for key in missing)
    return [
        f"{where} does not say how images are prepared: taken for what is missing are ImageNet's {taken}. Give the "
        f"real ones by zoo.set_data_config(model, {', '.join(f'{key}=…' for key in missing)}) and save the model again"
    ]


def _check_classes(cfg: Mapping[str, Any], model_args: Mapping[str, Any], where: str) -> list[str]:
    """The counts of classes in a config: labels must be as many; what contradicts the constructor's is remarked."""
    classes, built, labels = cfg.get("num_classes"), model_args.get("num_classes"), cfg.get("label_names")
    # Weights may have outputs before the first label (a background class): label_offset counts them.
    if labels is not None and classes and len(labels) not in (classes, classes - (cfg.get("label_offset") or 0)):
        raise ConfigError(
            f"{where}: {len(labels)} label_names for num_classes {classes}; correct one of them, or remove label_names"
        )
    if classes is None or type(built) is not int or classes == built:
        return []
    return [
        f"{where} says num_classes {classes}, its model_args say {built}: the model is built with the latter; correct "
        f"one of them"
    ]
