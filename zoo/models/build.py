"""From a catalogue entry to a module, through timm's own builder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from timm.models import build_model_with_cfg, get_pretrained_cfg, load_pretrained, resolve_pretrained_cfg
from torch import nn

from zoo.registry import Entry

# What timm's factory passes to every entry point.
_TIMM_KEYWORDS = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
# Where and how a model is executed: whoever loads it decides anew, unless it was asked for by name.
_EXECUTION = ("device", "dtype", "attn_backend", "kan_backend")


def build_model(entry: Entry, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build the model of `entry`.

    A class is built by timm's `build_model_with_cfg`, which knows `features_only`, `out_indices`, `pretrained_cfg` and
    `pretrained_cfg_overlay`; one with `describe_parts(options)` is asked by it what its options say of the
    configuration, where the caller gives none. A function is called as timm calls its entry points, and if it does not
    take `pretrained` its model is given the weights here, with as many classes as they have unless `num_classes` says
    otherwise.

    Args:
        entry: row of the catalogue; its `args` are defaults, `kwargs` win.
        pretrained: let timm load the weights (`zoo.create_model` loads them itself and passes False).
        **kwargs: constructor options and those of timm's builder.

    Returns:
        The model, with `zoo_name` (registered name) and `_model_args` (its options, timm's attribute) set.
    """
    target = entry.load()
    if not inspect.isclass(target):
        model = _call(target, entry.name, pretrained, {**entry.args, **kwargs})
        _complete(model, entry, kwargs)
    else:
        describe = getattr(target, "describe_parts", None)
        if describe and not isinstance(kwargs.get("pretrained_cfg"), Mapping) and (own := describe(kwargs)):
            kwargs["pretrained_cfg_overlay"] = {**own, **(kwargs.get("pretrained_cfg_overlay") or {})}
        model = build_model_with_cfg(
            cast(type[nn.Module], target),
            entry.name,
            pretrained,
            feature_cfg=dict(getattr(target, "feature_cfg", {})),
            **{**entry.args, **kwargs},
        )
        # timm's factory adds what the caller gave; a saved config then holds every option, and stays true should a
        # default or the catalogue's row change.
        model._model_args = {**_defaults(target), **entry.args}  # type: ignore[assignment]
    model.zoo_name = entry.name  # type: ignore[assignment]
    return model


def _call(function: Callable[..., nn.Module], name: str, pretrained: bool, kwargs: dict[str, Any]) -> nn.Module:
    """Call a timm-style function; one that does not take timm's configuration arguments is spared them."""
    parameters = inspect.signature(function).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    chosen = {key: kwargs.get(key) for key in ("pretrained_cfg", "pretrained_cfg_overlay")}
    if not takes_all:
        kwargs = {k: v for k, v in kwargs.items() if k in parameters or k not in _TIMM_KEYWORDS}
    if takes_all or "pretrained" in parameters:
        return function(**kwargs, pretrained=pretrained)
    if not pretrained:
        return function(**kwargs)
    cfg = resolve_pretrained_cfg(name, **chosen)
    if "num_classes" in parameters and cfg.num_classes is not None:
        kwargs = {"num_classes": cfg.num_classes, **kwargs}
    model = function(**kwargs)
    own = getattr(model, "pretrained_cfg", None) or {}
    described = {**cfg.to_dict(), **({"classifier": own["classifier"]} if "classifier" in own else {})}
    load_pretrained(model, described, num_classes=getattr(model, "num_classes", cfg.num_classes))
    return model


def _complete(model: nn.Module, entry: Entry, kwargs: dict[str, Any]) -> None:
    """Give a user's plain module what saving, fine-tuning and `zoo.data_config` ask of a timm model."""
    if not getattr(model, "pretrained_cfg", None):
        registered = get_pretrained_cfg(entry.name)
        model.pretrained_cfg = {**(registered.to_dict() if registered else {}), "architecture": entry.name}  # type: ignore[assignment]
    parameters = inspect.signature(entry.load()).parameters
    for name in ("num_classes", "in_chans"):
        default = parameters[name].default if name in parameters else None
        value = kwargs.get(name, entry.args.get(name, default))
        if isinstance(value, int) and not hasattr(model, name):
            setattr(model, name, value)


def _defaults(cls: type) -> dict[str, Any]:
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: p.default for p in parameters if p.default not in (p.empty, None) and p.name not in _EXECUTION}
