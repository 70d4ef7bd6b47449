"""Tells the modules of the catalogue among those of a model."""

from __future__ import annotations

import sys

from torch import nn

from zoo.composition.specialise import original_class
from zoo.registry import default_registry


def is_registered(module: nn.Module, kind: str) -> bool:
    """Whether a module is of a class that is registered under a kind; imports nothing."""
    cls = original_class(module)
    for entry in default_registry().modules:
        if entry.kind != kind:
            continue
        target = entry.target
        if isinstance(target, str):
            name, _, attribute = target.partition(":")
            target = getattr(sys.modules.get(name), attribute, None)
        if target is cls:
            return True
    return False
