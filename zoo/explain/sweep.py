"""What a memory recalls at which inverse temperature."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.explain.figure import finish
from zoo.explain.mixing import COLORS
from zoo.explain.stores import store_of
from zoo.layers.hopfield.memory import HopfieldMemory, beta_for, retrieval_report, retrieve
from zoo.layers.hopfield.memory.margins import norm_range, spread_rows
from zoo.layers.hopfield.memory.report import kind_limits
from zoo.training.plots import BLUE, GREEN, ORANGE, new_figure

#: Patterns that are looked at: as states, and for the least separation.
_STATES, _SAMPLE = 256, 1024
_BETAS = 31


@torch.no_grad()
def beta_sweep(
    source: Tensor | HopfieldMemory,
    states: Tensor | None = None,
    targets: Tensor | None = None,
    *,
    betas: Sequence[float] | None = None,
    num_updates: int = 1,
    tolerance: float = 0.01,
    similarity: str | None = None,
    association: str | None = None,
    alpha: float | None = None,
    k: int | None = None,
    feature_map: Tensor | None = None,
    title: str = "",
    path: str | Path | None = None,
) -> Any:
    """What is recalled, and of how many patterns it is a mixture, against beta, as a matplotlib Figure of two axes.

    Left the median distance from the patterns, in their lengths, and the share of states that come within `tolerance`
    of theirs. Right the median of how many weights hold 0.9 of all, from averages of all patterns down to a single
    one, with the kinds of states as background. Marked are the beta that `beta_for` finds for 1% of the longest
    pattern (of more than 1,024 patterns it looks at so many), if any is enough, and 1/sqrt(dim), which is right for
    attention.

    Args:
        source: (patterns, dim), or a memory.
        states: (n, dim), what to recall from; 256 of the patterns themselves, evenly spread, if None.
        targets: (n,) integers, which stored pattern each state is of. Needed with states.
        betas: at least two, rising; 31 around the marks if None.
        num_updates: of each state.
        tolerance: greatest distance of what counts as recalled, in lengths of the pattern.
        similarity, association, alpha, k, feature_map: as `zoo.layers.hopfield.memory.retrieve`; the memory's if None.
        title: of the figure.
        path: a PNG file to write.

    Raises:
        ValueError: states without targets or of another number, targets that are not stored, betas that do not rise
            above 0; or see `zoo.layers.hopfield.memory.retrieval_report`.
        MissingExtraError: matplotlib is not installed.
    """
    stored, how = store_of(
        source, similarity=similarity, association=association, alpha=alpha, k=k, feature_map=feature_map
    )
    targets = None if targets is None else torch.as_tensor(targets)
    states, wanted = _tasks(stored, states, targets)
    marks = {"1/√dim": 1 / math.sqrt(stored.shape[1])}
    needed = _needed(stored, how)
    if needed is not None:
        marks["beta_for"] = needed
    betas = _around(list(marks.values())) if betas is None else _rising(betas)
    lost, mixed = [], []
    for beta in betas:
        recalled = retrieve(states, stored, beta=beta, num_updates=num_updates, **how)
        lost.append(((recalled - wanted).norm(dim=-1) / wanted.norm(dim=-1).clamp_min(1e-12)).cpu())
        report = retrieval_report(stored, states, beta=beta, sample=2, **how)  # only its states are of interest
        mixed.append(float(report.num_weights.double().median()))
    errors = torch.stack(lost)
    figure, (left, right) = new_figure(2, (11, 4))
    left.plot(betas, errors.median(1).values.tolist(), color=ORANGE, lw=1.8, label="median distance, in lengths")
    shares = (errors <= tolerance).double().mean(1).tolist()
    left.plot(betas, shares, color=BLUE, lw=1.8, label=f"share recalled within {tolerance:.3g}")
    left.set_ylim(-0.03, max(1.05, 1.05 * float(errors.median(1).values.max())))
    _kinds(right, len(stored))
    right.plot(betas, mixed, color="#222222", lw=1.8, label="median of the states")
    right.set_yscale("log")
    right.set_ylim(0.8, 1.25 * len(stored))
    right.set_ylabel(f"patterns that hold 0.9 of the weight, of {len(stored)}")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlim(betas[0], betas[-1])
        axes.set_xlabel("β")
        for (name, value), style in zip(marks.items(), (":", "--"), strict=False):
            if betas[0] <= value <= betas[-1]:
                axes.axvline(value, color=GREEN if name == "beta_for" else "#777777", lw=1.4, ls=style)
                axes.annotate(f"{name} {value:.3g}", (value, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
                              textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
    left.legend(frameon=False, fontsize=8, loc="best")
    right.grid(False)
    none = "" if needed is not None else "; no beta recalls all"
    name = title or f"{len(states)} states, {len(stored)} patterns{none}"
    figure.suptitle(name, fontsize=11, x=0.01, ha="left", weight="bold")
    return finish(figure, path)


def _tasks(stored: Tensor, states: Tensor | None, targets: Tensor | None) -> tuple[Tensor, Tensor]:
    """States, and the pattern that each is of."""
    if (states is None) != (targets is None):
        raise ValueError("states and targets belong together: give both, or none for the patterns themselves")
    if states is None or targets is None:
        rows = spread_rows(len(stored), _STATES)
        kept = stored if rows is None else stored[rows.to(stored.device)]
        patterns = kept.to(torch.promote_types(kept.dtype, torch.float32))
        return patterns, patterns
    if states.ndim != 2 or not len(states) or targets.shape != states.shape[:1] or targets.is_floating_point():
        raise ValueError(
            "states must be (n, dim) with an integer target each, got "
            f"{tuple(states.shape)} and {targets.dtype} {tuple(targets.shape)}"
        )
    wrong = (targets < 0) | (targets >= len(stored))
    if bool(wrong.any()):
        raise ValueError(f"targets must be in 0..{len(stored) - 1}, got {int(targets[wrong][0])}")
    return states, stored[targets.to(stored.device)].to(states)


def _needed(stored: Tensor, how: dict[str, Any]) -> float | None:
    """What `beta_for` finds; None where no beta is enough."""
    names = ("similarity", "feature_map", "association", "alpha", "k")
    compared = {name: how[name] for name in names if how.get(name) is not None}
    try:
        return beta_for(0.01 * float(norm_range(stored)[1]), stored, sample=_SAMPLE, **compared)
    except ValueError:
        return None


def _around(marks: list[float]) -> list[float]:
    low, high = min(marks) / 30, max(marks) * 10
    return [low * (high / low) ** (place / (_BETAS - 1)) for place in range(_BETAS)]


def _rising(betas: Sequence[float]) -> list[float]:
    found = [float(beta) for beta in betas]
    if len(found) < 2 or not found[0] > 0 or any(a >= b for a, b in itertools.pairwise(found)):
        raise ValueError(f"betas must be at least two numbers that rise from above 0, got {found}")
    return found


def _kinds(axes: Any, count: int) -> None:
    """The kinds of states, as coloured bands with their names beside them."""
    low = 0.8
    for kind, most in kind_limits(count).items():
        high = 1.25 * count if most == count else most * (1.15 if most == 1 else 1)
        if high > low:
            axes.axhspan(low, high, color=COLORS[kind], alpha=0.22, lw=0)
            axes.text(1.01, math.sqrt(low * high), kind, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
            low = high
