"""The curves on the edges of a KAN."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.explain.figure import finish, told_apart
from zoo.explain.kan_parts import KANPart, kan_part
from zoo.layers.kan import KANLinear
from zoo.layers.kan.life.scores import edge_deviations
from zoo.training.plots import BLUE, GREY, new_figure

#: Curves of one figure.
_MOST = 36
_COLUMNS, _POINTS, _BINS = 6, 200, 30
_LONGEST = 26  # characters over a panel


@torch.no_grad()
def edge_curves(
    model: nn.Module,
    x: Tensor,
    *,
    layer: int = 0,
    edges: Sequence[tuple[int, int]] | None = None,
    name: str | None = None,
    feature_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    title: str = "",
    path: str | Path | None = None,
) -> Any:
    """Curves of a layer's edges over the range of the data, as a matplotlib Figure with axes for each.

    The grey bars are how often the layer sees an argument. Curves share one scale, and above each is the standard
    deviation of its values over the data: the curves that do most come first. The arguments of the first layer of a
    model that standardises its columns are in the columns' units; behind a norm they are what comes out of it, and the
    base branch, which sees what goes into it, is no part of the curve.

    Args:
        model: a KAN, a KAN layer, or a model with one.
        x: a batch for the model, two rows at least: the data.
        layer: which of the KAN's layers, counted from 0; -1 is the last.
        edges: pairs (input, output); the 36 of the greatest deviation if None. Masked edges, and those that are
            constant over x, are left out, unless asked for.
        name: dotted name of the KAN where the model has several.
        feature_names, output_names: of the KAN's inputs and outputs; see `zoo.explain.kan_part`.
        title: of the figure.
        path: a PNG file to write.

    Raises:
        ValueError: see `zoo.explain.kan_part`; a layer or an edge that is not there, no edge.
        MissingExtraError: matplotlib is not installed.
    """
    part = kan_part(model, x, name=name, feature_names=feature_names, output_names=output_names)
    layers = part.layers
    if not -len(layers) <= layer < len(layers):
        raise ValueError(f"layer must be from {-len(layers)} to {len(layers) - 1}, got {layer}")
    layer %= len(layers)
    shown, rows = layers[layer]
    arguments = shown.normalised(rows)
    deviations = edge_deviations(shown, rows)
    moving = arguments.amax(0) > arguments.amin(0)
    chosen, there = _chosen(shown, deviations.masked_fill(~moving, 0), edges)
    columns = min(_COLUMNS, len(chosen))
    count = -(-len(chosen) // columns)
    figure, panels = new_figure(columns, (1.9 * columns + 0.5, 1.75 * count + 0.5), rows=count)
    low = high = 0.0
    sources, targets = told_apart(part.feature_names, _LONGEST), told_apart(part.output_names, _LONGEST)
    for axes, (i, o) in zip(panels, chosen, strict=False):
        values = arguments[:, i]
        points = torch.linspace(float(values.min()), float(values.max()), _POINTS).to(values)
        curve = shown.edge_curve(points, i, o)
        low, high = min(low, float(curve.min())), max(high, float(curve.max()))
        at, seen, unit = _in_units(part, layer, i, points, values)
        heights, ends = torch.histogram(seen.float().cpu(), _BINS)
        shares = (0.35 * heights / heights.max()).tolist()
        axes.bar(ends[:-1].tolist(), shares, width=ends.diff().tolist(), align="edge", color=GREY, alpha=0.45, lw=0,
                 transform=axes.get_xaxis_transform())  # fmt: skip
        axes.plot(at.tolist(), curve.tolist(), color=BLUE, lw=1.8)
        source = sources[i] if layer == 0 else f"node {i}"
        target = targets[o] if shown is layers[-1][0] and o < len(targets) else f"node {o}"
        between = " " if len(source) + len(target) + 3 <= _LONGEST else "\n"
        axes.set_title(f"{source}{between}→ {target}\n{float(deviations[o, i]):.2g}", fontsize=8)
        axes.set_xlabel(unit, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))  # longer numbers touch
        axes.xaxis.get_offset_text().set_fontsize(6)
    margin = 0.05 * (high - low) or 1.0
    for axes in panels[: len(chosen)]:
        axes.set_ylim(low - margin, high + margin)
    for axes in panels[len(chosen) :]:
        axes.set_axis_off()
    others = f": {len(chosen)} of {there} edges" if len(chosen) < there else ""
    figure.suptitle(title or f"layer {layer}{others}", fontsize=11, x=0.01, ha="left", weight="bold")
    return finish(figure, path)


def _chosen(
    layer: KANLinear, deviations: Tensor, edges: Sequence[tuple[int, int]] | None
) -> tuple[list[tuple[int, int]], int]:
    """Edges (input, output), those of the greatest deviation first unless others were asked for, and how many there
    are that do anything.
    """
    if layer.mask is not None:
        deviations = deviations.masked_fill(layer.mask == 0, 0)
    there = int((deviations > 0).sum())
    if edges is None:
        best = deviations.flatten().topk(min(_MOST, there)).indices.tolist()
        edges = [(place % layer.in_features, place // layer.in_features) for place in best]
    chosen = [(int(i), int(o)) for i, o in edges]
    for i, o in chosen:
        if not (0 <= i < layer.in_features and 0 <= o < layer.out_features):
            raise ValueError(
                f"edges must be pairs (input, output) below ({layer.in_features}, {layer.out_features}), got {(i, o)}"
            )
    if not chosen:
        raise ValueError(
            "there is no edge to draw: edges is empty, or all edges of the layer are masked or constant over x"
        )
    return chosen, there


def _in_units(part: KANPart, layer: int, i: int, points: Tensor, values: Tensor) -> tuple[Tensor, Tensor, str]:
    """Points and data of an argument as its column has them, and what stands below them."""
    if layer or part.scale is None:
        return points, values, ""
    mean, std = (of[i].to(points) for of in part.scale)
    return mean + std * points, mean + std * values, part.units[i]
