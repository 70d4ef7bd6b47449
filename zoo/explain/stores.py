"""What is stored, and how it is recalled: of a memory, or of patterns and options."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zoo.layers.hopfield.memory import HopfieldMemory


def store_of(source: Tensor | HopfieldMemory, **options: Any) -> tuple[Tensor, dict[str, Any]]:
    """Stored patterns, and the options of `retrieve` that a memory has, changed by those that are not None.

    Args:
        source: (patterns, dim), or a memory. Its values, number of updates, beta and `post` are left out.
        options: of `retrieve`. With an association, the memory's alpha, k and degree are none of it.

    Raises:
        ValueError: a memory without patterns.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if not isinstance(source, HopfieldMemory):
        return source, given
    if not len(source):
        raise ValueError("the memory is empty: add(patterns) first")
    chosen = source.separation
    own = {"association": chosen.association, "alpha": chosen.alpha, "k": chosen.k, "degree": chosen.degree}
    own = {} if "association" in given else own
    compared = {"similarity": source.similarity, "feature_map": source.feature_map}
    return source.patterns.detach(), {**compared, **own, **given}
