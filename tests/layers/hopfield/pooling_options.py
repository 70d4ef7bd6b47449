"""Options of Hopfield pooling that go without projections of the rows, and pooling layers made with them."""

from __future__ import annotations

from typing import Any

import torch

from zoo.layers.hopfield import HopfieldPooling

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "updates": {"num_updates": 3, "tol": None},
    "updates and beta a head": {"num_updates": [1, 3], "beta": [0.5, 2.0], "tol": None},
    "stops": {"num_updates": 6, "tol": 1e-2},
    "states stop": {"num_updates": 6, "tol": 1e-2, "stop": "state"},
    "zero pattern": {"zero_pattern": True},
    "bias pattern": {"bias_pattern": True, "num_updates": 2, "tol": 1e-9},
    "both patterns": {"zero_pattern": True, "bias_pattern": True, "num_updates": 4, "tol": 1e-2},
    "connected": {"connect_values": True, "num_updates": 2},
    "connected alone": {"connect_values": True, "project_value": False, "reduce": "concat"},
    "learned beta, unit length": {"learn_beta": True, "post": "l2", "num_updates": 2, "tol": None},
    "no norm": {"norm_stored": False, "norm_value": False},
    "one norm bare": {"norm_stored": {"affine": False}, "num_updates": 2},
    "no bias": {"bias": False, "num_updates": 2},
    "static": {"project_stored": False, "project_value": False, "head_dim": 4, "num_updates": 2},
    "static values": {"project_value": False, "value_dim": 4, "head_dim": 3},
    "sizes": {"value_dim": 5, "head_dim": 2, "project_out": False},
}


def pooling_with(options: str | dict[str, Any], **more: Any) -> HopfieldPooling:
    """Two heads and two states on rows of 4, in float64, with parameters that are not near their start."""
    torch.manual_seed(0)
    named = OPTIONS[options] if isinstance(options, str) else options
    pooling = HopfieldPooling(**{"dim": 4, "quantity": 2, "num_heads": 2, "dtype": torch.float64, **named, **more})
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
    return pooling
