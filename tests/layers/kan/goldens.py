"""Reads tests/golden/kan: what the four libraries' layers gave, and their parameters under our names."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parents[2] / "golden" / "kan"
_NAMES = {
    "spline_weight": "weight",
    "spline_linear.weight": "weight",
    "cheby_coeffs": "weight",
    "spline_scaler": "edge_scale",
    "base_weight": "base_weight",
    "base_linear.weight": "base_weight",
    "base_linear.bias": "bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
    "grid": "basis.knots",
    "rbf.grid": "basis.centers",
    "coef": "weight",
    "scale_sp": "edge_scale",
    "scale_base": "base_weight",
    "mask": "mask",
}
_NODE = re.compile(r"((?:sub)?node_(?:scale|bias))_(\d+)")
#: Of pykan, whose tensors have the inputs first.
_INPUTS_FIRST = ("coef", "scale_sp", "scale_base", "mask")
#: Not kept: a constant of the code, and a number of which the forward pass knows nothing.
_DROPPED = ("arange", "rbf.inv_denominator")


@dataclass
class Golden:
    """One case: what it was made with, and its tensors."""

    name: str
    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) + 1 :]: v for k, v in self.tensors.items() if k.startswith(prefix + ".")}

    def state(self) -> dict[str, Tensor]:
        """The parameters under our names and in our shapes."""
        return ours(self.part("state"), self.num_centres)

    def gradients(self, kind: str = "grad") -> dict[str, Tensor]:
        """The gradients under our names, that of the input as `x`."""
        found = self.part(kind)
        return {"x": found.pop("input"), **ours(found, self.num_centres)}

    @property
    def num_centres(self) -> int:
        """Centres of the bells."""
        return next((v.numel() for k, v in self.tensors.items() if k.endswith("rbf.grid")), 0)

    def check(self, actual: Tensor, expected: Tensor, what: str = "y") -> None:
        """Within the tolerance that the case states."""
        limit = float(str(self.meta["tolerance"][what]).split()[0])
        rtol = limit if what != "y" else 0.0
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=limit, msg=lambda text: f"{self.name}: {text}")


def golden(name: str) -> Golden:
    meta = json.loads((FOLDER / f"{name}.json").read_text())
    return Golden(name, meta, load_file(FOLDER / f"{name}.safetensors"))


def ours(theirs: dict[str, Tensor], num_centres: int) -> dict[str, Tensor]:
    """Tensors of any of the libraries by our names."""
    found = {}
    for key, value in theirs.items():
        if key.endswith(_DROPPED) or key.startswith("symbolic_fun."):  # no edge of the cases is symbolic
            continue
        if (node := _NODE.fullmatch(key)) is not None:
            found[f"nodes.{node[2]}.{node[1]}"] = value
            continue
        key = key.replace("act_fun.", "layers.")
        suffix = max((name for name in _NAMES if key == name or key.endswith("." + name)), key=len)
        if suffix == "spline_linear.weight":
            value = value.unflatten(1, (-1, num_centres))
        elif suffix == "cheby_coeffs" or suffix in _INPUTS_FIRST:
            value = value.transpose(0, 1)
        elif suffix == "grid" and (value == value[:1]).all():
            value = value[:1]
        found[key[: len(key) - len(suffix)] + _NAMES[suffix]] = value.contiguous()
    return found
