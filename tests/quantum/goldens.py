"""Reads tests/golden/quantum: what independent simulators gave."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "golden" / "quantum"
DTYPES = (torch.float32, torch.float64)


@dataclass
class Golden:
    """One case: what it was made with, and its tensors in one precision."""

    name: str
    meta: dict[str, Any]
    tensors: dict[str, Tensor]
    dtype: torch.dtype

    def __getitem__(self, key: str) -> Tensor:
        """A real tensor."""
        return self.tensors[key]

    @property
    def kwargs(self) -> dict[str, Any]:
        return self.meta["kwargs"]

    def complex(self, key: str) -> Tensor:
        """A tensor whose last axis is (real, imaginary)."""
        return torch.view_as_complex(self.tensors[key])

    def leaf(self, key: str) -> Tensor:
        """A tensor that collects a gradient."""
        return self.tensors[key].clone().requires_grad_()

    def check(self, actual: Tensor, expected: Tensor, what: str = "") -> None:
        """Within the tolerance that the case states for this precision."""
        limits = self.meta["tolerance"]["complex64" if self.dtype == torch.float32 else "complex128"]
        torch.testing.assert_close(
            actual,
            expected,
            rtol=limits["rtol"],
            atol=limits["atol"],
            msg=lambda text: f"{self.name} {what} in {self.dtype}: {text}",
        )


def golden(name: str, dtype: torch.dtype = torch.float64) -> Golden:
    meta = json.loads((FOLDER / f"{name}.json").read_text())
    # The file's memory is aligned to 8 bytes only: copies may be seen as complex numbers, these may not.
    tensors = {
        key: value.to(dtype) if value.is_floating_point() and dtype != value.dtype else value.clone()
        for key, value in load_file(FOLDER / f"{name}.safetensors").items()
    }
    return Golden(name, meta, tensors, dtype)
