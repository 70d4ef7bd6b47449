"""config.json, written: a model as it is now, in the form that timm and the zoo read."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from zoo._version import __version__
from zoo.errors import ConfigError
from zoo.files import write_bytes
from zoo.weights.config import FORMAT, SOURCE_KEYS, timm_fields
from zoo.weights.plain import as_plain

_RUNTIME_ARGS = ("device", "dtype", "pretrained_model_args", "features_only", "out_indices", "feature_cls")
_DROP_RATES = ("drop_rate", "drop_path_rate", "drop_block_rate")


def describe(
    model: nn.Module,
    *,
    files: Mapping[str, Mapping[str, Any]] | None = None,
    training: Mapping[str, Any] | None = None,
    metrics: Sequence[Mapping[str, Any]] | None = None,
    license: str | None = None,
) -> dict[str, Any]:
    """The content of config.json for a model as it is now.

    Classes, channels, image size and pooling are read from the model, not from what it was made from, so changes
    by `reset_classifier`, `set_input_size` or `zoo.set_data_config` are in it. Of a model that takes no images (its
    `pretrained_cfg` has an `input_size` of None) nothing is said of their preparation but what it records itself.

    Args:
        model: a model made by `zoo.create_model` or `timm.create_model`.
        files: name -> {"sha256", "size"} of the files beside the config.
        training: facts about the training (JSON values).
        metrics: list of {"name", "value", "split", ...} (JSON values).
        license: licence of these weights. Default: the recorded one.

    Raises:
        ConfigError: the model was not made by a registered name, an argument or fact is not a JSON value, or a layer
            reads a shared matrix that no part of the model owns.
    """
    from zoo.models.data_config import data_config

    architecture = architecture_of(model)
    _check_owners(model)
    recorded: dict[str, Any] = getattr(model, "pretrained_cfg")  # noqa: B009 - typed, unlike the attribute
    source = {k: v for k, v in recorded.items() if v is not None and k not in SOURCE_KEYS}
    args = model_args_of(model)
    num_classes = args["num_classes"]
    cfg = {k: v for k, v in source.items() if k in timm_fields() and k not in ("architecture", "label_offset")}
    labels, descriptions = cfg.pop("label_names", None), cfg.pop("label_descriptions", None)
    if labels is not None and len(labels) != num_classes:
        labels = descriptions = None
    changed = _changed_size(model, cfg)
    if recorded.get("input_size", ()) is None:
        cfg["input_size"] = None
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # asking for real statistics is not this function's business
            cfg.update(data_config(model))
    cfg.update(num_classes=num_classes, custom_load=False)
    if license is not None:
        cfg["license"] = license
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


def _check_owners(model: nn.Module) -> None:
    """Refuse what the state dict cannot hold: a matrix that a layer shares with nothing in the model."""
    from zoo.layers.tversky.banks import SharedBank

    owners = {id(part) for part in (*model.modules(), *model.parameters())}
    for name, module in model.named_modules():
        for argument, bank in vars(module).items():
            if isinstance(bank, SharedBank) and id(bank.owner) not in owners:
                raise ConfigError(
                    f"{argument} of {name or type(module).__name__} is shared with {bank!r}, which is no "
                    f"part of the model, so it would not be saved; make its owner a part of the model"
                )


def architecture_of(model: nn.Module) -> str:
    """The registered name a model is built from.

    Raises:
        ConfigError: it was not built from a registered name, or is a feature extractor.
    """
    cfg = getattr(model, "pretrained_cfg", None)
    name = getattr(model, "zoo_name", None) or (cfg or {}).get("architecture")
    if hasattr(model, "zoo_spec"):
        name = "zoo_composite"  # whoever reads it need not know the spec by the name that it has here
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
    if spec := getattr(model, "zoo_spec", None):
        return _lasting(spec)  # says what is now, by itself
    args = _lasting(getattr(model, "_model_args", None) or {})
    args["num_classes"] = model.num_classes
    if isinstance(channels := getattr(model, "in_chans", None), int):
        args["in_chans"] = channels
    return args | backbone_state(model)


def _lasting(args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that say what a model is, as plain data, without those that say where it is or how it trains."""
    return {
        key: as_plain(value)
        for key, value in args.items()
        if key not in (*_RUNTIME_ARGS, *_DROP_RATES) and not key.endswith("_drop_rate") and value is not None
    }


def backbone_state(model: nn.Module) -> dict[str, Any]:
    """What can change in a model after it was built, as arguments: `global_pool` and `img_size`, if it has them."""
    args: dict[str, Any] = {}
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
    if spec := getattr(model, "zoo_spec", None):
        block["spec"] = _lasting(spec)
    if instance := getattr(model, "instance_shape", None):
        block["instance_shape"] = list(instance)
    if names := model.pretrained_cfg.get("feature_names"):  # pyright: ignore - checked by `architecture_of`
        block["feature_names"] = list(names)
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
