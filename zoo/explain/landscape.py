"""A loss or an expectation over two weights of a circuit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.explain.figure import finish
from zoo.quantum.probes import Landscape
from zoo.training.plots import ORANGE, new_figure


def landscape_map(found: Landscape, *, label: str = "", title: str = "", path: str | Path | None = None) -> Any:
    """A function of two weights as a map with lines of equal height, as a matplotlib Figure.

    The cross is where the weights are, the dot the lowest value of the map.

    Args:
        found: what `zoo.quantum.landscape` gives.
        label: beside the colours, what the function is.
        title: of the figure.
        path: a PNG file to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, (axes,) = new_figure(1, (5.2, 4.2))
    # Rows are the first weight, which goes to the right here.
    values, first, second = found.values.T.numpy(), found.first.tolist(), found.second.tolist()
    filled = axes.contourf(first, second, values, levels=24, cmap="viridis")
    axes.contour(first, second, values, levels=12, colors="white", linewidths=0.4, alpha=0.6)
    figure.colorbar(filled, ax=axes, label=label)
    axes.plot([0], [0], "X", ms=9, mfc="white", mec="#222222")
    row, column = divmod(int(found.values.argmin()), len(second))
    axes.plot([first[row]], [second[column]], "o", ms=8, mfc=ORANGE, mec="white", clip_on=False)
    axes.set_xlabel(f"added to weight {found.places[0]}")
    axes.set_ylabel(f"added to weight {found.places[1]}")
    axes.grid(False)
    lowest = f"lowest {float(found.values.min()):.3g}"
    axes.set_title(title or lowest, fontsize=11, loc="left", weight="bold")
    return finish(figure, path)
