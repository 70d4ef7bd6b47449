"""Simulated quantum circuits as PyTorch modules; imported when first used."""

from __future__ import annotations

import importlib
from typing import Any

#: Public name -> file or folder of this package that has it.
_HOME: dict[str, str] = {
    "ANSATZE": "ansatze",
    "FEATURE_MAPS": "feature_maps",
    "GATES": "gates",
    "MPS": "mps",
    "QNN": "farhi_neven.qnn",
    "QTN": "qtn",
    "Angle": "angle",
    "Channel": "noise",
    "Circuit": "circuit",
    "DressedCircuit": "dressed",
    "Expressibility": "probes",
    "FarhiNevenSGD": "optim",
    "FeatureMap": "feature_maps",
    "Gate": "gates",
    "GradientVariance": "probes",
    "Hermitian": "observables",
    "KmerTokenizer": "qtn",
    "Landscape": "probes",
    "NoiseModel": "noise",
    "Op": "op",
    "PauliSum": "paulis",
    "PauliWord": "paulis",
    "Projector": "observables",
    "QuantumLayer": "layer",
    "QuantumNaturalGradient": "optim",
    "ReadoutError": "noise",
    "SineModel": "farhi_neven.sine",
    "ansatz": "ansatze",
    "bloch_vectors": "probes",
    "counts": "simulate",
    "cups": "qtn",
    "density_matrix": "simulate",
    "distinct_strings": "farhi_neven.states",
    "entanglement": "probes",
    "expressibility": "probes",
    "expval": "simulate",
    "feature": "angle",
    "feature_map": "feature_maps",
    "from_openqasm3": "qasm",
    "gate_named": "gates",
    "gradient_variance": "probes",
    "kernel": "probes",
    "label_circuit": "farhi_neven.circuits",
    "landscape": "probes",
    "make_channel": "noise",
    "metric_tensor": "metric",
    "meyer_wallach": "probes",
    "parse_observables": "observables",
    "probs": "simulate",
    "sample": "simulate",
    "stairs": "qtn",
    "state": "simulate",
    "superposition": "farhi_neven.states",
    "to_openqasm3": "qasm",
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
