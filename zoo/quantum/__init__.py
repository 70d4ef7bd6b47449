"""Simulated quantum circuits as PyTorch modules; imported when first used."""

from __future__ import annotations

import importlib
from typing import Any

#: Public name -> file or folder of this package that has it.
_HOME: dict[str, str] = {
    "ANSATZE": "ansatze",
    "FEATURE_MAPS": "feature_maps",
    "GATES": "gates",
    "Angle": "angle",
    "Channel": "noise",
    "Circuit": "circuit",
    "Gate": "gates",
    "Hermitian": "observables",
    "KmerTokenizer": "qtn",
    "NoiseModel": "noise",
    "Op": "op",
    "PauliSum": "paulis",
    "PauliWord": "paulis",
    "Projector": "observables",
    "QTN": "qtn",
    "ReadoutError": "noise",
    "ansatz": "ansatze",
    "cups": "qtn",
    "density_matrix": "simulate",
    "expval": "simulate",
    "feature": "angle",
    "feature_map": "feature_maps",
    "gate_named": "gates",
    "make_channel": "noise",
    "parse_observables": "observables",
    "probs": "simulate",
    "stairs": "qtn",
    "state": "simulate",
    "unitary": "simulate",
    "var": "simulate",
    "weight": "angle",
}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"zoo.quantum.{_HOME[name]}"), name)
    from zoo.naming import did_you_mean

    raise AttributeError(f"module 'zoo.quantum' has no attribute {name!r}{did_you_mean(name, __all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
