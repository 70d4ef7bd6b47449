"""The layer of a model that can be explained, and what it is given."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from zoo.layers.modes import evaluating
from zoo.layers.tversky import TverskyProjection
from zoo.naming import did_you_mean


def tversky_layer(model: nn.Module, name: str | None = None) -> TverskyProjection:
    """The `TverskyProjection` of a model.

    Args:
        model: a model, or the layer itself.
        name: dotted name of the layer, needed where there are several.

    Raises:
        ValueError: there is none, or there are several and no name is given, or the name is of none of them.
    """
    found = {n: module for n, module in model.named_modules() if isinstance(module, TverskyProjection)}
    if not found:
        kinds = Counter(type(module).__name__ for module in model.modules() if not list(module.children()))
        held = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common(5))
        raise ValueError(f"{type(model).__name__} has no TverskyProjection; its layers are {held}")
    if name is not None:
        if name not in found:
            listed = did_you_mean(name, found) or f"; there is {_some(list(found))}"
            raise ValueError(f"{name!r} is no TverskyProjection of the model{listed}")
        return found[name]
    if len(found) > 1:
        raise ValueError(f"the model has {len(found)} TverskyProjections; name one of {_some(list(found))}")
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


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")
