"""Builds a base with its new parts in place from the start, where its constructor takes their class.

Then the backbone's own initialisation and its schedules over depth (drop path, scaled weights) see the new parts as
they would have seen its own. It is done only if it puts them in exactly the places that a replacement would.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import timm
from timm.models._features_fx import register_notrace_module
from torch import nn

from zoo.composition.meta import without_values
from zoo.composition.slots import Places, takes
from zoo.composition.spec import Choice, Spec, resolve_options
from zoo.composition.specialise import original_class

_KEYWORDS = {"mlp": "mlp_layer", "mixer": "attn_layer", "act": "act_layer"}
_POSITIONS = {"mlp": ("in_features", "hidden_features"), "mixer": ("dim", "num_heads"), "act": ()}


def build_native(
    spec: Spec, twin: nn.Module, plan: Mapping[str, Places], placement: Mapping[str, Any]
) -> tuple[nn.Module, tuple[str, ...]]:
    """The base with random weights, and the slots in which it has its new parts already.

    Args:
        spec: what shall be where.
        twin: the base without them, on the meta device.
        plan: slot -> the places.
        placement: `device` and `dtype`, where given.
    """
    parameters = inspect.signature(original_class(twin).__init__).parameters
    layers: dict[str, Any] = {}
    for slot, keyword in _KEYWORDS.items():
        choice = spec.choices.get(slot)
        if choice is None or choice.where != "all" or choice.places or choice.init == "match":
            continue
        if keyword not in parameters:
            continue
        if keyword not in spec.arguments and _same_places(spec, slot, choice, plan[slot].paths):
            layers[slot] = _factory(slot, choice)
    keywords: dict[str, Any] = {_KEYWORDS[slot]: factory for slot, factory in layers.items()}
    return timm.create_model(spec.base, pretrained=False, **spec.arguments, **placement, **keywords), tuple(layers)


def _same_places(spec: Spec, slot: str, choice: Choice, paths: list[str]) -> bool:
    made: list[nn.Module] = []
    try:
        with without_values():
            keyword: dict[str, Any] = {_KEYWORDS[slot]: _factory(slot, choice, made)}
            model = timm.create_model(spec.base, pretrained=False, **spec.arguments, **keyword)
    except Exception:  # the constructor wants more of the class than the kind promises: replaced in place instead
        return False
    ours = {id(module) for module in made}
    return [name for name, module in model.named_modules(remove_duplicate=False) if id(module) in ours] == paths


def _factory(slot: str, choice: Choice, made: list[nn.Module] | None = None) -> Callable[..., nn.Module]:
    """What the backbone calls as it would the class of its own part."""
    target, entry = choice.target, choice.entry
    chosen = {**(entry.args if entry else {}), **resolve_options(choice.options)}
    ratio = chosen.pop("hidden_ratio", None)

    def build(*args: Any, **kwargs: Any) -> nn.Module:
        given = {**dict(zip(_POSITIONS[slot], args, strict=False)), **kwargs}
        given = {key: value for key, value in given.items() if value is not None and takes(target, key)}
        if ratio is not None:
            given["hidden_features"] = max(1, round(ratio * given["in_features"]))
        module = target(**{**given, **chosen})
        register_notrace_module(type(module))
        if made is not None:
            made.append(module)
        return module

    return build
