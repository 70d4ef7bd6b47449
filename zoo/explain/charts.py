"""One decision as bars, and the asymmetry between classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.explain.figure import check_names, finish
from zoo.explain.finding import tversky_layer
from zoo.layers.tversky.explanation import Explanation
from zoo.layers.tversky.interpretation import asymmetry
from zoo.training.plots import BLUE, GREEN, GREY, ORANGE, matrix, new_figure, shorten


def decision_chart(
    explanation: Explanation,
    *,
    top: int = 15,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """What the features add to one output, as a matplotlib Figure of stacked bars.

    A bar a feature, the one that matters most on top: what is common to the right, what only the input or only the
    prototype has to the left. The last bar is what all other features add. Contrast model: all bars sum to the score;
    ratio model: those of what is common do.

    Args:
        explanation: of one row; take `explanation[i]` from a batch.
        top: features with a bar of their own.
        feature_names: one for every feature of the layer.
        class_names: one for every output.
        title: "cat: 3.21" if None, the explained output and its score.
        path: a PNG file to write.

    Raises:
        ValueError: the explanation of a batch, or names too few.
        MissingExtraError: matplotlib is not installed.
    """
    if explanation.target.ndim:
        raise ValueError(
            f"a decision chart is of one row, the explanation is of {tuple(explanation.target.shape)}; "
            "give explanation[i]"
        )
    check_names("feature_names", feature_names, explanation.num_features)
    listed = explanation.top(top)
    features: list[int] = listed.features.tolist()
    labels = [f"feature {k}" if feature_names is None else shorten(feature_names[k]) for k in features]
    others = explanation.num_features - len(features)
    if others:
        labels.append(f"{others} others")
    target = int(explanation.target)
    if class_names is not None and len(class_names) <= target:
        raise ValueError(f"class_names must have one for every output, output {target} too; got {len(class_names)}")
    figure, (axes,) = new_figure(1, (7 + 0.07 * max(map(len, labels)), 1.6 + 0.3 * len(labels)))
    parts = (("common", listed.common, BLUE), ("input only", listed.ours, ORANGE))
    _stack(axes, (*parts, ("prototype only", listed.theirs, GREEN)))
    if others:
        axes.barh(len(features), float(listed.rest), height=0.6, color=GREY, label="other features")
    axes.use_sticky_edges = False  # the longest bar would end at the frame
    axes.axvline(0, color="#222222", lw=0.8)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)  # the first on top
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    ratio = explanation.similarity == "ratio"
    axes.set_xlabel("part of the score (common) and of its denominator" if ratio else "part of the score")
    axes.legend(frameon=False, loc="best", fontsize=8)
    name = f"output {target}" if class_names is None else class_names[target]
    axes.set_title(f"{name}: {explanation.score:.4g}" if title is None else title, fontsize=11, loc="left",
                   weight="bold")  # fmt: skip
    return finish(figure, path)


def _stack(axes: Any, parts: Sequence[tuple[str, Tensor, str]]) -> None:
    """Bars that begin where those before them of the same sign end."""
    ends = {sign: [0.0] * parts[0][1].shape[-1] for sign in (True, False)}
    for label, values, color in parts:
        widths = values.tolist()
        starts = [ends[width > 0][place] for place, width in enumerate(widths)]
        axes.barh(range(len(widths)), widths, left=starts, height=0.6, color=color, label=label)
        for place, width in enumerate(widths):
            ends[width > 0][place] += width


def asymmetry_matrix(
    model: nn.Module,
    class_names: Sequence[str] | None = None,
    *,
    name: str | None = None,
    title: str = "",
    path: str | Path | None = None,
) -> Any:
    """S(i, j) - S(j, i) between the prototypes of a layer, as a matplotlib Figure.

    Red where class i is more like j than j is like i, blue where less; all blank, and titled "symmetric", where the
    difference is rounding. Values are written into the cells up to 20
    classes; above 40, class names are left out.

    Args:
        model: a model with a `TverskyProjection`, or the layer itself.
        class_names: one for every prototype.
        name: of the layer where the model has several.
        title: of the figure.
        path: a PNG file to write.

    Raises:
        ValueError: see `zoo.explain.tversky_layer`; or too few names.
        MissingExtraError: matplotlib is not installed.
    """
    layer = tversky_layer(model, name)
    table = asymmetry(layer).float().cpu().numpy()
    with torch.no_grad():
        largest = float(layer(layer.prototypes.weight).abs().max())
    k = len(table)
    check_names("class_names", class_names, k)
    names = [str(i) for i in range(k)] if class_names is None else class_names
    if abs(table).max() <= 1e-5 * largest:  # rounding
        table, title = 0 * table, title or "symmetric"
    widest = float(abs(table).max()) or 1.0
    cells = [[f"{table[i, j]:.2g}" if i != j else "" for j in range(k)] for i in range(k)]
    how = {"cmap": "RdBu_r", "limits": (-widest, widest), "legend": "S(i, j) − S(j, i)", "title": title}
    figure, axes = matrix(table, cells, names, **how)
    axes.set_xlabel("j, the prototype")
    axes.set_ylabel("i, the input")
    return finish(figure, path)
