"""config.json: one file that describes a model to timm and to the zoo alike.

Layout (timm's own, with one more top-level key that timm ignores): `architecture`, `num_classes`, `num_features`,
`global_pool`, `label_names`, `label_descriptions`, `model_args` (everything the constructor needs), `pretrained_cfg`
(timm's fields only) and `zoo` (format, version, sums of the files, training, metrics).
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo._version import __version__
from zoo.errors import ConfigError
from zoo.files import write_bytes

if TYPE_CHECKING:
    from torch import nn

FORMAT = 1
CONFIG_NAME = "config.json"
_SOURCE_KEYS = ("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source")
_RUNTIME_ARGS = ("device", "dtype", "pretrained_model_args", "features_only", "out_indices", "feature_cls")
_DROP_RATES = ("drop_rate", "drop_path_rate", "drop_block_rate")


@dataclass
class ModelConfig:
    """What a config.json says.

    Attributes:
        architecture: name in the zoo's or timm's registry.
        model_args: keywords of the constructor.
        pretrained_cfg: timm's fields, label names and class count merged in, no source fields.
        zoo: the zoo's own block, empty when another library wrote the file.
        origin: where it came from, for messages.
    """

    architecture: str
    model_args: dict[str, Any] = field(default_factory=dict)
    pretrained_cfg: dict[str, Any] = field(default_factory=dict)
    zoo: dict[str, Any] = field(default_factory=dict)
    origin: str = ""

    @property
    def num_classes(self) -> int | None:
        """Classes of the weights, where stated."""
        return self.pretrained_cfg.get("num_classes")

    @property
    def in_chans(self) -> int | None:
        """Image channels of the weights, where stated."""
        size = self.pretrained_cfg.get("input_size")
        return size[0] if size else None

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """file name -> {"sha256": ..., "size": ...} as recorded at saving."""
        return self.zoo.get("files") or {}


# ---------------------------------------------------------------------------------------------------------- reading


def read_config(path: str | os.PathLike[str], *, origin: str | None = None) -> ModelConfig:
    """Read a config.json, or the one in a folder.

    Args:
        path: the file, or the folder that holds it.
        origin: how messages name its home (a repository and revision, say). Default: the path.

    Raises:
        FileNotFoundError: there is none.
        ConfigError: not JSON (with line and column), no architecture, a wrong type, or a format from the future.
    """
    path = Path(path)
    if path.is_dir():
        path = path / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(f"no {CONFIG_NAME} in {origin or path.parent}: it is not a published model")
    where = f"{path.name} of {origin}" if origin else str(path)
    try:
        data = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where} is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text: {error}") from error
    return parse_config(data, where)


def parse_config(data: Any, where: str) -> ModelConfig:
    """Interpret the content of a config.json; `where` names it in messages."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where} holds a {type(data).__name__}, not an object")
    block = _part(data, "zoo", where)
    _check_format(block, where)
    if not isinstance(data.get("architecture"), str) or not data["architecture"]:
        raise ConfigError(f"{where} names no architecture (a text under the key 'architecture')")
    legacy = "pretrained_cfg" not in data
    cfg = dict(data) if legacy else _part(data, "pretrained_cfg", where)
    model_args = _part(data, "model_args", where)
    if legacy:
        for key in ("architecture", "num_features", "zoo", "model_args", "global_pool"):
            cfg.pop(key, None)
    if "labels" in cfg:
        cfg.setdefault("label_names", cfg.pop("labels"))
    for key in ("num_classes", "label_names", "label_descriptions"):
        if data.get(key) is not None:
            cfg[key] = data[key]
    for key in _SOURCE_KEYS:
        cfg.pop(key, None)
    cfg = _known_fields(cfg, where, block, quiet=legacy)
    _take_model_args(cfg, model_args)
    _check_types(cfg, where)
    return ModelConfig(data["architecture"], model_args, cfg, block, where)


def _part(data: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = data.get(key)
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{where}: {key!r} is a {type(value).__name__}, not an object")
    return dict(value or {})


def _check_format(block: Mapping[str, Any], where: str) -> None:
    number = block.get("format", FORMAT)
    if type(number) is not int or number < 1:
        raise ConfigError(f"{where}: zoo.format must be a whole number from 1, got {number!r}")
    if number > FORMAT:
        raise ConfigError(
            f"{where} is of format {number}, written by zoo {block.get('version', '(unknown version)')}; this zoo "
            f"({__version__}) reads formats up to {FORMAT}. Upgrade it: pip install -U zoo-layers"
        )


def _timm_fields() -> set[str]:
    from dataclasses import fields

    from timm.models import PretrainedCfg

    return {f.name for f in fields(PretrainedCfg)}


def _known_fields(cfg: dict[str, Any], where: str, block: Mapping[str, Any], *, quiet: bool) -> dict[str, Any]:
    known = _timm_fields()
    foreign = sorted(cfg.keys() - known)
    if foreign and not quiet:
        writer = f" (written by zoo {block['version']})" if "version" in block else ""
        warnings.warn(f"{where}{writer}: unknown pretrained_cfg fields ignored: {', '.join(foreign)}", stacklevel=4)
    return {key: _tuples(value) if key != "label_descriptions" else value for key, value in cfg.items() if key in known}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _take_model_args(cfg: dict[str, Any], model_args: Mapping[str, Any]) -> None:
    """The constructor's arguments describe the saved weights; source metadata of older exports gives way to them."""
    size = cfg.get("input_size")
    if size and len(size) == 3:
        channels = model_args.get("in_chans") or size[0]
        spatial = model_args.get("img_size") or tuple(size[1:])
        spatial = (spatial, spatial) if isinstance(spatial, int) else tuple(spatial)
        cfg["input_size"] = (channels, *spatial)


def _check_types(cfg: Mapping[str, Any], where: str) -> None:
    size, classes = cfg.get("input_size"), cfg.get("num_classes")
    if size is not None and not (
        isinstance(size, tuple) and len(size) == 3 and all(type(v) is int and v > 0 for v in size)
    ):
        raise ConfigError(f"{where}: input_size must be [channels, height, width], got {size!r}")
    if classes is not None and (type(classes) is not int or classes < 0):
        raise ConfigError(f"{where}: num_classes must be a whole number from 0, got {classes!r}")


# ---------------------------------------------------------------------------------------------------------- writing


def describe(
    model: nn.Module,
    *,
    files: Mapping[str, Mapping[str, Any]] | None = None,
    training: Mapping[str, Any] | None = None,
    metrics: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The content of config.json for a model as it is now.

    Classes, channels, image size and pooling are read from the model, not from what it was made from, so changes
    by `reset_classifier`, `set_input_size` or `zoo.set_data_config` are in it.

    Args:
        model: a model made by `zoo.create_model` or `timm.create_model`.
        files: name -> {"sha256", "size"} of the files beside the config.
        training: facts about the training (JSON values).
        metrics: list of {"name", "value", "split", ...} (JSON values).

    Raises:
        ConfigError: the model was not made by a registered name, or an argument or fact is not a JSON value.
    """
    from zoo.models.data_config import data_config

    architecture = architecture_of(model)
    source = {k: v for k, v in model.pretrained_cfg.items() if v is not None and k not in _SOURCE_KEYS}
    args = model_args_of(model)
    num_classes = args["num_classes"]
    cfg = {k: v for k, v in source.items() if k in _timm_fields() and k not in ("architecture", "label_offset")}
    labels, descriptions = cfg.pop("label_names", None), cfg.pop("label_descriptions", None)
    if labels is not None and len(labels) != num_classes:
        labels = descriptions = None
    changed = _changed_size(model, cfg)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # asking for real statistics is not this function's business
        cfg.update(data_config(model))
    cfg.update(num_classes=num_classes, custom_load=False)
    _fit_sizes(cfg, changed)
    for key in ("pool_size", "first_conv", "classifier"):
        cfg.setdefault(key, None)
    content: dict[str, Any] = {"architecture": architecture, "num_classes": num_classes}
    if isinstance(features := getattr(model, "num_features", None), int):
        content["num_features"] = features
    if args.get("global_pool"):
        content["global_pool"] = args["global_pool"]
    if labels:
        content["label_names"] = list(labels) if not isinstance(labels, Mapping) else labels
    if descriptions:
        content["label_descriptions"] = descriptions
    block = _block(model, files, training, metrics)
    content |= {"model_args": args, "pretrained_cfg": _ordered(cfg), "zoo": block}
    _check_json(content, architecture)
    return json.loads(json.dumps(content))


def architecture_of(model: nn.Module) -> str:
    """The registered name a model is built from.

    Raises:
        ConfigError: it was not built from a registered name, or is a feature extractor.
    """
    cfg = getattr(model, "pretrained_cfg", None)
    name = getattr(model, "zoo_name", None) or (cfg or {}).get("architecture")
    if not isinstance(name, str) or not isinstance(cfg, Mapping):
        raise ConfigError(
            f"{type(model).__name__} was not made by a registered name, so no one could rebuild it; register its class "
            f"with @zoo.register_model and make it by zoo.create_model"
        )
    if not isinstance(getattr(model, "num_classes", None), int):
        raise ConfigError(
            f"{type(model).__name__} around {name!r} is a feature extractor (features_only=True); save the model "
            f"itself and ask for features_only=True when it is loaded"
        )
    return name


def model_args_of(model: nn.Module) -> dict[str, Any]:
    """The constructor arguments that rebuild a model as it is now."""
    args = {
        key: value
        for key, value in (getattr(model, "_model_args", None) or {}).items()
        if key not in (*_RUNTIME_ARGS, *_DROP_RATES) and not key.endswith("_drop_rate") and value is not None
    }
    args["num_classes"] = model.num_classes
    if isinstance(channels := getattr(model, "in_chans", None), int):
        args["in_chans"] = channels
    if (pool := _global_pool(model)) is not None:
        args["global_pool"] = pool
    if (size := (getattr(model, "_traits", None) or {}).get("img_size")) is not None:
        args["img_size"] = list(size)
    return args


def _global_pool(model: nn.Module) -> str | None:
    """The pooling in force; the module that pools knows it better than the constructor's record."""
    head = getattr(model, "head", None)
    for owner, key in ((head, "global_pool"), (head, "pool_type"), (model, "global_pool")):
        pool = getattr(owner, key, None)
        pool = getattr(pool, "pool_type", pool)
        if isinstance(pool, str):
            return pool
    return None


def _changed_size(model: nn.Module, cfg: Mapping[str, Any]) -> bool:
    size = (getattr(model, "_traits", None) or {}).get("img_size")
    return size is not None and tuple(size) != tuple(cfg.get("input_size", (0, *size)))[1:]


def _fit_sizes(cfg: dict[str, Any], changed: bool) -> None:
    """Channels hold for every recorded size; another image size ends what was measured at the old one."""
    for key in ("test_input_size", "min_input_size"):
        if cfg.get(key):
            cfg[key] = [cfg["input_size"][0], *cfg[key][1:]]
    if changed:
        cfg["pool_size"] = None
        for key in ("test_input_size", "test_pool_size", "test_crop_pct"):
            cfg.pop(key, None)


def _ordered(cfg: dict[str, Any]) -> dict[str, Any]:
    """timm's order of fields, whatever the way by which the model came."""
    from dataclasses import fields

    from timm.models import PretrainedCfg

    return {f.name: cfg[f.name] for f in fields(PretrainedCfg) if f.name in cfg}


def _block(
    model: nn.Module,
    files: Mapping[str, Mapping[str, Any]] | None,
    training: Mapping[str, Any] | None,
    metrics: Sequence[Mapping[str, Any]] | None,
) -> dict[str, Any]:
    parameters = list(model.parameters())
    dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in parameters})
    block: dict[str, Any] = {
        "format": FORMAT,
        "version": __version__,
        "requires": {"timm": ">=1.0.31"},
        "params": sum(p.numel() for p in parameters),
        "dtype": dtypes[0] if len(dtypes) == 1 else dtypes,
    }
    if files:
        block["files"] = {name: dict(facts) for name, facts in files.items()}
    if training:
        block["training"] = dict(training)
    if metrics:
        block["metrics"] = [dict(m) for m in metrics]
    return block


def _check_json(content: Mapping[str, Any], architecture: str) -> None:
    for part in ("model_args", "pretrained_cfg", "zoo"):
        for key, value in content[part].items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                hint = "; register the class under a name and pass the name" if part == "model_args" else ""
                raise ConfigError(
                    f"{part}[{key!r}] of {architecture!r} is {value!r}, which JSON cannot hold ({error}){hint}"
                ) from error


def dump_config(content: Mapping[str, Any]) -> str:
    """Canonical text of a config: equal contents give equal bytes (keys inside `zoo` sorted, newline at the end)."""
    content = dict(content)
    if "zoo" in content:
        content["zoo"] = json.loads(json.dumps(content["zoo"], sort_keys=True))
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_config(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a config atomically, in its canonical form."""
    write_bytes(path, dump_config(content).encode("utf-8"))
