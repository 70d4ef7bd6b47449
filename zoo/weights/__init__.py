"""Checkpoints: read, verify, adapt, convert, describe, and exchange with the Hub.

Nothing heavy is imported here; each name below brings its module, and torch or the Hub client, when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.weights.config import ModelConfig, read_config
    from zoo.weights.conversion import ConvertedState, convert, convert_file
    from zoo.weights.description import describe, write_config
    from zoo.weights.load import LoadReport, load_weights
    from zoo.weights.meta import build_with_weights, load_into_meta
    from zoo.weights.safetensors_file import SafetensorsFile
    from zoo.weights.save import save_safetensors
    from zoo.weights.source import Checkpoint, open_checkpoint

_HOMES = {
    "Checkpoint": "source",
    "ConvertedState": "conversion",
    "LoadReport": "load",
    "ModelConfig": "config",
    "SafetensorsFile": "safetensors_file",
    "build_with_weights": "meta",
    "convert": "conversion",
    "convert_file": "conversion",
    "describe": "description",
    "load_into_meta": "meta",
    "load_weights": "load",
    "open_checkpoint": "source",
    "read_config": "config",
    "save_safetensors": "save",
    "write_config": "description",
}

__all__ = [
    "Checkpoint",
    "ConvertedState",
    "LoadReport",
    "ModelConfig",
    "SafetensorsFile",
    "build_with_weights",
    "convert",
    "convert_file",
    "describe",
    "load_into_meta",
    "load_weights",
    "open_checkpoint",
    "read_config",
    "save_safetensors",
    "write_config",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
