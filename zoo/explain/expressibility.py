"""How evenly the states of a circuit cover all states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.explain.figure import finish
from zoo.quantum.probes import Expressibility
from zoo.training.plots import BLUE, ORANGE, new_figure


def expressibility_chart(found: Expressibility, *, title: str = "", path: str | Path | None = None) -> Any:
    """Fidelities of random pairs of a circuit's states beside those of Haar-random states, as a matplotlib Figure.

    Args:
        found: what `zoo.quantum.expressibility` gives.
        title: of the figure.
        path: a PNG file to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, (axes,) = new_figure(1, (5.4, 3.6))
    starts, widths = found.edges[:-1].tolist(), found.edges.diff().tolist()
    axes.bar(starts, found.shares.tolist(), width=widths, align="edge", color=BLUE, alpha=0.75, label="circuit")
    middles = [start + width / 2 for start, width in zip(starts, widths, strict=True)]
    axes.plot(middles, found.haar.tolist(), color=ORANGE, lw=1.8, label="Haar-random states")
    axes.set_xlim(0, 1)
    axes.set_xlabel("fidelity of two states")
    axes.set_ylabel("share of pairs")
    axes.legend(frameon=False, fontsize=9)
    name = title or f"divergence {found.divergence:.3g} nats, {len(found.fidelities)} pairs"
    axes.set_title(name, fontsize=11, loc="left", weight="bold")
    return finish(figure, path)
