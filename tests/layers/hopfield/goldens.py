"""Reads tests/golden/hopfield: what the authors' layers gave, and our layers built and loaded as those were."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from zoo.layers.hopfield import (
    Hopfield,
    HopfieldDecoderLayer,
    HopfieldEncoderLayer,
    HopfieldLayer,
    HopfieldPooling,
)
from zoo.weights.converters.hopfield import convert_official, from_official_options

FOLDER = Path(__file__).parents[2] / "golden" / "hopfield"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "association_functions")
_CLASSES = {"Hopfield": Hopfield, "HopfieldPooling": HopfieldPooling, "HopfieldLayer": HopfieldLayer}
#: Arguments of the encoder and decoder layers: the authors' names, ours.
_ARGUMENTS = {
    "src": "x",
    "tgt": "x",
    "memory": "memory",
    "src_mask": "association_mask",
    "tgt_mask": "association_mask",
    "src_key_padding_mask": "padding_mask",
    "tgt_key_padding_mask": "padding_mask",
    "memory_mask": "memory_association_mask",
    "memory_key_padding_mask": "memory_padding_mask",
}


@dataclass
class Golden:
    """One case: what it was made with, and its tensors."""

    name: str
    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) + 1 :]: v for k, v in self.tensors.items() if k.startswith(prefix + ".")}

    def check(self, actual: Tensor, expected: Tensor, what: str, kind: str = "out") -> None:
        """Within the tolerance that the case states."""
        limits = self.meta["tolerance"]
        torch.testing.assert_close(
            actual,
            expected,
            rtol=limits[f"{kind}_rel"],
            atol=limits[f"{kind}_abs"],
            msg=lambda text: f"{self.name} {what}: {text}",
        )

    def state(self) -> dict[str, Tensor]:
        """The authors' parameters. Their gradients begin with `grad.state.` and are no part of it."""
        return self.part("state")

    def inputs(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.part("in").items() if name != "cotangent"}

    def module(self) -> nn.Module:
        """Our module with the authors' parameters."""
        module = self.build()
        module.load_state_dict(convert_official(self.state())[0])
        return module.eval()

    def build(self, **options: Any) -> nn.Module:
        cls, kwargs = self.meta["class"], {name: _tensor(value) for name, value in self.meta["kwargs"].items()}
        if cls in _CLASSES:
            return _CLASSES[cls](**from_official_options(cls, **kwargs), **options)
        associations = [
            Hopfield(**from_official_options(**kwargs.pop(name)))
            for name in ("hopfield_association", "hopfield_association_self", "hopfield_association_cross")
            if name in kwargs
        ]
        layer = HopfieldEncoderLayer if cls == "HopfieldEncoderLayer" else HopfieldDecoderLayer
        return layer(*associations, **kwargs, **options)

    def arguments(self, given: dict[str, Tensor]) -> tuple[list[Tensor | None], dict[str, Tensor]]:
        """Positional and keyword arguments of our call, from inputs by the authors' names."""
        if self.meta["class"].endswith("coderLayer"):
            return [], {_ARGUMENTS[name]: value for name, value in given.items()}
        masks = {name: given[name] for name in ("padding_mask", "association_mask") if name in given}
        if self.meta["class"] == "HopfieldLayer":
            return [given["x"]], masks
        if self.meta["class"] == "HopfieldPooling":
            values = {"values": given["projection"]} if "projection" in given else {}
            return [given.get("x", given.get("stored"))], {**masks, **values}
        if "x" in given:
            return [given["x"]], masks
        return [given["stored"], given["state"], given.get("projection")], masks


def golden(name: str) -> Golden:
    meta = json.loads((FOLDER / f"{name}.json").read_text())
    return Golden(name, meta, load_file(FOLDER / f"{name}.safetensors"))


def _tensor(value: Any) -> Any:
    if isinstance(value, dict) and "tensor" in value:
        return torch.tensor(value["tensor"], dtype=getattr(torch, value["dtype"]))
    return value
