"""Which paths of a stitched network are worth their cost, and a picture of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.explain.figure import finish
from zoo.naming import did_you_mean
from zoo.training.plots import BLUE, GREY, ORANGE, new_figure

#: What a row may be compared by: its words, and the size of a unit.
COSTS = {
    "flops": ("FLOPs (G)", 1e9),
    "macs": ("multiply-accumulates (G)", 1e9),
    "params": ("parameters (M)", 1e6),
    "latency": ("latency (ms)", 1.0),
}


def pareto(rows: Iterable[Any], cost: str = "flops") -> list[Any]:
    """The rows that no other beats: none is as cheap with a higher accuracy, none as accurate and cheaper.

    Args:
        rows: of `zoo.evaluate_stitches`, or `net.stitches` where accuracies are known.
        cost: "flops", "macs", "params" or "latency".

    Returns:
        those rows, from cheap to dear; of equal ones the first.

    Raises:
        ValueError: another cost, or a row without it or without `top1`.
    """
    best, front = -math.inf, []
    found = [(_value(row, cost), -_value(row, "top1"), number, row) for number, row in enumerate(_checked(rows, cost))]
    for _, worth, _, row in sorted(found, key=lambda item: item[:3]):
        if -worth > best:
            best = -worth
            front.append(row)
    return front


def plot_pareto(
    rows: Iterable[Any], path: str | Path | None = None, *, cost: str = "flops", title: str | None = None
) -> Any:
    """Accuracy over cost, as a matplotlib Figure: all paths, a line through those that no other beats, and anchors.

    Args:
        rows, cost: as of `pareto`.
        path: a PNG file to write.
        title: of the figure.

    Raises:
        ValueError: as of `pareto`, no rows, or another ending than .png.
        MissingExtraError: matplotlib is not installed.
    """
    given = list(rows)
    front = pareto(given, cost)
    if not front:
        raise ValueError("there is no row to draw")
    words, unit = COSTS[cost]

    def places(chosen: Iterable[Any]) -> tuple[list[float], list[float]]:
        pairs = [(_value(row, cost) / unit, _value(row, "top1")) for row in chosen]
        return [x for x, _ in pairs], [y for _, y in pairs]

    figure, (axes,) = new_figure(1, (7, 4.2))
    axes.plot(*places(front), color=ORANGE, lw=1.2, zorder=1, label=f"{len(front)} of {len(given)} that no other beats")
    axes.plot(*places(given), "o", ms=4, color=GREY, zorder=2, label="paths")
    axes.plot(*places(front), "o", ms=5, color=ORANGE, zorder=3)
    alone = [row for row in given if _has(row, "cuts") and not _get(row, "cuts")]
    if alone:
        axes.plot(*places(alone), "s", ms=8, mfc="none", mec=BLUE, mew=1.5, ls="", zorder=4, label="anchors")
    for row in front:
        if _has(row, "id"):
            place = (_value(row, cost) / unit, _value(row, "top1"))
            axes.annotate(
                str(_get(row, "id")), place, xytext=(0, 6), textcoords="offset points", fontsize=7, ha="center"
            )
    axes.set_xlabel(words)
    axes.set_ylabel("top-1 accuracy (%)")
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    if title:
        axes.set_title(title, fontsize=11, loc="left", weight="bold")
    return finish(figure, path)


def _checked(rows: Iterable[Any], cost: str) -> list[Any]:
    if cost not in COSTS:
        raise ValueError(f"cost must be one of {', '.join(COSTS)}, got {cost!r}{did_you_mean(cost, COSTS)}")
    found = list(rows)
    for number, row in enumerate(found):
        for what in ("top1", cost):
            if _get(row, what) is None:
                hint = "; net.latency has them after zoo.profile_stitches" if what == "latency" else ""
                name = _get(row, "id") if _has(row, "id") else f"at place {number}"
                raise ValueError(f"the row of path {name} has no {what}{hint}")
    return found


def _has(row: Any, what: str) -> bool:
    return what in row if isinstance(row, Mapping) else hasattr(row, what)


def _get(row: Any, what: str) -> Any:
    return row.get(what) if isinstance(row, Mapping) else getattr(row, what, None)


def _value(row: Any, what: str) -> float:
    return float(_get(row, what))
