"""Leaving out of a stitched network what a path does not run."""

from collections.abc import Collection, Sequence
from typing import Any

from torch import nn

from zoo.models.stitching.path import PathStep


def keep_only(net: Any, plan: Sequence[PathStep]) -> None:
    """Take all weights out of a stitched network, in place, but those of these steps.

    Names stay what they were; what was taken out is an `Identity`, of single parameters and buffers None.
    """
    kept: dict[int, list[str]] = {id(anchor.model): [] for anchor in net._anchors}
    for step in plan:
        if step.piece is not None:
            anchor = net._anchors[step.anchor]
            kept[id(anchor.model)] += anchor.names(step.piece)
    for model in {id(anchor.model): anchor.model for anchor in net._anchors}.values():
        _strip(model, "", kept[id(model)], net.stitch_layers)
    layers = {id(net.stitch_layer(step.join)) for step in plan if step.join is not None}
    _strip_layers(net.stitch_layers, layers)


def _strip(module: nn.Module, path: str, kept: Collection[str], spared: nn.Module) -> None:
    for name, child in list(module.named_children()):
        full = f"{path}{name}"
        if full in kept or child is spared:
            continue
        if any(name.startswith(f"{full}.") for name in kept):
            _strip(child, f"{full}.", kept, spared)
        else:
            setattr(module, name, nn.Identity())
    for tensors in (module._parameters, module._buffers):
        for name in tensors:
            if f"{path}{name}" not in kept:
                tensors[name] = None


def _strip_layers(module: nn.Module, kept: Collection[int]) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.ModuleList):
            _strip_layers(child, kept)
        elif id(child) not in kept:
            setattr(module, name, nn.Identity())
