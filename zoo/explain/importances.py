"""How much features matter, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.explain.figure import check_names, finish, told_apart
from zoo.training.plots import BLUE, new_figure


def importance_chart(
    scores: Tensor | Mapping[str, Tensor],
    feature_names: Sequence[str] | None = None,
    *,
    top: int = 20,
    title: str = "",
    path: str | Path | None = None,
) -> Any:
    """Scores of features as a matplotlib Figure of bars, the most important feature on top.

    Args:
        scores: (features,), as `zoo.explain.feature_scores` gives them or a KAN's `node_scores(x)[0]`; or several, by
            the names of their methods: axes side by side, the features in the order of the first. A pandas Series
            brings its names.
        feature_names: one for every feature.
        top: features with a bar.
        title: of the figure.
        path: a PNG file to write.

    Raises:
        ValueError: no scores, scores of another shape or number or that are not finite, too few names.
        MissingExtraError: matplotlib is not installed.
    """
    given = dict(scores) if isinstance(scores, Mapping) else {"": scores}
    names_of: Any = getattr(scores, "index", None)  # a Series has its names there, and a list a method
    if feature_names is None and names_of is not None and not callable(names_of):
        feature_names = [str(name) for name in names_of]
    tensors = {m: values if isinstance(values, Tensor) else torch.tensor(list(values)) for m, values in given.items()}
    found = {method: values.detach().double().cpu() for method, values in tensors.items()}
    if not found or any(values.ndim != 1 or not len(values) for values in found.values()):
        raise ValueError(f"scores must be (features,), got {[tuple(values.shape) for values in found.values()]}")
    first, *others = found.values()
    if any(len(values) != len(first) for values in others):
        raise ValueError(f"all methods must score the same features, got {[len(values) for values in found.values()]}")
    wrong = next((method for method, values in found.items() if not values.isfinite().all()), None)
    if wrong is not None:
        raise ValueError(f"scores {wrong!r} hold NaN or infinity" if wrong else "scores hold NaN or infinity")
    check_names("feature_names", feature_names, len(first))
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    order: list[int] = first.argsort(descending=True, stable=True)[:top].tolist()
    short = told_apart(feature_names or (), 30)
    names = [f"x{i}" if feature_names is None else short[i] for i in order]
    width = 3.0 * len(found) + 0.8 + 0.07 * max(map(len, names))
    figure, panels = new_figure(len(found), (width, 0.9 + 0.27 * len(order)))
    for number, (axes, (method, values)) in enumerate(zip(panels, found.items(), strict=True)):
        axes.barh(range(len(order)), values[order].tolist(), height=0.65, color=BLUE)
        axes.set_yticks(range(len(order)), names if number == 0 else [""] * len(order))
        axes.set_ylim(len(order) - 0.4, -0.6)  # the first on top
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(method or "score")
    left_out = len(first) - len(order)
    said = title or (f"the {len(order)} highest of {len(first)} scores" if left_out else "")
    if said:
        figure.suptitle(said, fontsize=11, x=0.01, ha="left", weight="bold")
    return finish(figure, path)
