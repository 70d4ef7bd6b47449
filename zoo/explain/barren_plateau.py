"""How the gradient of a circuit shrinks with its width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.explain.figure import finish
from zoo.quantum.probes import GradientVariance
from zoo.training.plots import BLUE, ORANGE, new_figure


def plateau_chart(found: GradientVariance, *, title: str = "", path: str | Path | None = None) -> Any:
    """Variance of the gradient against the number of qubits with the fitted line, as a matplotlib Figure.

    Args:
        found: what `zoo.quantum.gradient_variance` gives.
        title: of the figure; "barren plateau" or "no barren plateau" if empty.
        path: a PNG file to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, (axes,) = new_figure(1, (5.2, 3.6))
    axes.plot(found.widths, found.variances, "o", ms=6, color=BLUE, label="measured")
    ends = (min(found.widths), max(found.widths))
    line = [found.at(width) for width in ends]
    axes.plot(ends, line, color=ORANGE, lw=1.8, label=f"times {found.factor:.3g} a qubit")
    axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("qubits")
    axes.set_ylabel("variance of a derivative")
    axes.legend(frameon=False, fontsize=9)
    name = title or ("barren plateau" if found.warning else "no barren plateau")
    axes.set_title(name, fontsize=11, loc="left", weight="bold")
    return finish(figure, path)
