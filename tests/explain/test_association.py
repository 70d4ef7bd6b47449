"""A map shows the weights of an association: all of them, or the strongest and the sum of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from zoo import explain
from zoo.layers.hopfield import Hopfield, HopfieldPooling
from zoo.layers.hopfield.memory import HopfieldMemory


def _panels(figure: Any) -> list[np.ndarray]:
    """The tables shown, without the colour bar."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def _labels(axes: Any) -> tuple[list[str], list[str]]:
    return [t.get_text() for t in axes.get_yticklabels()], [t.get_text() for t in axes.get_xticklabels()]


def _layer() -> tuple[Hopfield, torch.Tensor]:
    torch.manual_seed(0)
    layer = Hopfield(8, num_heads=2, beta=30.0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(5)
    return layer, torch.randn(3, 6, 8)


def test_a_map_for_each_head() -> None:
    layer, x = _layer()
    found = layer.recall(x)
    panels = _panels(explain.association_map(found, sample=2))
    assert len(panels) == 2
    for panel, wanted in zip(panels, found.association[2], strict=True):
        np.testing.assert_array_equal(panel, wanted.detach())
    figure = explain.association_map(found.association, sample=1, heads=[1], states=[4, 0])
    (panel,) = _panels(figure)
    np.testing.assert_array_equal(panel, found.association[1, 1, [4, 0]].detach())
    assert _labels(figure.axes[0])[0] == ["4", "0"]
    assert figure.axes[0].get_title() == "head 1"
    assert {axes.images[0].get_clim() for axes in figure.axes if axes.images} == {(0, panel.max())}


def test_one_state_has_a_row_for_each_head() -> None:
    torch.manual_seed(0)
    pool, x = HopfieldPooling(8, num_heads=4), torch.randn(2, 5, 8)
    weights = explain.layer_association(pool, x)
    figure = explain.association_map(weights, sample=1)
    (panel,) = _panels(figure)
    np.testing.assert_array_equal(panel, weights[1, :, 0])
    assert _labels(figure.axes[0]) == ([f"head {h}" for h in range(4)], [str(k) for k in range(5)])
    assert figure.axes[0].get_title() == "state 0"
    texts = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in figure.axes[0].texts}
    assert texts[2, 3] == f"{panel[2, 3]:.2f}"


def test_the_strongest_columns_and_what_the_others_sum_to() -> None:
    torch.manual_seed(0)
    weights = 0.5 * torch.rand(2, 3, 50).softmax(-1)
    weights[0, 1, 17], weights[1, 2, 41], weights[1, 0, 3] = 0.5, 0.4, 0.3
    figure = explain.association_map(weights, top=3, stored_names=[f"digit {k}" for k in range(50)])
    for panel, wanted in zip(_panels(figure), weights, strict=True):
        np.testing.assert_array_equal(panel[:, :3], wanted[:, [3, 17, 41]])
        np.testing.assert_allclose(panel.sum(1), wanted.sum(1), rtol=1e-6)
    assert _labels(figure.axes[0])[1] == ["digit 3", "digit 17", "digit 41", "47 others"]
    assert not any(_labels(figure.axes[1])[0])  # the first map has them


def test_of_a_memory_with_names() -> None:
    torch.manual_seed(0)
    memory = HopfieldMemory(4, beta=2.0)
    memory.add(torch.randn(3, 4))
    states = torch.randn(2, 4)
    weights = explain.layer_association(memory, states)
    figure = explain.association_map(weights, state_names=["half", "noisy"], stored_names=["a", "b", "c"], title="who")
    np.testing.assert_array_equal(_panels(figure)[0], memory.association(states))
    assert _labels(figure.axes[0]) == (["half", "noisy"], ["a", "b", "c"])
    assert figure.get_suptitle() == "who"


def test_weights_below_zero_have_a_colour_of_their_own() -> None:
    torch.manual_seed(0)
    memory = HopfieldMemory(4, association="identity")
    memory.add(torch.randn(6, 4))
    weights = memory.association(torch.randn(3, 4))
    assert weights.min() < 0
    (image,) = explain.association_map(weights, top=2).axes[0].images
    strongest = weights.abs().amax(0).topk(2).indices.sort().values
    np.testing.assert_array_equal(image.get_array()[:, :2], weights[:, strongest])
    np.testing.assert_allclose(image.get_array().sum(1), weights.sum(1), rtol=1e-5)
    low, high = image.get_clim()
    assert low == -high == -abs(image.get_array()[:, :2]).max()


def test_many_columns_do_not_write_over_each_other() -> None:
    figure = explain.association_map(torch.rand(8, 30, 200).softmax(-1))
    assert all(panel.shape == (30, 41) for panel in _panels(figure))
    numbers = _labels(figure.axes[0])[1]
    assert numbers[-1] == "160 others"
    assert len(numbers) < 20


def test_what_is_no_association_is_refused() -> None:
    weights = torch.rand(2, 3, 4, 5).softmax(-1)
    with pytest.raises(ValueError, match=r"an association is .* got \(5,\)"):
        explain.association_map(weights[0, 0, 0])
    with pytest.raises(ValueError, match=r"sample must be in 0\.\.1, got 2"):
        explain.association_map(weights, sample=2)
    with pytest.raises(ValueError, match=r"heads must be in 0\.\.2, got 3"):
        explain.association_map(weights, heads=[0, 3])
    with pytest.raises(ValueError, match=r"states must name one at least of 0\.\.3"):
        explain.association_map(weights, states=[])
    with pytest.raises(ValueError, match="stored_names must be 5 names, got 2"):
        explain.association_map(weights, stored_names=["a", "b"])
    with pytest.raises(ValueError, match="state_names must be 4 names, got 1"):
        explain.association_map(weights, state_names=["a"])
    with pytest.raises(ValueError, match="top=0"):
        explain.association_map(weights, top=0)


def test_columns_without_weight_are_left_out_and_the_sum_of_others_does_not_fade_the_rest() -> None:
    weights = torch.zeros(2, 20)
    weights[0, 3], weights[1, 7] = 1.0, 1.0
    (axes, _) = explain.association_map(weights, top=10).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3", "7", "18 others"]
    assert axes.get_ylabel() == "state"
    diffuse = torch.full((2, 200), 1 / 200)
    (image,) = explain.association_map(diffuse, top=12).axes[0].images
    assert image.get_clim() == pytest.approx((0, 1 / 200))
    weights[0, 3] = torch.nan
    with pytest.raises(ValueError, match="must be finite"):
        explain.association_map(weights)
