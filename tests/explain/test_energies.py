"""Energy curves are the energies after each update, and they fall."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from zoo import explain
from zoo.layers.hopfield.memory import HopfieldMemory, energy, retrieve

MAPS = ["softmax", "entmax", "sparsemax"]


def _stored(count: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    stored = torch.nn.functional.normalize(torch.randn(count, 8), dim=-1)
    return stored, stored[:20] + 0.3 * torch.randn(20, 8)


def _lines(figure: Any) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata()) for line in figure.axes[0].lines]


def _energies(stored: torch.Tensor, states: torch.Tensor, updates: int, **how: Any) -> torch.Tensor:
    states = states.double()
    whole = [states, *(retrieve(states, stored, num_updates=n, **how) for n in range(1, updates + 1))]
    return torch.stack([energy(each, stored, **how) for each in whole])


@pytest.mark.parametrize("association", MAPS)
def test_a_line_is_a_state(association: str) -> None:
    stored, states = _stored()
    names = [f"s{k}" for k in range(5)]
    how = {"beta": 6.0, "association": association}
    figure = explain.energy_curves(stored, states[:5], num_updates=6, state_names=names, **how)
    wanted = _energies(stored, states[:5], 6, **how)
    lines = _lines(figure)
    assert len(lines) == 5
    for line, fall in zip(lines, wanted.T, strict=True):
        np.testing.assert_allclose(line, fall, rtol=1e-10)
        assert (np.diff(line) <= 1e-12).all()
        assert line[0] - line[-1] > 0.01
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == names
    assert figure.axes[0].get_title(loc="left") == f"{association}, β = 6"


def test_many_states_are_a_median_between_bands() -> None:
    stored, states = _stored()
    axes = explain.energy_curves(stored, states, num_updates=3, beta=6.0).axes[0]
    wanted = _energies(stored, states, 3, beta=6.0)
    np.testing.assert_allclose(_lines(axes.figure)[0], wanted.quantile(0.5, 1), rtol=1e-10)
    outer, inner = (band.get_paths()[0].vertices[:, 1] for band in axes.collections)
    assert outer.min() == pytest.approx(float(wanted.quantile(0.05, 1).min()))
    assert outer.max() == pytest.approx(float(wanted.quantile(0.95, 1).max()))
    assert inner.max() == pytest.approx(float(wanted.quantile(0.75, 1).max()))


def test_maps_are_compared() -> None:
    stored, states = _stored()
    figure = explain.energy_curves(stored, states[:3], num_updates=2, beta=6.0, association=MAPS)
    assert [line.get_label() for line in figure.axes[0].lines] == MAPS
    for line, name in zip(_lines(figure), MAPS, strict=True):
        np.testing.assert_allclose(line, _energies(stored, states[:3], 2, beta=6.0, association=name).quantile(0.5, 1))
    assert figure.axes[0].get_title(loc="left") == "3 maps, β = 6"


def test_a_memory_brings_its_own_map_and_beta() -> None:
    stored, states = _stored()
    memory = HopfieldMemory(8, beta="auto", association="entmax", alpha=1.3, share=0.9)
    memory.add(stored)
    how = {"beta": memory.inverse_temperature(), "association": "entmax", "alpha": 1.3}
    figure = explain.energy_curves(memory, states[:2], num_updates=2)
    for line, fall in zip(_lines(figure), _energies(stored, states[:2], 2, **how).T, strict=True):
        np.testing.assert_allclose(line, fall)
    (line,) = _lines(explain.energy_curves(memory, states[:1], num_updates=2, association="softmax", beta=3.0))
    np.testing.assert_allclose(line, _energies(stored, states[:1], 2, beta=3.0)[:, 0])


def test_what_has_no_energy_is_refused() -> None:
    stored, states = _stored()
    cosine = HopfieldMemory(8, similarity="cosine", post="l2")
    cosine.add(stored)
    with pytest.raises(ValueError, match="the memory has similarity 'cosine', post"):
        explain.energy_curves(cosine, states)
    with pytest.raises(ValueError, match="the memory is empty"):
        explain.energy_curves(HopfieldMemory(8), states)
    with pytest.raises(ValueError, match="association 'identity' has no energy"):
        explain.energy_curves(stored, states, association="identity")
    with pytest.raises(ValueError, match=r"states must be \(n, dim\), one at least, got \(0, 8\)"):
        explain.energy_curves(stored, states[:0])
    with pytest.raises(ValueError, match="num_updates must be an integer of at least 1, got 0"):
        explain.energy_curves(stored, states, num_updates=0)
    with pytest.raises(ValueError, match="state_names must be 20 names, got 1"):
        explain.energy_curves(stored, states, state_names=["a"])
