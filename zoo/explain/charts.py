"""One decision as bars, and the asymmetry between classes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from zoo.explain.figure import check_names, finish, new_figure, shorten
from zoo.explain.finding import tversky_layer
from zoo.layers.tversky.explanation import Explanation
from zoo.layers.tversky.interpretation import asymmetry
from zoo.training.plots import _BLUE, _GREEN, _GREY, _NAMED, _NUMBERED, _ORANGE


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
    figure, axes = new_figure((7 + 0.07 * max(map(len, labels)), 1.6 + 0.3 * len(labels)))
    parts = (("common", listed.common, _BLUE), ("input only", listed.ours, _ORANGE))
    _stack(axes, (*parts, ("prototype only", listed.theirs, _GREEN)))
    if others:
        axes.barh(len(features), float(listed.rest), height=0.6, color=_GREY, label="other features")
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

    Red where class i is more like j than j is like i, blue where less. Values are written into the cells up to 20
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
    table = asymmetry(tversky_layer(model, name)).float().cpu().numpy()
    k = len(table)
    check_names("class_names", class_names, k)
    labels = [str(i) for i in range(k)] if class_names is None else [shorten(label) for label in class_names]
    widest = max(float(abs(table).max()), 1e-6)  # less than that is rounding
    side = min(3.2 + 0.38 * k, 10)
    margin = 2.0 + (0.08 * max(map(len, labels)) if k <= _NUMBERED else 0)
    figure, axes = new_figure((side + margin, side + 0.5))
    image = axes.imshow(table, cmap="RdBu_r", vmin=-widest, vmax=widest)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if k <= _NAMED:
        for i, j in itertools.permutations(range(k), 2):
            color = "white" if abs(table[i, j]) > 0.6 * widest else "#222222"
            axes.text(j, i, f"{table[i, j]:.2g}", ha="center", va="center", color=color, fontsize=8 if k <= 12 else 6)
    if k <= _NUMBERED:
        slanted = max(map(len, labels)) > 3
        axes.set_xticks(range(k), labels, rotation=45 if slanted else 0, ha="right" if slanted else "center")
        axes.set_yticks(range(k), labels)
        axes.tick_params(length=0, labelsize=9 if k <= _NAMED else 7)
    axes.set_xlabel("j, the prototype")
    axes.set_ylabel("i, the input")
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("S(i, j) − S(j, i)")
    bar.outline.set_visible(False)
    if title:
        axes.set_title(title, fontsize=11, loc="left", weight="bold", pad=12)
    return finish(figure, path)
