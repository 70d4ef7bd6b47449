"""Numbers of the authors' library for the similarity, kept outside the repository; tests of them are skipped without.

Their licence does not allow passing anything derived from that library on, so nothing of the files is here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parents[3].parent / "shared" / "golden" / "tversky"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
needs_goldens = pytest.mark.skipif(
    not NAMES, reason="the numbers of the authors' library are not beside the repository"
)


@dataclass
class Golden:
    """One case: what it was made with, and its tensors in float64."""

    name: str
    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) + 1 :]: v for k, v in self.tensors.items() if k.startswith(prefix + ".")}

    def how(self, **options: str) -> tuple[str, str, str, bool]:
        """(similarity, intersection, difference, per_feature)."""
        kwargs = {**self.meta["kwargs"], **options}
        names = ("similarity_model", "intersection_reduction", "difference_reduction")
        return (*(kwargs[name] for name in names), bool(kwargs.get("per_feature", False)))

    def check(self, actual: Tensor, expected: Tensor, what: str = "") -> None:
        """Within the tolerance that the case states, "1e-5 rel / 1e-5 abs"."""
        found = re.fullmatch(r"(\S+) rel / (\S+) abs", self.meta["tolerance"])
        assert found is not None
        torch.testing.assert_close(
            actual.double(),
            expected.double(),
            rtol=float(found[1]),
            atol=float(found[2]),
            msg=lambda text: f"{self.name} {what}: {text}",
        )


def golden(name: str) -> Golden:
    tensors = {
        k: v.double() if v.is_floating_point() else v for k, v in load_file(FOLDER / f"{name}.safetensors").items()
    }
    return Golden(name, json.loads((FOLDER / f"{name}.json").read_text()), tensors)
