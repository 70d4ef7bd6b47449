"""The layer of a model that can be explained, and what it is given."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn

from zoo.layers.hopfield import Hopfield, HopfieldLayer, HopfieldPooling, HopfieldSelfAssociation
from zoo.layers.hopfield.reference import Associated
from zoo.layers.modes import evaluating
from zoo.layers.tversky import TverskyProjection
from zoo.naming import did_you_mean

Layer = TypeVar("Layer", bound=nn.Module)
HopfieldKind = Hopfield | HopfieldPooling | HopfieldLayer | HopfieldSelfAssociation


def tversky_layer(model: nn.Module, name: str | None = None) -> TverskyProjection:
    """The `TverskyProjection` of a model.

    Args:
        model: a model, or the layer itself.
        name: dotted name of the layer, needed where there are several.

    Raises:
        ValueError: there is none, or there are several and no name is given, or the name is of none of them.
    """
    return only_layer(model, name, "TverskyProjection", TverskyProjection)


def hopfield_layer(model: nn.Module, name: str | None = None) -> HopfieldKind:
    """The layer of a model that associates: a `Hopfield`, or what has one in it: pooling, lookup, self-association.

    Args:
        model: a model, or the layer itself.
        name: dotted name of the layer, needed where there are several.

    Raises:
        ValueError: there is none, or there are several and no name is given, or the name is of none of them.
    """
    return only_layer(model, name, "Hopfield layer", *get_args(HopfieldKind))


def check_module(model: Any) -> None:
    """Refuse what is no torch module.

    Raises:
        TypeError: it is none; of an estimator of `zoo.tabular`, with where its model is.
    """
    if not isinstance(model, nn.Module):
        inside = isinstance(getattr(model, "model_", None), nn.Module)
        hint = "give its model_" if inside else "fit it and give its model_" if hasattr(model, "fit") else ""
        raise TypeError(f"model must be a torch module, got {type(model).__name__}{'; ' if hint else ''}{hint}")


def check_floating(x: Any) -> None:
    """Refuse what is no floating tensor, and what is not finite.

    Raises:
        TypeError, ValueError: it is not.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        made = "x.to_numpy()" if hasattr(x, "to_numpy") else "x"
        raise TypeError(f"x must be a floating tensor, got {kind}; torch.tensor({made}, dtype=torch.float32) makes one")
    if not x.isfinite().all():
        place = (~x.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"x must be finite, x{place} is {float(x[tuple(place)])}")


def only_layer(model: nn.Module, name: str | None, what: str, *kinds: type[Layer]) -> Layer:
    """The one layer of some kinds, or that of a name; what lies inside another of them is a part of it."""
    check_module(model)
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
    layer = tversky_layer(model, name)
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        with evaluating(model):
            model(x)
    finally:
        handle.remove()
    if not seen:
        raise ValueError("the model does not call its TverskyProjection on this input")
    return seen[-1].detach()


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
        with _listening(layer if isinstance(layer, Hopfield) else layer.hopfield) as heard:
            model(*inputs, **keywords)
    if not heard:
        raise ValueError(
            "the model does not call its Hopfield layer on this input, or that pools without norms and projections, "
            "where only its own `association` tells"
        )
    return heard[-1].detach()


@contextmanager
def _listening(layer: Hopfield) -> Iterator[list[Tensor]]:
    """Collects the associations that a layer makes."""
    heard: list[Tensor] = []
    associate = layer.associate_heads

    def tell(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, need_association: bool = False) -> Associated:
        found = associate(q, k, v, mask, True)
        assert found.association is not None
        heard.append(found.association)
        return found

    # Pooling makes no association unless somebody listens to these.
    parts = (layer.norm_stored, layer.norm_value, layer.proj_stored, layer.proj_value)
    hooks = [part.register_forward_hook(lambda *_: None) for part in parts if part is not None]
    setattr(layer, "associate_heads", tell)  # noqa: B010
    try:
        yield heard
    finally:
        delattr(layer, "associate_heads")
        for hook in hooks:
            hook.remove()


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")
