"""Of how many stored patterns a state is a mixture."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.explain.figure import finish
from zoo.layers.hopfield.memory import RetrievalReport
from zoo.layers.hopfield.memory.report import KINDS, kind_limits, kinds_of, needed_weights
from zoo.training.plots import new_figure

#: From a single pattern to an average of all.
COLORS: dict[str, str] = dict(zip(KINDS, ("#3a8f5d", "#8abf6a", "#e5c04b", "#e07b39", "#b5475a"), strict=True))
_BINS = 6


@torch.no_grad()
def mixing_histogram(source: RetrievalReport | Tensor, *, title: str = "", path: str | Path | None = None) -> Any:
    """How many of the largest weights of a state sum to 0.9 of all, over many states, as a matplotlib Figure.

    Bars are coloured by the kind of the states: of one pattern; mixtures of few (small), of more than N/32 (medium) or
    N/8 (large) of the N stored patterns; averages of more than half of them. Dashed lines are the borders.

    Args:
        source: what `retrieval_report` or `report` of a memory gives, or an association, (*, states, stored). In bags
            that are padded N counts the padding: give them one by one.
        title: of the figure.
        path: a PNG file to write.

    Raises:
        TypeError: a memory, or anything else that is neither.
        ValueError: no states, weights that are not finite or whose sizes do not sum to 1 (0 where everything is masked,
            k by "budget"), such as scores.
        MissingExtraError: matplotlib is not installed.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217).
    """
    if isinstance(source, RetrievalReport):
        numbers, count, kinds = source.num_weights, source.num_patterns, source.kinds
    elif not isinstance(source, Tensor):
        raise TypeError(f"give a report, such as memory.report(), or an association, got {type(source).__name__}")
    else:
        if source.ndim < 2 or not source.numel():
            raise ValueError(
                f"an association is (*, states, stored), with one state at least; got {tuple(source.shape)}"
            )
        sums = source.detach().float().abs().sum(-1)
        if not bool(((sums - sums.round()).abs() < 0.02).all()):  # NaN neither
            raise ValueError("the sizes of the weights of a state must sum to a whole number, as an association's do")
        count = source.shape[-1]
        numbers = needed_weights(source.detach().float().reshape(-1, count))
        kinds = kinds_of(numbers, count)
    if not len(numbers):
        raise ValueError("the report is of no states")
    figure, (axes,) = new_figure(1, (6.8, 3.8))
    start = 0.5
    for kind, most in kind_limits(count).items():
        edges = _edges(start, math.floor(most) + 0.5)
        for place, (left, right) in enumerate(itertools.pairwise(edges)):
            held = int(((numbers > left) & (numbers < right)).sum())
            label = f"{kind} ({kinds[kind]})" if place == 0 else None
            axes.bar(left, held, right - left, align="edge", color=COLORS[kind], edgecolor="white", lw=0.5, label=label)
        start = edges[-1]
    for name, most in (("N/32", count / 32), ("N/8", count / 8), ("N/2", count / 2)):
        if most > 1:
            axes.axvline(most, color="#555555", lw=1, ls="--", zorder=0)
            axes.annotate(name, (most, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
                          textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(0.45, (count + 0.5) * 1.1)
    axes.set_xlabel(f"patterns that hold 0.9 of the weight, of N = {count}")
    axes.set_ylabel("states")
    axes.legend(framealpha=0.9, edgecolor="none", fontsize=8, loc="best")
    axes.grid(False, axis="x")
    axes.set_title(title or f"{len(numbers)} states", fontsize=11, loc="left", weight="bold", pad=16)
    return finish(figure, path)


def _edges(start: float, end: float) -> list[float]:
    """Ends of bins of equal width on a log axis, each half way between two whole numbers."""
    if end <= start:
        return [start]
    wanted = (math.floor(start * (end / start) ** (place / _BINS)) + 0.5 for place in range(1, _BINS))
    return sorted({start, *(edge for edge in wanted if start < edge < end), end})
