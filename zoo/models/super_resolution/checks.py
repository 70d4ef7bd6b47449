"""What an enlargement can be asked for, and clear words where it cannot."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.layers.pixel_adaptive.coordinates import Size, check_size, is_number, output_size
from zoo.models.super_resolution.flops import PartFlops
from zoo.naming import did_you_mean

POLICIES = ("argmax", "adm", "light", "heavy", "target")
SCOPES = ("image", "batch")


@dataclass(frozen=True)
class Policy:
    """How classes of pixels are decided.

    Attributes:
        name: one of `POLICIES`.
        k: exponent of the costs, of "argmax".
        target: wanted cost as a part of that of all pixels heavy, of "target".
        adm_scope: "image" or "batch": what is split in groups together.

    Raises:
        ValueError: an unknown name or scope, a k that is not finite, a target that is missing or superfluous.
        TypeError: a k or target that is no number.
    """

    name: str = "argmax"
    k: float | int = 0.0
    target: float | int | None = None
    adm_scope: str = "image"

    def __post_init__(self) -> None:
        for what, value, known in (("policy", self.name, POLICIES), ("adm_scope", self.adm_scope, SCOPES)):
            if value not in known:
                hint = did_you_mean(str(value), known) or "."
                raise ValueError(f"unknown {what} {value!r}{hint} There are {', '.join(known)}")
        for what, value in (("k", self.k), ("target", 1 if self.target is None else self.target)):
            if not is_number(value):
                raise TypeError(f"{what} must be a number, got {value!r}")
        if not math.isfinite(self.k):
            raise ValueError(
                f"k must be a finite number, got {self.k}; policy='light' and 'heavy' give one class alone"
            )
        if self.k and self.name != "argmax":
            raise ValueError(f"k is of policy='argmax', not of {self.name!r}; got k={self.k}")
        if self.name == "target" and self.target is None:
            raise ValueError("policy='target' needs target=, the wanted cost as a part of that of all pixels heavy")
        if self.name != "target" and self.target is not None:
            raise ValueError(f"target is of policy='target', not of {self.name!r}; got target={self.target}")


def check_places(coord: Tensor, cell: Tensor, batch: int) -> None:
    """Refuse what are no places (batch, queries, 2) with their cells.

    Raises:
        ValueError: another shape.
    """
    for what, given in (("coord", coord), ("cell", cell)):
        if given.ndim != 3 or given.shape[0] != batch or given.shape[2] != 2 or given.shape != coord.shape:
            raise ValueError(
                f"{what} must be ({batch}, queries, 2), (y, x) of every pixel, as many as of the other; "
                f"got coord {tuple(coord.shape)} and cell {tuple(cell.shape)}"
            )


def check_target(target: float | int, parts: PartFlops) -> None:
    """Refuse a budget that no choice of classes meets.

    Args:
        target: wanted FLOPs as a part of those with all pixels heavy.
        parts: FLOPs of the parts.

    Raises:
        ValueError: with the range that can be met.
    """
    least = (parts.backbone + parts.classifier + parts.upsamplers[0]) / parts.whole()
    if not least <= target <= 1:
        raise ValueError(
            f"a budget (target) must be from {math.ceil(least * 1e4) / 1e4:.4f}, all pixels light, to 1, all heavy, as "
            f"a part of the FLOPs of the latter at this scale; got {target}"
        )


def wanted_size(
    small: Size, scale: float | int | None, size: Sequence[int] | None, trained: float | int | None
) -> Size:
    """Height and width of the enlarged image.

    Args:
        small: of the image.
        scale, size: as asked for, one of them or, where there is a trained scale, neither.
        trained: the scale that the network learnt; other ones are warned of.

    Raises:
        ValueError: both, neither, a scale that is none, or a size below that of the image.
        TypeError: a scale that is no number, or a size that is not two whole numbers.
    """
    if scale is not None and size is not None:
        raise ValueError(f"give scale or size, not both; got scale={scale} and size={size}")
    if scale is None and size is None:
        if trained is None:
            raise ValueError("give scale= or size=(height, width)")
        scale = trained
    if size is None:
        assert scale is not None
        wanted = output_size(small, scale)
    else:
        check_size(size)
        wanted = (int(size[0]), int(size[1]))
    if wanted[0] < small[0] or wanted[1] < small[1]:
        raise ValueError(
            f"the image of {small[0]}x{small[1]} pixels can only become larger, not {wanted[0]}x{wanted[1]}"
        )
    if not torch.compiler.is_compiling():
        _warn_of_scale(small, wanted, trained)
    return wanted


def _warn_of_scale(small: Size, wanted: Size, trained: float | int | None) -> None:
    """A pixel more or less is no other scale: sizes are rounded."""
    if trained is None or all(abs(n - m * trained) <= 1 for m, n in zip(small, wanted, strict=True)):
        return
    asked = " x ".join(f"{n / m:.3g}" for m, n in zip(small, wanted, strict=True))
    warnings.warn(
        f"the network learnt to enlarge by {trained:g}, not by {asked}: sizes of pixels are new to it", stacklevel=4
    )
