"""What the authors' code gave: super-resolution networks and their pixel-wise upsampling."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from zoo.models.super_resolution.carn import CARN
from zoo.models.super_resolution.fsrcnn import FSRCNN
from zoo.models.super_resolution.srresnet import SRResNet

FOLDER = Path(__file__).parents[2] / "golden" / "pcsr"
NETWORKS = {"fsrcnn": FSRCNN, "carn": CARN, "srresnet": SRResNet}


@cache
def description(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    return description(name), load_file(FOLDER / f"{name}.safetensors")


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def network(name: str, **options: Any) -> nn.Module:
    """The network of the authors' arguments; `upscale` is theirs for the scale."""
    options = {"scale" if key == "upscale" else key: value for key, value in options.items()}
    return NETWORKS[name](**options)
