"""The examples by which a KAN is measured and changed, and the way they take through a network."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.nodes import MultiplyNodes
from zoo.layers.kan.options import check_input

#: A `KANLinear`, which imports this file, and the nodes behind it.
Stage = tuple[Any, MultiplyNodes | None]


def sample_rows(x: Float[Tensor, "*batch in_features"], in_features: int, least: int = 2) -> Tensor:
    """x as (rows, in_features).

    Raises:
        TypeError: no floating type.
        ValueError: another width, fewer rows than `least`, or values that are not finite.
    """
    check_input(x, in_features)
    rows = x.reshape(-1, in_features)
    if len(rows) < least:
        raise ValueError(f"x must hold {least} rows or more, got {len(rows)}")
    bad = int((~rows.detach().isfinite()).any(-1).sum())
    if bad:
        raise ValueError(f"x must be finite, {bad} of its {len(rows)} rows hold NaN or infinity")
    return rows


def stages_of(layers: Iterable[nn.Module], nodes: Iterable[nn.Module] | None) -> list[Stage]:
    """The layers of a network, each with the nodes behind it.

    Raises:
        TypeError: a layer is no `KANLinear`.
    """
    layers = list(layers)
    others = [type(layer).__name__ for layer in layers if not hasattr(layer, "masked_base_weight")]
    if others:
        raise TypeError(f"this needs layers that are KANLinear, the network has {', '.join(others)}")
    return list(zip(layers, nodes or itertools.repeat(None), strict=False))  # pyright: ignore[reportReturnType]


def visits(stages: Sequence[Stage], x: Tensor) -> Iterator[tuple[Any, Tensor]]:
    """Every layer in turn with its input; one that is changed meanwhile hands on what it then gives."""
    yield stages[0][0], x
    for (layer, nodes), (after, _) in itertools.pairwise(stages):
        x = layer(x) if nodes is None else nodes(layer(x))
        yield after, x


def working_dtype(x: Tensor) -> torch.dtype:
    """float64, where the device of x has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64
