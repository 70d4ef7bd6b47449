"""From a catalogue entry to a module, through timm's own builder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from timm.models import build_model_with_cfg, get_pretrained_cfg, load_pretrained, resolve_pretrained_cfg
from torch import nn

from zoo.registry import Entry, weights_entry

# What timm's factory passes to every entry point: where weights are and how a network is described, and, of a saved
# model, the arguments of the network that they are of.
_DESCRIPTION = ("pretrained_cfg", "pretrained_cfg_overlay")
_LOADING = ("cache_dir", "pretrained_model_args")
# Where and how a model is executed: whoever loads it decides anew, unless it was asked for by name.
_EXECUTION = ("device", "dtype", "attn_backend", "kan_backend")


def build_model(entry: Entry, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build the model of `entry`.

    A class is built by timm's `build_model_with_cfg`, which knows `features_only`, `out_indices`, `pretrained_cfg` and
    `pretrained_cfg_overlay`; one with `describe_parts(options)` is asked by it what its options say of the
    configuration, where the caller gives none. A function that names `pretrained` is called as timm calls its entry
    points; any other is spared what is about weights, and its model is given them here, with as many classes as they
    have unless `num_classes` says otherwise.

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
    """Call a function that makes a model; one that is not of timm's kind is spared timm's words that it does not name.

    Args:
        function: of timm's kind if it names `pretrained`.
        name: by which it is registered.
        pretrained: whether its model has weights.
        kwargs: of the function, and those that timm's factory adds.
    """
    parameters = inspect.signature(function).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    loads = "pretrained" in parameters
    spared = () if loads and takes_all else _LOADING if takes_all else (*_LOADING, *_DESCRIPTION)
    own = {key: value for key, value in kwargs.items() if key in parameters or key not in spared}
    if loads:
        return function(**own, pretrained=pretrained)
    return function(**own) if not pretrained else _with_weights(function, name, own, kwargs)


def _with_weights(
    function: Callable[..., nn.Module], name: str, own: dict[str, Any], given: Mapping[str, Any]
) -> nn.Module:
    """The model of a function, with the weights that its configuration names.

    Args:
        function: makes the model.
        name: by which it is registered.
        own: arguments of the function.
        given: what timm's factory gave beside these, too.
    """
    source, overlay = (given.get(key) for key in _DESCRIPTION)
    cfg = resolve_pretrained_cfg(name, source, overlay)
    if "num_classes" in inspect.signature(function).parameters and cfg.num_classes is not None:
        own = {"num_classes": cfg.num_classes, **own}
    if isinstance(source, str | None) and not overlay:  # the weights are those of the catalogue
        row = weights_entry(f"{name}.{source}" if source else name)
        own = own if row is None else {**row.known, **own}
    model = function(**own)
    described = getattr(model, "pretrained_cfg", None) or {}
    described = {**cfg.to_dict(), **({"classifier": described["classifier"]} if "classifier" in described else {})}
    count = getattr(model, "num_classes", cfg.num_classes)
    channels = getattr(model, "in_chans", None) or (cfg.input_size or (3,))[0]
    load_pretrained(model, described, num_classes=count, in_chans=channels, cache_dir=given.get("cache_dir"))
    if count != cfg.num_classes and hasattr(model, "uncalibrate"):
        model.uncalibrate()  # type: ignore[operator] - nn.Module types unknown attributes as tensors
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
