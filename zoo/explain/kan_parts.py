"""The KAN of a model: its layers, what they are given, and what their inputs and outputs are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.explain.figure import check_names
from zoo.explain.finding import check_floating, only_layer
from zoo.layers.kan import KAN, KANLinear
from zoo.layers.kan.life.sample import visits
from zoo.layers.modes import evaluating


@dataclass(frozen=True)
class KANPart:
    """A KAN in a model, and the rows that it was given.

    Attributes:
        kan: the network, or a single layer.
        rows: (rows, in_features).
        feature_names: one for every input.
        output_names: one for every output.
        units: of every input, "" for none.
        scale: (mean, std) of every input, by which the model standardises it; None where the KAN is given it as it is.
    """

    kan: KAN | KANLinear
    rows: Tensor
    feature_names: list[str]
    output_names: list[str]
    units: list[str]
    scale: tuple[Tensor, Tensor] | None

    @property
    def layers(self) -> list[tuple[KANLinear, Tensor]]:
        """Every layer with the rows that it is given."""
        with torch.no_grad(), evaluating(self.kan):
            return list(visits(self.kan.stages(), self.rows))


@torch.no_grad()
def kan_part(
    model: nn.Module,
    x: Tensor,
    *,
    name: str | None = None,
    feature_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> KANPart:
    """The KAN of a model, and what it is given when the model sees x, in evaluation mode.

    Names are those that are given; else those that the model keeps, where the KAN sees the model's columns
    (`feature_names`) or makes its outputs (`label_names`); else numbers.

    Args:
        model: a KAN, a KAN layer, or a model with one.
        x: a batch for the model, two rows at least.
        name: dotted name of the KAN where the model has several.
        feature_names, output_names: of its inputs and outputs.

    Raises:
        TypeError: no torch module, or x is no floating tensor.
        ValueError: there is no KAN or there are several, the model does not call it, or too few names; x with NaN or
            infinity, or fewer than two rows.
    """
    kan: Any = only_layer(model, name, "KAN", KAN, KANLinear)
    check_floating(x)
    stages = kan.stages()
    first, (last, nodes) = stages[0][0], stages[-1]
    inputs, outputs = first.in_features, last.out_features if nodes is None else nodes.num_nodes
    check_names("feature_names", feature_names, inputs)
    check_names("output_names", output_names, outputs)
    seen: list[Tensor] = []
    # Of the first layer: a model may call the layers of its network itself.
    handle = first.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        with evaluating(model):
            answer = model(x)
    finally:
        handle.remove()
    if not seen:
        raise ValueError("the model does not call its KAN on this input")
    rows = seen[-1].detach().reshape(-1, inputs)
    if len(rows) < 2:
        raise ValueError(f"x must have two rows at least, over which curves are drawn; got {tuple(x.shape)}")
    ends = isinstance(answer, Tensor) and answer.shape[-1] == outputs
    labels = (getattr(model, "pretrained_cfg", None) or {}).get("label_names") if ends else None
    scaling: Any = getattr(model, "scaling", None)
    scale = None
    if scaling is not None and first.norm is None and len(scaling.mean) == inputs:
        scale = scaling.mean, scaling.std
    return KANPart(
        kan,
        rows,
        _names(feature_names or getattr(model, "feature_names", None), "x", inputs),
        _names(output_names or labels, "y", outputs),
        _names(getattr(model, "feature_units", None), "", inputs),
        scale,
    )


def _names(known: Sequence[str] | None, letter: str, count: int) -> list[str]:
    """Those known, if they are as many; else the letter with a number, or nothing without a letter."""
    if known is not None and len(known) == count:
        return list(known)
    return [f"{letter}{i}" if letter else "" for i in range(count)]
