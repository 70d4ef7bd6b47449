"""Registers our models in timm's registry as soon as timm is there, whichever of the two is imported first.

Imports neither timm nor torch: when timm is not loaded yet, a finder on `sys.meta_path` waits for `timm.models` and
calls `timm_mirror` once it has been executed.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_AWAITED = "timm.models"


def _mirror() -> None:
    from zoo.models.timm_mirror import mirror_all

    mirror_all()


class _LoaderWithCallback(importlib.abc.Loader):
    """Delegates to the real loader and mirrors our models after the module has been executed."""

    def __init__(self, loader: importlib.abc.Loader):
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module keeps its real loader, so that nothing (resources, inspection, reload) sees this wrapper.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _mirror()


class _TimmFinder(importlib.abc.MetaPathFinder):
    """Answers for `timm.models` once, then removes itself."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != _AWAITED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _LoaderWithCallback(spec.loader)
        return spec


def install() -> None:
    """Mirror now if timm is loaded, else when it will be."""
    if _AWAITED in sys.modules:
        _mirror()
    elif not any(isinstance(finder, _TimmFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TimmFinder())
