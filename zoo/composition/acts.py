"""Every activation."""

from __future__ import annotations

from typing import Any

from torch import nn

from zoo.composition.probe import Probe
from zoo.composition.registered import is_registered
from zoo.composition.slots import Places, Slot
from zoo.composition.specialise import original_class

# Gates and weights over choices are functions of their own, not the network's non-linearity.
_GATES = {
    "Sigmoid",
    "Hardsigmoid",
    "HardSigmoid",
    "HardSigmoidMe",
    "HardSigmoidJit",
    "LogSigmoid",
    "Softmax",
    "Softmax2d",
    "LogSoftmax",
    "Softmin",
    "GLU",
    "MultiheadAttention",
}
_HOMES = ("torch.nn.modules.activation", "timm.layers.activations", "timm.layers.activations_me")


def find_acts(model: nn.Module, seen: Probe) -> Places:
    """Activation modules of torch and timm, and registered ones; gates (sigmoid, softmax) are none."""
    places = Places()
    for path, module in model.named_modules():
        cls = original_class(module)
        is_act = cls.__module__ in _HOMES and cls.__name__ not in _GATES
        if path and (is_act or is_registered(module, "act")):
            places.slots.append(Slot(path, {}))
    return places


def fit_act(new: nn.Module, *_: Any) -> nn.Module:
    """An activation fits as it is."""
    return new
