"""The pictures of a run: curves over the epochs, and who is taken for whom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import MissingExtraError
from zoo.files import atomic_path

BLUE, ORANGE, GREEN, GREY = "#2a6fbb", "#e07b39", "#3a8f5d", "#9a9a9a"
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.edgecolor": "#777777",
}
_NAMED, _NUMBERED = 20, 40


def new_figure(columns: int, size: tuple[float, float], rows: int = 1) -> tuple[Any, list[Any]]:
    """A figure that is drawn into files only, whatever backend the caller's pyplot has, and its axes row by row.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing a figure", "matplotlib", "train") from error
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def curves(history: Sequence[dict[str, Any]], monitor: str, *, title: str = "") -> Any:
    """Loss, monitored metric and learning rate over the epochs, as a matplotlib Figure with three axes."""
    figure, (loss, metric, rate) = new_figure(3, (12, 3.6))
    epochs = [row["epoch"] for row in history]

    def draw(axes: Any, key: str, label: str, color: str, **style: Any) -> None:
        points = [(e, row[key]) for e, row in zip(epochs, history, strict=True) if row.get(key) is not None]
        if points:
            marker = "o" if len(points) <= 30 else None
            axes.plot(*zip(*points, strict=True), label=label, color=color, lw=1.8, marker=marker, ms=3.5, **style)

    draw(loss, "train_loss", "training", BLUE)
    draw(loss, "val_loss", "validation", ORANGE)
    draw(loss, "ema_loss", "validation, EMA", GREEN, ls="--")
    draw(metric, f"val_{monitor}", "validation", ORANGE)
    draw(metric, f"ema_{monitor}", "validation, EMA", GREEN, ls="--")
    draw(rate, "lr", "learning rate", BLUE)
    best = [row for row in history if row.get("best")]
    if best and metric.lines:
        row = best[-1]
        value = row.get(f"{row['best']}_{monitor}")
        metric.axvline(row["epoch"], color=GREY, lw=1, ls=":", zorder=0)
        metric.plot([row["epoch"]], [value], "o", ms=9, mfc="none", mec="#222222", label=f"best, {value:.4f}")
    loss.set_title("loss")
    metric.set_title(monitor.replace("_", " ") if metric.lines else "no validation split")
    rate.set_title("learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    for axes in (loss, metric, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(epochs) == 1:
            axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    for axes in (loss, metric):
        if axes.lines:
            axes.legend(frameon=False)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left", weight="bold")
    return figure


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str], *, title: str = "") -> Any:
    """Confusion matrix as a matplotlib Figure: rows are the true classes, colour is the share of the row.

    Counts are written into the cells up to 20 classes; above 40, class names are left out.
    """
    table = np.asarray(counts)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    cells = [[f"{n}" if n else "" for n in row] for row in table.tolist()]
    figure, axes = matrix(
        share, cells, classes, cmap="Blues", limits=(0, 1), legend="share of the true class", title=title
    )
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    return figure


def matrix(
    shade: np.ndarray,
    cells: Sequence[Sequence[str]],
    names: Sequence[str],
    *,
    cmap: str,
    limits: tuple[float, float],
    legend: str,
    title: str,
) -> tuple[Any, Any]:
    """A square of named rows and columns, as a matplotlib Figure and its axes.

    Args:
        shade: (k, k), what the colours show.
        cells: texts in the cells, shown up to 20 rows.
        names: of the rows and columns, shown up to 40.
        cmap, limits: matplotlib's colour map, dark where the shade is far from 0, and the shades at its ends.
        legend: beside the colour bar.
        title: of the figure.
    """
    k = len(shade)
    short = [shorten(name) for name in names]
    side = min(3.2 + 0.38 * k, 10)
    # Names stand left of the square and the colour bar right of it.
    margin = 2.0 + (0.08 * max(map(len, short)) if k <= _NUMBERED else 0)
    figure, (axes,) = new_figure(1, (side + margin, side + 0.5))
    image = axes.imshow(shade, cmap=cmap, vmin=limits[0], vmax=limits[1])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if k <= _NAMED:
        size = max((len(text) for row in cells for text in row), default=0)
        for i, j in np.ndindex(k, k):
            if cells[i][j]:
                color = "white" if abs(shade[i, j]) > 0.55 * limits[1] else "#222222"
                axes.text(j, i, cells[i][j], ha="center", va="center", color=color,
                          fontsize=(9 if k <= 12 else 7) - (size > 4))  # fmt: skip
    if k <= _NUMBERED:
        slanted = max(map(len, short)) > 3
        axes.set_xticks(range(k), short, rotation=45 if slanted else 0, ha="right" if slanted else "center")
        axes.set_yticks(range(k), short)
        axes.tick_params(length=0, labelsize=9 if k <= 20 else 7)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label(legend)
    bar.outline.set_visible(False)
    if title:
        axes.set_title(title, fontsize=11, loc="left", weight="bold", pad=12)
    return figure, axes


def comparison(rows: Sequence[dict[str, Any]], metric: str, *, memory: str = "process", title: str = "") -> Any:
    """Variants of a model side by side, as a matplotlib Figure with three or four axes, a line a variant.

    Args:
        rows: with `variant`, `values` (one a run), `mean`, `std`, `params`, `seconds_per_epoch`, `peak_memory`; what is
            not known is `None` or empty.
        metric: heading of the first axes: the mean, its standard deviation and a dot a run.
        memory: what the memory is of.
        title: of the figure.
    """
    costs = [
        ("parameters (millions)", [row["params"] / 1e6 for row in rows]),
        ("training (seconds an epoch)", [row["seconds_per_epoch"] for row in rows]),
        (f"peak {memory} memory (MiB)", [b if (b := row["peak_memory"]) is None else b / 2**20 for row in rows]),
    ]
    costs = [(label, numbers) for label, numbers in costs if any(n is not None for n in numbers)]
    names = [shorten(row["variant"], 40) for row in rows]
    width = 3.2 * (1 + len(costs)) + 0.075 * max(map(len, names))
    figure, axes = new_figure(1 + len(costs), (width, 1.4 + 0.42 * len(rows)))
    places = range(len(rows))
    for place, row in zip(places, rows, strict=True):
        if row["mean"] is None:
            axes[0].text(0.5, place, "no value", transform=axes[0].get_yaxis_transform(), ha="center", va="center",
                         color=GREY)  # fmt: skip
            continue
        if len(row["values"]) > 1:
            axes[0].plot(row["values"], [place] * len(row["values"]), "o", color=GREY, ms=4, alpha=0.7)
        axes[0].errorbar(row["mean"], place, xerr=row["std"], fmt="o", color=BLUE, ms=7, capsize=4, lw=1.8)
        axes[0].annotate(f"{row['mean']:.4f}", (row["mean"], place), (0, 7), textcoords="offset points", ha="center",
                         fontsize=8)  # fmt: skip
    axes[0].set_xlabel(metric if all(row["std"] is None for row in rows) else f"{metric}, mean ± std")
    axes[0].margins(x=0.2)
    for each, (label, numbers) in zip(axes[1:], costs, strict=True):
        bars = each.barh(places, [n or 0 for n in numbers], height=0.55, color=ORANGE)
        each.bar_label(bars, ["–" if n is None else f"{n:.3g}" for n in numbers], padding=3, fontsize=8)
        each.set_xlabel(label)
        each.margins(x=0.2)
    for number, each in enumerate(axes):
        each.set_yticks(places, names if number == 0 else [""] * len(rows))
        each.set_ylim(len(rows) - 0.4, -0.6)  # the first on top
        each.grid(False, axis="y")
        each.tick_params(axis="y", length=0)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left", weight="bold")
    return figure


def shorten(name: str, longest: int = 24) -> str:
    """The name, or its beginning and an ellipsis."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def save(figure: Any, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all."""
    with atomic_path(path) as temporary, warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; the run is none the worse.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(temporary, format="png", dpi=150)
    return path
