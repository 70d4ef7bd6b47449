"""The histogram counts how many patterns the states mix, by kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from zoo import explain
from zoo.layers.hopfield import Hopfield
from zoo.layers.hopfield.memory import HopfieldMemory, retrieval_report


def _bars(axes: Any) -> list[tuple[float, float, int, str]]:
    """Left and right end, height and label of the first bar of its kind."""
    return [
        (b.get_x(), b.get_x() + b.get_width(), int(b.get_height()), group.get_label())
        for group in axes.containers
        for b in group
    ]


def _weights(count: int, *numbers: int) -> torch.Tensor:
    """Rows of which so many equal weights hold everything."""
    return torch.stack([torch.cat([torch.full((n,), 1 / n), torch.zeros(count - n)]) for n in numbers])


def test_bars_count_the_states() -> None:
    torch.manual_seed(0)
    stored = torch.randn(200, 16)
    report = retrieval_report(stored, stored, beta=0.2)
    axes = explain.mixing_histogram(report).axes[0]
    bars = _bars(axes)
    assert sum(height for *_, height, _ in bars) == 200
    for left, right, height, _ in bars:
        assert height == int(((report.num_weights > left) & (report.num_weights < right)).sum())
    assert [a[1] for a in bars[:-1]] == [b[0] for b in bars[1:]]
    assert (bars[0][0], bars[-1][1]) == (0.5, 200.5)
    shown = [label for *_, label in bars if not label.startswith("_")]
    assert shown == [f"{kind} ({n})" for kind, n in report.kinds.items()]
    assert [line.get_xdata()[0] for line in axes.lines] == [200 / 32, 200 / 8, 200 / 2]
    assert sorted(report.kinds.values())[-2] > 0


def test_each_bar_is_of_one_kind() -> None:
    # Of 128 patterns the borders are 4, 16 and 64, and belong to the smaller kind.
    numbers = [1, 2, 4, 5, 17, 18, 71, 72, 128]
    weights = _weights(128, *numbers)
    axes = explain.mixing_histogram(weights.view(3, 3, 128)).axes[0]
    # k(0.9) of n equal weights is ceil(0.9 n): 1, 2, 4, 5, 16, 17, 64, 65, 116.
    labels = [label for *_, label in _bars(axes) if not label.startswith("_")]
    assert labels == ["one pattern (1)", "small (2)", "medium (2)", "large (2)", "global average (2)"]
    ends = {right for _, right, *_ in _bars(axes)}
    assert {1.5, 4.5, 16.5, 64.5, 128.5} <= ends


def test_of_a_memory_and_of_a_layer() -> None:
    torch.manual_seed(0)
    memory = HopfieldMemory(8, beta=50.0)
    memory.add(torch.nn.functional.normalize(torch.randn(40, 8), dim=-1))
    first = _bars(explain.mixing_histogram(memory.report(), title="sharp").axes[0])[0]
    assert first == (0.5, 1.5, memory.report().kinds["one pattern"], f"one pattern ({first[2]})")
    weights = explain.layer_association(Hopfield(8, num_heads=2), torch.randn(3, 40, 8))
    bars = _bars(explain.mixing_histogram(weights).axes[0])
    assert sum(height for *_, height, _ in bars) == 3 * 2 * 40
    assert sum(height for left, _, height, _ in bars if left > 20) == 240  # a new layer averages


def test_few_patterns_have_few_kinds() -> None:
    axes = explain.mixing_histogram(_weights(4, 1, 2, 4)).axes[0]
    assert [label for *_, label in _bars(axes) if not label.startswith("_")] == [
        "one pattern (1)", "large (1)", "global average (1)",
    ]  # fmt: skip
    assert [line.get_xdata()[0] for line in axes.lines] == [2]


def test_no_states_are_refused() -> None:
    with pytest.raises(ValueError, match=r"with one state at least; got \(0, 4\)"):
        explain.mixing_histogram(torch.zeros(0, 4))
    with pytest.raises(ValueError, match=r"with one state at least; got \(4,\)"):
        explain.mixing_histogram(torch.ones(4))
    with pytest.raises(ValueError, match="the report is of no states"):
        explain.mixing_histogram(retrieval_report(torch.randn(5, 3), torch.zeros(0, 3)))


def test_what_is_no_association_is_refused() -> None:
    for broken in (torch.full((2, 5), torch.nan), torch.tensor([[0.7, 0.55, 0.0]])):
        with pytest.raises(ValueError, match="sum to a whole number"):
            explain.mixing_histogram(broken)
