"""The sweep draws what retrieval gives at every beta, and marks the one that is enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from zoo import explain
from zoo.layers.hopfield.memory import HopfieldMemory, beta_for, retrieval_report, retrieve

BETAS = [0.01, 0.1, 1.0, 4.0, 30.0]


def _stored() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(64, 16)


def _lines(axes: Any) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_ydata() for line in axes.lines if not line.get_label().startswith("_")}


def _marks(axes: Any) -> dict[str, float]:
    found = (text.get_text().rsplit(" ", 1) for text in axes.texts if " " in text.get_text())
    return {name: float(value) for name, value in found if name in ("1/√dim", "beta_for")}


def test_lines_are_what_is_recalled() -> None:
    stored = _stored()
    states = stored[:20] + 0.2 * torch.randn(20, 16)
    targets = torch.arange(20)
    how = {"similarity": "neg_sq_l2", "association": "sparsemax"}
    left, right = explain.beta_sweep(stored, states, targets, betas=BETAS, num_updates=2, tolerance=0.05, **how).axes
    distances, shares, mixed = [], [], []
    for beta in BETAS:
        lost = (retrieve(states, stored, beta=beta, num_updates=2, **how) - stored[:20]).norm(dim=1)
        lost = lost / stored[:20].norm(dim=1)
        distances.append(float(lost.median()))
        shares.append(float((lost <= 0.05).double().mean()))
        mixed.append(float(retrieval_report(stored, states, beta=beta, **how).num_weights.double().median()))
    lines = _lines(left)
    np.testing.assert_allclose(lines["median distance, in lengths"], distances, rtol=1e-6)
    np.testing.assert_allclose(lines["share recalled within 0.05"], shares)
    np.testing.assert_allclose(_lines(right)["median of the states"], mixed)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert left.get_xscale() == right.get_xscale() == right.get_yscale() == "log"


def test_marks_and_regimes() -> None:
    stored = _stored()
    needed = beta_for(0.01 * float(stored.norm(dim=1).max()), stored, similarity="neg_sq_l2")
    left, right = explain.beta_sweep(stored, similarity="neg_sq_l2").axes
    for axes in (left, right):
        assert _marks(axes) == {"1/√dim": 0.25, "beta_for": pytest.approx(needed, rel=0.01)}
        drawn = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
        assert drawn == pytest.approx([0.25, needed])
    # At the first the memory averages, at the second it recalls.
    xs = next(line.get_xdata() for line in left.lines if len(line.get_xdata()) > 2)
    shares = _lines(left)["share recalled within 0.01"]
    assert shares[np.searchsorted(xs, needed)] == 1
    assert shares[0] == 0
    names = [text.get_text() for text in right.texts]
    assert [name for name in names if " 0" not in name and "beta_for" not in name] == [
        "one pattern", "small", "medium", "large", "global average",
    ]  # fmt: skip
    spans = [(patch.get_y(), patch.get_y() + patch.get_height()) for patch in right.patches]
    assert [top for _, top in spans[1:-1]] == [2, 8, 32]


def test_a_memory_brings_its_own_options() -> None:
    stored = _stored()
    select = torch.eye(16)[:10]
    memory = HopfieldMemory(16, similarity="neg_sq_l2", association="topk", k=4)
    memory.add(stored)
    memory.feature_map = select
    how = {"similarity": "neg_sq_l2", "association": "topk", "k": 4, "feature_map": select}
    figures = [explain.beta_sweep(memory, betas=BETAS), explain.beta_sweep(stored, betas=BETAS, **how)]
    for mine, given in zip(*(figure.axes for figure in figures), strict=True):
        assert {name: list(y) for name, y in _lines(mine).items()} == {n: list(y) for n, y in _lines(given).items()}
    changed = explain.beta_sweep(memory, betas=BETAS, association="softmax")
    most = [max(_lines(figure.axes[1])["median of the states"]) for figure in (figures[0], changed)]
    assert most[0] <= 4 < most[1]


def test_without_an_enough_beta_the_figure_says_so() -> None:
    stored = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    figure = explain.beta_sweep(stored)
    assert figure.get_suptitle() == "3 states, 3 patterns; no beta recalls all"
    assert "beta_for" not in _marks(figure.axes[0])


def test_what_does_not_fit_is_refused() -> None:
    stored = _stored()
    with pytest.raises(ValueError, match="give both, or none"):
        explain.beta_sweep(stored, stored)
    with pytest.raises(ValueError, match=r"an integer target each, got \(64, 16\) and torch.int64 \(3,\)"):
        explain.beta_sweep(stored, stored, torch.arange(3))
    with pytest.raises(ValueError, match=r"targets must be in 0\.\.63, got 64"):
        explain.beta_sweep(stored, stored[:2], torch.tensor([0, 64]))
    with pytest.raises(ValueError, match=r"rise from above 0, got \[1\.0, 1\.0\]"):
        explain.beta_sweep(stored, betas=[1, 1])
    with pytest.raises(ValueError, match=r"rise from above 0, got \[0\.0, 1\.0\]"):
        explain.beta_sweep(stored, betas=[0, 1])
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        explain.beta_sweep(stored, similarity="cosin")
