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
