"""Reference tensors of the varifocal family; each file's JSON says where they are from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parents[2] / "golden" / "varifocal"


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments, and the tensors."""
    return json.loads((FOLDER / f"{name}.json").read_text())["kwargs"], load_file(FOLDER / f"{name}.safetensors")


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def check_close(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Equal to a tolerance that is absolute below 1 and relative to the largest value above."""
    bound = tolerance * max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(got, wanted, rtol=0, atol=bound, check_dtype=False)
