"""The layer of a model that can be explained, and what it is given."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from zoo.layers.hopfield import Hopfield, HopfieldLayer, HopfieldPooling
from zoo.layers.modes import evaluating
from zoo.layers.tversky import TverskyProjection
from zoo.naming import did_you_mean

Layer = TypeVar("Layer", bound=nn.Module)


def tversky_layer(model: nn.Module, name: str | None = None) -> TverskyProjection:
    """The `TverskyProjection` of a model.

    Args:
        model: a model, or the layer itself.
        name: dotted name of the layer, needed where there are several.

    Raises:
        ValueError: there is none, or there are several and no name is given, or the name is of none of them.
    """
    return _find(model, name, "TverskyProjection", TverskyProjection)


def hopfield_layer(model: nn.Module, name: str | None = None) -> Hopfield | HopfieldPooling | HopfieldLayer:
    """The layer of a model that associates: a `HopfieldPooling` or `HopfieldLayer`, or a `Hopfield` by itself.

    Args:
        model: a model, or the layer itself.
        name: dotted name of the layer, needed where there are several.

    Raises:
        ValueError: there is none, or there are several and no name is given, or the name is of none of them.
    """
    return _find(model, name, "Hopfield layer", Hopfield, HopfieldPooling, HopfieldLayer)  # pyright: ignore


def _find(model: nn.Module, name: str | None, what: str, *kinds: type[Layer]) -> Layer:
    """The one layer of some kinds, or that of a name; what lies inside another of them is a part of it."""
    found: dict[str, Layer] = {}
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{other}." if other else "") for other in found)
        if isinstance(module, kinds) and not inside:
            found[path] = module
    if not found:
        leaves = Counter(type(module).__name__ for module in model.modules() if not list(module.children()))
        held = ", ".join(f"{kind} ({count})" for kind, count in leaves.most_common(5))
        raise ValueError(f"{type(model).__name__} has no {what}; its layers are {held}")
    if name is not None:
        if name not in found:
            listed = did_you_mean(name, found) or f"; there is {_some(list(found))}"
            raise ValueError(f"{name!r} is no {what} of the model{listed}")
        return found[name]
    if len(found) > 1:
        raise ValueError(f"the model has {len(found)} {what}s; name one of {_some(list(found))}")
    return next(iter(found.values()))


@torch.no_grad()
def layer_inputs(model: nn.Module, x: Tensor, name: str | None = None) -> Tensor:
    """What the `TverskyProjection` of a model is given when the model sees x, in evaluation mode.

    Args:
        model: as it is called on x.
        x: a batch for the model.
        name: of the layer, as for `tversky_layer`.

    Returns:
        (*batch, in_features): what `layer.explain`, `layer.diagnose` and the pictures take.

    Raises:
        ValueError: see `tversky_layer`; or the model does not call the layer.
    """
    given, _ = _call_of(model, tversky_layer(model, name), "TverskyProjection", (x,), {})
    return given[0].detach()


@torch.no_grad()
def layer_association(model: nn.Module, *inputs: Any, name: str | None = None, **keywords: Any) -> Tensor:
    """How much every state took from every stored pattern when the model sees its inputs, in evaluation mode.

    Args:
        model: a Hopfield layer, a `HopfieldMemory`, a model of bags, or any model with a Hopfield layer.
        inputs, keywords: as the model is called.
        name: of the layer, as for `hopfield_layer`.

    Returns:
        (batch, heads, states, stored); of a memory (*states, patterns).

    Raises:
        ValueError: see `hopfield_layer`; or the model does not call the layer.
    """
    own = getattr(model, "association", None)
    with evaluating(model):
        if name is None and inspect.ismethod(own):  # an encoder layer's is a part of it
            return own(*inputs, **keywords).detach()
        layer = hopfield_layer(model, name)
        given, named = _call_of(model, layer, "Hopfield layer", inputs, keywords)
        return layer.association(*given, **named).detach()


def _call_of(
    model: nn.Module, layer: nn.Module, what: str, inputs: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """With what the model, in evaluation mode, last calls the layer."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    hook = layer.register_forward_pre_hook(lambda _, given, named: seen.append((given, named)), with_kwargs=True)
    try:
        with evaluating(model):
            model(*inputs, **keywords)
    finally:
        hook.remove()
    if not seen:
        raise ValueError(f"the model does not call its {what} on this input")
    return seen[-1]


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")
