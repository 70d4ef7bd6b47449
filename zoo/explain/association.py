"""Who associates with whom, as a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.explain.figure import check_names, finish, picked
from zoo.layers.hopfield import HopfieldOutput
from zoo.training.plots import new_figure, shorten

_HEADS, _STATES = 8, 40
#: Cells have their weights written in, up to this many columns.
_WRITTEN = 12


def association_map(
    association: Tensor | HopfieldOutput,
    *,
    sample: int = 0,
    heads: Sequence[int] | None = None,
    states: Sequence[int] | None = None,
    top: int = 40,
    state_names: Sequence[str] | None = None,
    stored_names: Sequence[str] | None = None,
    title: str = "",
    path: str | Path | None = None,
) -> Any:
    """How much states took from stored patterns, as a matplotlib Figure: a map a head, or, of one state, a row a head.

    Of more than `top` stored patterns those with the largest weight of any state and head are shown, in their order,
    but for those without any weight, and a last column has the sum of all others. All heads have the same columns and
    colours, which go up to the largest weight of a single pattern, and turn red for weights above 0 and blue below
    where a memory has negative weights.

    Args:
        association: (states, stored), (heads, states, stored) or (batch, heads, states, stored), as
            `zoo.explain.layer_association` gives it; or what `recall` of a layer gives.
        sample: of the batch.
        heads: which; the first 8 if None.
        states: which; the first 40 if None.
        top: columns of their own.
        state_names, stored_names: one for every state and every stored pattern; numbers if None. A layer's bias and
            zero pattern stand last.
        title: of the figure.
        path: a PNG file to write.

    Raises:
        ValueError: another number of axes, a sample, head or state that is not there, names too few, NaN or infinity.
        MissingExtraError: matplotlib is not installed.
    """
    weights = association.association if isinstance(association, HopfieldOutput) else association
    weights = _one_sample(weights, sample).detach().float().cpu()
    num_heads, num_states, num_stored = weights.shape
    check_names("state_names", state_names, num_states)
    check_names("stored_names", stored_names, num_stored)
    if top < 1 or not weights.numel():
        raise ValueError(f"there must be a column to show, got top={top} of an association {tuple(weights.shape)}")
    chosen_heads, chosen = picked("heads", heads, num_heads, _HEADS), picked("states", states, num_states, _STATES)
    weights = weights[chosen_heads][:, chosen]
    if not bool(weights.isfinite().all()):
        raise ValueError("the weights of an association must be finite, got NaN or infinity")
    largest = weights.abs().amax((0, 1)).topk(min(top, num_stored))
    held = (largest.values > 0) if num_stored > top else torch.ones_like(largest.indices, dtype=torch.bool)
    held[0] = True  # one at least
    shown = largest.indices[held].sort().values
    table = weights[..., shown]
    columns = _names(stored_names, shown.tolist(), "")
    if num_stored > len(shown):
        others = weights.index_fill(-1, shown, 0.0).sum(-1, keepdim=True)
        table = torch.cat([table, others], -1)
        columns.append(f"{num_stored - len(shown)} others")
    head_names = [f"head {h}" for h in chosen_heads]
    rows = _names(state_names, chosen, "state " if len(chosen) == 1 else "")
    if len(chosen) == 1 and num_heads > 1:  # heads one above the other
        panels, rows, titles = [table[:, 0]], head_names, rows
    else:
        panels, titles = list(table), head_names if num_heads > 1 else [""]
    highest = float(table[..., : len(shown)].abs().max()) or 1.0
    axis = "" if rows is head_names else "state"
    return finish(_draw(panels, titles, rows, columns, axis, highest, title), path)


def _one_sample(weights: Tensor, sample: int) -> Tensor:
    """(heads, states, stored) of any of the shapes that an association has."""
    if weights.ndim == 4:
        if not 0 <= sample < len(weights):
            raise ValueError(f"sample must be in 0..{len(weights) - 1}, got {sample}")
        return weights[sample]
    if weights.ndim not in (2, 3):
        raise ValueError(f"an association is ([batch, [heads,]] states, stored), got {tuple(weights.shape)}")
    return weights if weights.ndim == 3 else weights[None]


def _names(names: Sequence[str] | None, indices: Sequence[int], prefix: str) -> list[str]:
    return [f"{prefix}{i}" if names is None else shorten(names[i], 16) for i in indices]


def _draw(
    panels: list[Tensor], titles: list[str], rows: list[str], columns: list[str], axis: str, highest: float, title: str
) -> Any:
    longest = max(map(len, columns)) if max(map(len, columns)) > 3 else 0
    width = min(max(0.3 * len(columns), 1.6), 9 if len(panels) == 1 else 4 if len(panels) <= 4 else 2.5)
    every = math.ceil(0.17 * len(columns) / width)  # numbers would lie on each other
    last = len(columns) - 1
    ticks = [tick for tick in range(0, last, every) if last - tick >= every] + [last]
    size = (width * len(panels) + 1.6 + 0.08 * max(map(len, rows)), 1.0 + 0.3 * len(rows) + 0.07 * longest)
    figure, axes = new_figure(len(panels), size)
    signed = min(float(panel.min()) for panel in panels) < 0  # of a linear or polynomial memory
    shades: dict[str, Any] = {"cmap": "RdBu_r" if signed else "Blues", "vmin": -highest if signed else 0}
    image = None
    for place, (each, panel, above) in enumerate(zip(axes, panels, titles, strict=True)):
        image = each.imshow(panel.numpy(), **shades, vmax=highest, aspect="auto", interpolation="nearest")
        each.grid(False)
        each.spines[:].set_visible(False)
        each.set_title(above)
        slanted = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if longest else {}
        each.set_xticks(ticks, [columns[tick] for tick in ticks], fontsize=7, **slanted)
        each.set_yticks(range(len(rows)), [] if place else rows, fontsize=8)
        each.tick_params(length=0)
        each.set_xlabel("stored")
        each.set_ylabel("" if place else axis)
        if len(columns) <= _WRITTEN and len(panels) == 1:
            for row, column in torch.cartesian_prod(torch.arange(len(rows)), torch.arange(len(columns))).tolist():
                value = float(panel[row, column])
                color = "white" if abs(value) > 0.55 * highest else "#222222"
                each.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label("weight")
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left", weight="bold")
    return figure
