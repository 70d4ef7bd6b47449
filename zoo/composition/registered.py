"""Tells the modules of the catalogue among those of a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from torch import nn

from zoo.composition.specialise import original_class
from zoo.registry import Entry, default_registry


def is_registered(module: nn.Module, kind: str) -> bool:
    """Whether a module is of a class that is registered under a kind; imports nothing."""
    cls = original_class(module)
    return any(entry.kind == kind for entry in entries_of(cls))


def entries_of(cls: object) -> Iterator[Entry]:
    """Rows of the catalogue whose target a class or callable is; imports nothing."""
    for entry in default_registry().modules:
        target = entry.target
        if isinstance(target, str):
            name, _, attribute = target.partition(":")
            target = getattr(sys.modules.get(name), attribute, None)
        if target is cls:
            yield entry
