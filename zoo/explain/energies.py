"""How the energy of states falls from update to update."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.explain.figure import check_names, finish
from zoo.explain.stores import store_of
from zoo.layers.hopfield.memory import HopfieldMemory, energy, retrieve
from zoo.layers.hopfield.options import positive_int
from zoo.training.plots import BLUE, GREEN, GREY, ORANGE, new_figure, shorten

#: So many states have a line of their own; of more, the median and two bands are drawn.
_LINES = 12
_COLORS = (BLUE, ORANGE, GREEN, "#7b5ea7", "#b5475a", GREY)
_OPTIONS = ("association", "alpha", "k")
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@torch.no_grad()
def energy_curves(
    source: Tensor | HopfieldMemory,
    states: Tensor,
    *,
    num_updates: int = 10,
    beta: float | None = None,
    association: str | Sequence[str] | None = None,
    alpha: float | None = None,
    k: int | None = None,
    state_names: Sequence[str] | None = None,
    title: str = "",
    path: str | Path | None = None,
) -> Any:
    """Energies of states after 0 to `num_updates` updates, which none of them raises, as a matplotlib Figure.

    A line a state, up to 12; of more states, or of several maps, the median, and bands that hold half of the states
    and nine tenths of them.

    Args:
        source: (patterns, dim), compared by dot product, or a memory.
        states: (n, dim), where to start from.
        num_updates: of each state.
        beta: inverse temperature; the memory's, or 1, if None.
        association: a map of `zoo.layers.hopfield.associate`, or several to compare; the memory's, or "softmax", if
            None.
        alpha, k: of the map; its own if None.
        state_names: one for every state.
        title: of the figure; the map and beta if empty.
        path: a PNG file to write.

    Raises:
        ValueError: a memory with a similarity other than "dot", a feature map or `post`, for which there is no energy;
            no states; or see `zoo.layers.hopfield.memory.energy`.
        MissingExtraError: matplotlib is not installed.
    """
    positive_int("num_updates", num_updates)
    if states.ndim != 2 or not len(states):
        raise ValueError(f"states must be (n, dim), one at least, got {tuple(states.shape)}")
    check_names("state_names", state_names, len(states))
    _check_energy(source)
    if beta is None:
        beta = source.inverse_temperature() if isinstance(source, HopfieldMemory) else 1.0
    maps = [association] if association is None or isinstance(association, str) else list(association)
    falls: dict[str, Tensor] = {}
    for name in maps:
        stored, how = store_of(source, association=name, alpha=alpha, k=k)
        how = {"association": "softmax", **{option: how[option] for option in _OPTIONS if option in how}}
        falls[how["association"]] = _fall(states, stored, num_updates, beta=beta, **how)
    figure, (axes,) = new_figure(1, (6.4, 4))
    if len(falls) == 1 and len(states) <= _LINES:
        (fall,) = falls.values()
        for place, line in enumerate(fall.T.tolist()):
            label = None if state_names is None else shorten(state_names[place])
            axes.plot(line, color=_COLORS[place % len(_COLORS)], lw=1.6, marker="o", ms=3, label=label)
    else:
        for place, (name, fall) in enumerate(falls.items()):
            label = name if len(falls) > 1 else f"median of {len(states)} states"
            _bands(axes, fall, label, _COLORS[place % len(_COLORS)])
    axes.set_xlabel("update")
    axes.set_ylabel("energy")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
    what = f"{len(falls)} maps" if len(falls) > 1 else next(iter(falls))
    axes.set_title(title or f"{what}, β = {beta:.4g}", fontsize=11, loc="left", weight="bold")
    return finish(figure, path)


def _check_energy(source: Tensor | HopfieldMemory) -> None:
    """Refuse a memory whose updates descend no energy."""
    if not isinstance(source, HopfieldMemory):
        return
    has = {f"similarity {source.similarity!r}": source.similarity != "dot"}
    has |= {"a feature map": source.feature_map is not None, "post": source.post is not None}
    if found := [what for what, here in has.items() if here]:
        raise ValueError(
            f"the energy is that of similarity 'dot' without feature map and post; the memory has {', '.join(found)}"
        )


def _fall(states: Tensor, stored: Tensor, num_updates: int, **how: Any) -> Tensor:
    """Energies (num_updates + 1, n), computed in float64: rounding would let them rise at the end."""
    states = states.double()
    found = [energy(states, stored, **how)]
    for _ in range(num_updates):
        states = retrieve(states, stored, **how)
        found.append(energy(states, stored, **how))
    return torch.stack(found).cpu()


def _bands(axes: Any, fall: Tensor, label: str, color: str) -> None:
    low, lower, middle, upper, high = fall.quantile(fall.new_tensor(_QUANTILES), 1).tolist()
    places = range(len(middle))
    axes.fill_between(places, low, high, color=color, alpha=0.15, lw=0)
    axes.fill_between(places, lower, upper, color=color, alpha=0.3, lw=0)
    axes.plot(middle, color=color, lw=1.8, marker="o", ms=3.5, label=label)
