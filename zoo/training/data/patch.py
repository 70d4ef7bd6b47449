"""Patches of small images with what they are to become."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Patch(NamedTuple):
    """A square of a small image (3, p, p) and of the photograph (3, scale p, scale p), in [0, 1]."""

    small: Tensor
    large: Tensor
