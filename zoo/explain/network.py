"""A KAN as nodes and edges, with a curve on every edge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.explain.figure import finish, told_apart
from zoo.explain.kan_parts import KANPart, kan_part
from zoo.layers.kan import KANLinear
from zoo.layers.modes import evaluating
from zoo.training.plots import BLUE, GREY, new_figure

_POINTS = 60
#: Of the distance of two layers, how much the row of curves takes; the least distance and greatest width of two curves.
_ROW, _PITCH, _WIDEST = 0.3, 1.0, 0.8
_FAINTEST = 0.12


class _Edge(NamedTuple):
    """An edge that is drawn: from which input to which node, by which output of the layer, with which score."""

    source: int
    node: int
    output: int
    score: float


@torch.no_grad()
def network_graph(
    model: nn.Module,
    x: Tensor,
    *,
    most: int = 24,
    name: str | None = None,
    feature_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    title: str = "",
    path: str | Path | None = None,
) -> Any:
    """Nodes and edges of a KAN, inputs below and outputs above, as a matplotlib Figure.

    In the middle of every edge is its curve over the range of the data, in a box of its own scale; the darker, the
    higher the edge's score (`KAN.edge_scores`), within its layer. A node that multiplies is a square. Masked edges,
    and those that are constant over x, are left out, and so is every inner node and input that no edge that is drawn
    leads from or to.

    Args:
        model: a KAN, a KAN layer, or a model with one.
        x: a batch for the model, two rows at least: the data.
        most: edges of a layer that are drawn, those of the highest score among those that lead to an output by drawn
            ones; a node keeps its strongest edge even if there are more nodes.
        name: dotted name of the KAN where the model has several.
        feature_names, output_names: of the KAN's inputs and outputs; see `zoo.explain.kan_part`.
        title: of the figure.
        path: a PNG file to write.

    Raises:
        ValueError: see `zoo.explain.kan_part`; most is below 1.
        MissingExtraError: matplotlib is not installed.
    """
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    part = kan_part(model, x, name=name, feature_names=feature_names, output_names=output_names)
    stages, layers = part.kan.stages(), part.layers
    with evaluating(part.kan):
        scores = part.kan.edge_scores(part.rows)
    drawn, hidden = [], 0
    needed = set(range(len(part.output_names)))
    for (layer, nodes), (_, rows), score in reversed(list(zip(stages, layers, scores, strict=True))):
        owners = list(range(layer.out_features))
        if nodes is not None:
            owners = nodes.of_subnodes(torch.arange(nodes.num_nodes)).tolist()
        still = rows.amax(0) == rows.amin(0)
        edges, left_out = _strongest(layer, score.masked_fill(still, 0), owners, needed, most)
        drawn.insert(0, edges)
        needed = {edge.source for edge in edges}
        hidden += left_out
    levels = _levels(part, drawn)
    width = max(max(map(len, drawn)), max(map(len, levels)), 3) * _PITCH
    size = (min(1.2 + 0.55 * width, 22), 1.0 + 2.3 * len(drawn))
    figure, (axes,) = new_figure(1, size)
    places = [{node: width * (k + 0.5) / len(level) for k, node in enumerate(level)} for level in levels]
    for number, (edges, (layer, rows)) in enumerate(zip(drawn, layers, strict=True)):
        _draw_edges(axes, number, edges, layer, layer.normalised(rows), places, width)
    _draw_nodes(axes, part, places)
    axes.set_xlim(0, width)
    axes.set_ylim(-0.35, len(drawn) + 0.25)
    axes.set_axis_off()
    said = title or (f"the strongest edges; {hidden} others are not drawn" if hidden else "")
    if said:
        figure.suptitle(said, fontsize=11, x=0.01, ha="left", weight="bold")
    return finish(figure, path)


def _strongest(
    layer: KANLinear, score: Tensor, owners: list[int], needed: set[int], most: int
) -> tuple[list[_Edge], int]:
    """Edges to draw, from left to right, and how many are left out though they do something.

    They end in the nodes that are needed: the strongest of each, and of the rest the strongest.
    """
    there = score > 0 if layer.mask is None else (score > 0) & (layer.mask != 0)
    outputs, inputs = there.nonzero(as_tuple=True)
    edges = [_Edge(i, owners[o], o, float(score[o, i])) for o, i in zip(outputs.tolist(), inputs.tolist(), strict=True)]
    ending = sorted((edge for edge in edges if edge.node in needed), key=lambda edge: -edge.score)
    firsts = list({edge.node: edge for edge in reversed(ending)}.values())
    others = [edge for edge in ending if edge not in firsts]
    chosen = firsts + others[: max(most - len(firsts), 0)]
    return sorted(chosen, key=lambda edge: (edge.source, edge.output)), len(edges) - len(chosen)


def _levels(part: KANPart, drawn: Sequence[Sequence[_Edge]]) -> list[list[int]]:
    """The nodes of the inputs and of each layer that are drawn: where an edge ends, and all outputs."""
    levels = [sorted({edge.source for edge in drawn[0]})]
    for before, after in zip(drawn, [*drawn[1:], None], strict=True):
        ends = {edge.node for edge in before} | {edge.source for edge in after or ()}
        levels.append(sorted(ends) if after is not None else list(range(len(part.output_names))))
    return levels


def _draw_edges(
    axes: Any,
    number: int,
    edges: Sequence[_Edge],
    layer: KANLinear,
    arguments: Tensor,
    places: Sequence[dict[int, float]],
    width: float,
) -> None:
    pitch = width / max(len(edges), 1)
    half = min(0.4 * pitch, _WIDEST / 2)
    strongest = max((edge.score for edge in edges), default=0) or 1.0
    middle, tall = number + 0.5, _ROW / 2
    for k, edge in enumerate(edges):
        alpha = max(edge.score / strongest, _FAINTEST)
        at = pitch * (k + 0.5)
        below, above = places[number][edge.source], places[number + 1][edge.node]
        for node, level, side in ((below, number, middle - tall), (above, number + 1, middle + tall)):
            axes.plot([node, at], [level, side], color="#444444", lw=1.2, alpha=alpha, zorder=1, gid="line")
        values = arguments[:, edge.source]
        points = torch.linspace(float(values.min()), float(values.max()), _POINTS).to(values)
        curve = layer.edge_curve(points, edge.source, edge.output)
        across = at + half * (2 * (points - points[0]) / (points[-1] - points[0]).clamp_min(1e-12) - 1)
        centre, reach = (curve.max() + curve.min()) / 2, (curve.max() - curve.min()).clamp_min(1e-12) / 2
        axes.fill([at - half, at + half, at + half, at - half], [middle - tall] * 2 + [middle + tall] * 2,
                  facecolor="white", edgecolor=GREY, lw=0.8, zorder=2)  # fmt: skip
        axes.plot(across.tolist(), (middle + 0.85 * tall * (curve - centre) / reach).tolist(), color=BLUE, lw=1.6,
                  alpha=alpha, zorder=3, gid=f"edge {number} {edge.source} {edge.output}")  # fmt: skip


def _draw_nodes(axes: Any, part: KANPart, places: Sequence[dict[int, float]]) -> None:
    stages = part.kan.stages()
    for level, row in enumerate(places):
        nodes = stages[level - 1][1] if level else None
        for node, at in row.items():
            multiplies = nodes is not None and node >= nodes.num_sum
            axes.plot([at], [level], "s" if multiplies else "o", color="#222222", ms=7 if multiplies else 6, zorder=4,
                      gid=f"node {level} {node}")  # fmt: skip
            if multiplies:
                axes.text(at, level, "×", color="white", ha="center", va="center", fontsize=8, zorder=5)
        if level in (0, len(places) - 1):
            names = told_apart(part.output_names if level else part.feature_names, 24)
            slanted = len(row) > 1 and max(len(names[node]) for node in row) > 8
            for node, at in row.items():
                axes.text(at, level + (0.08 if level else -0.08), names[node], fontsize=8,
                          ha="center" if level or not slanted else "right", va="bottom" if level else "top",
                          rotation=0 if level or not slanted else 30, rotation_mode="anchor")  # fmt: skip
