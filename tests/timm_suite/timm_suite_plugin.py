"""A pytest plug-in that points timm's `test_models.py` at our models.

The file fixes its parameters at import, by asking timm for its models; here those answers are narrowed to ours. Loaded
with `-p timm_suite_plugin` from this folder: timm's suite is a package named `tests` too, so ours must stay out of the
way. `ZOO_TIMM_SUITE_MODELS` lists names (all of ours by default) and `ZOO_TIMM_SUITE_TOKENS` patterns of models whose
features are tokens rather than maps.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest

_MARKS = ("base", "forward", "backward", "cfg", "cfg_nonstd", "torchscript", "features", "fxforward", "fxbackward")
# These two stand only in timm's list of families without maps, which serves as a filter and as an exclusion.
_TOKEN_FAMILIES = {"vit_*", "mvitv2*"}


def _listed(variable: str) -> list[str]:
    return [part for part in os.environ.get(variable, "").split(",") if part]


def _as_list(filters: str | Iterable[str]) -> list[str]:
    return [filters] if isinstance(filters, str) else list(filters)


def _base(name: str) -> str:
    return name.partition(".")[0]


def our_models() -> list[str]:
    """Names to test: those asked for, or every image model of ours once (an alias is the same model again)."""
    import zoo

    entries = [zoo.registry.model_entry(n) for n in zoo.list_models()]
    return _listed("ZOO_TIMM_SUITE_MODELS") or sorted({e.name for e in entries if e.input_size})


def _narrowed(original: Callable[..., list[str]], ours: set[str], tokens: list[str]) -> Callable[..., list[str]]:
    def is_token(name: str) -> bool:
        return any(fnmatch.fnmatch(_base(name), pattern) for pattern in tokens)

    def ask(filter: Any = "", *args: Any, **kwargs: Any) -> list[str]:
        wanted, excluded = _as_list(filter), _as_list(kwargs.pop("exclude_filters", ""))
        tokens_only = set(wanted) >= _TOKEN_FAMILIES
        maps_only = set(excluded) >= _TOKEN_FAMILIES
        if not isinstance(kwargs.get("module", ""), str):
            del kwargs["module"]  # timm's own files that have forward_intermediates; all of ours do
        names = original("" if tokens_only else filter, *args, exclude_filters="" if maps_only else excluded, **kwargs)
        names = [n for n in names if _base(n) in ours]
        if tokens_only or maps_only:
            names = [n for n in names if is_token(n) == tokens_only]
        return names

    return ask


def pytest_configure(config: pytest.Config) -> None:
    for mark in _MARKS:
        config.addinivalue_line("markers", f"{mark}: of timm's suite")
    import timm
    import timm.models

    ours, tokens = set(our_models()), _listed("ZOO_TIMM_SUITE_TOKENS")
    for function in ("list_models", "list_pretrained"):
        narrowed = _narrowed(getattr(timm, function), ours, tokens)
        for module in (timm, timm.models, sys.modules["timm.models._registry"]):
            setattr(module, function, narrowed)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what runs on one of ours; the rest names timm's models literally."""
    ours = set(our_models())
    kept, dropped = [], []
    for item in items:
        call = getattr(item, "callspec", None)
        name = call.params.get("model_name") if call else None
        (kept if isinstance(name, str) and _base(name) in ours else dropped).append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept
