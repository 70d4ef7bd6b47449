"""What is told of an enlargement besides the image."""

from dataclasses import dataclass

from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class EnlargementInfo:
    """Which network computed which pixel, and what that cost.

    Attributes:
        class_map: the class of every pixel, from 0 for the lightest network.
        fractions: of every image, the part of its pixels that is of each class.
        flops: of every image, by convention: "paper", "true" and "factorised", as `PCSR.flops` counts.
    """

    class_map: UInt8[Tensor, "batch height width"]
    fractions: Float[Tensor, "batch classes"]
    flops: dict[str, list[float]]

    @property
    def hard(self) -> Float[Tensor, " batch"]:
        """Of every image, the part of its pixels that is of any class but the lightest: 1 - fractions[:, 0]."""
        return 1 - self.fractions[:, 0]

    def shares(self, image: int = 0) -> dict[str, float]:
        """Of an image, `hard` and the part of each class, `fraction_0` for the lightest, `fraction_1`, …"""
        parts = {f"fraction_{place}": part for place, part in enumerate(self.fractions[image].tolist())}
        return {"hard": float(self.hard[image]), **parts}
