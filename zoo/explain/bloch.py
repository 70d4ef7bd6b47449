"""The wires of a state as arrows in their Bloch spheres."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.explain.figure import check_names, finish, picked
from zoo.quantum.layer import QuantumLayer
from zoo.quantum.probes import bloch_vectors
from zoo.training.plots import BLUE, GREY, new_figure

_MOST, _COLUMNS = 24, 6
#: Where one looks from: turned about z, then raised.
_TURN, _RAISE = pi / 6, pi / 9


@torch.no_grad()
def bloch_spheres(
    source: Tensor | QuantumLayer,
    x: Tensor | None = None,
    *,
    wires: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    title: str = "",
    path: str | Path | None = None,
) -> Any:
    """Every wire of a state alone, as an arrow in a sphere each: a matplotlib Figure.

    |0> is at the top. Over each sphere is the length of the arrow: 1 for a wire in a state of its own; the more it is
    entangled with others, the shorter.

    Args:
        source: (2**n,) amplitudes, or a layer.
        x: (in_features,), what the layer is given.
        wires: which; the first 24 if None.
        names: of all wires.
        title: of the figure.
        path: a PNG file to write.

    Raises:
        ValueError: no single state, a layer without x or x without a layer, a wire that is not there.
        MissingExtraError: matplotlib is not installed.
    """
    if isinstance(source, QuantumLayer):
        if x is None:
            raise ValueError("a layer has a state for each input: give x, (in_features,)")
        source = source.state(x)
    elif x is not None:
        raise ValueError("x is what a layer is given, and there is a state already")
    if source.ndim != 1:
        raise ValueError(f"one state is drawn, (2**n,) amplitudes; got the shape {tuple(source.shape)}")
    vectors = bloch_vectors(source).cpu()
    chosen = picked("wires", wires, len(vectors), _MOST)
    check_names("names", names, len(vectors))
    columns = min(_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, panels = new_figure(columns, (1.9 * columns, 2.1 * rows + 0.3), rows=rows)
    for axes in panels:
        axes.set_axis_off()
        axes.set_aspect("equal")
    for axes, wire in zip(panels, chosen, strict=False):
        vector = vectors[wire].tolist()
        _sphere(axes)
        _arrow(axes, vector)
        name = f"wire {wire}" if names is None else names[wire]
        axes.set_title(f"{name}: {sum(v * v for v in vector) ** 0.5:.3f}", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left", weight="bold")
    return finish(figure, path)


def _seen(x: float, y: float, z: float) -> tuple[float, float, float]:
    """A point as it is seen: to the right, upwards, and towards the eye."""
    right, away = x * -sin(_TURN) + y * cos(_TURN), x * cos(_TURN) + y * sin(_TURN)
    return right, z * cos(_RAISE) - away * sin(_RAISE), away * cos(_RAISE) + z * sin(_RAISE)


def _sphere(axes: Any) -> None:
    """The outline, the equator (dashed behind) and the three axes."""
    turns = [2 * pi * step / 96 for step in range(97)]
    axes.plot([cos(t) for t in turns], [sin(t) for t in turns], color=GREY, lw=0.9)
    points = [_seen(cos(t), sin(t), 0) for t in turns]
    for front, style in ((True, "-"), (False, ":")):
        kept = [(a, b) if (c >= 0) == front else (float("nan"),) * 2 for a, b, c in points]
        axes.plot(*zip(*kept, strict=True), color=GREY, lw=0.7, ls=style)
    for name, end in (("x", (1, 0, 0)), ("y", (0, 1, 0)), ("|0⟩", (0, 0, 1)), ("|1⟩", (0, 0, -1))):
        a, b, _ = _seen(*end)
        axes.plot([0, a], [0, b], color=GREY, lw=0.6)
        axes.annotate(name, (1.13 * a, 1.13 * b), ha="center", va="center", fontsize=7, color="#555555")
    axes.set_xlim(-1.25, 1.25)
    axes.set_ylim(-1.25, 1.25)


def _arrow(axes: Any, vector: Sequence[float]) -> None:
    a, b, depth = _seen(*vector)
    axes.plot([0, a], [0, b], color=BLUE, lw=2.0)
    axes.plot([a], [b], "o", ms=5, color=BLUE, mfc=BLUE if depth >= 0 else "white")
