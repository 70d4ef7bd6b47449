"""Pictures of circuits show what the probes give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo import explain
from zoo import quantum as zq


def test_a_sphere_a_wire_with_the_length_of_its_arrow(tmp_path):
    state = zq.Circuit(4).ry(0.7, 0).h(2).cx(2, 3).state()
    path = tmp_path / "bloch.png"
    figure = explain.bloch_spheres(state, names=["a", "b", "c", "d"], title="four", path=path)
    assert [axes.get_title() for axes in figure.axes] == ["a: 1.000", "b: 1.000", "c: 0.000", "d: 0.000"]
    assert path.stat().st_size > 1000


def test_arrows_point_where_the_wire_is():
    state = zq.Circuit(3).x(1).state()
    up, down, _ = explain.bloch_spheres(state).axes
    tips = [axes.lines[-1].get_xydata()[0] for axes in (up, down)]
    np.testing.assert_allclose(tips[0], -tips[1], atol=1e-6)
    assert tips[0][1] > 0.9
    assert abs(tips[0][0]) < 1e-6


def test_the_state_of_a_layer_for_one_input():
    layer = zq.QuantumLayer(2, n_layers=2, init="uniform")
    x = torch.randn(2)
    figure = explain.bloch_spheres(layer, x, wires=[1])
    length = float(zq.bloch_vectors(layer.state(x).detach())[1].norm())
    assert [axes.get_title() for axes in figure.axes] == [f"wire 1: {length:.3f}"]


def test_landscape():
    circuit = zq.Circuit(1).ry("a", 0).rx("b", 0)
    found = zq.landscape(lambda w: circuit.expval("Z0", w), torch.tensor([0.0, 0.0]), steps=9, batched=True)
    axes = explain.landscape_map(found, label="Z").axes[0]
    cross, dot = (line.get_xydata()[0] for line in axes.lines)
    assert cross.tolist() == [0, 0]
    # cos a cos b is lowest where one of them is turned by pi.
    assert sorted(np.abs(dot).tolist()) == pytest.approx([0, np.pi])
    assert axes.get_title(loc="left") == "lowest -1"
    assert axes.get_xlabel() == "added to weight 0"


def test_expressibility():
    found = zq.expressibility(zq.Circuit(1).h(0).rz("a", 0), pairs=200, bins=10)
    axes = explain.expressibility_chart(found).axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(found.shares.tolist())
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.1] * 10)
    assert axes.get_title(loc="left") == f"divergence {found.divergence:.3g} nats, 200 pairs"


def test_plateau():
    found = zq.GradientVariance((2, 4, 6), (1e-1, 1e-2, 1e-3), 10**-0.5, "barren plateau: …")
    axes = explain.plateau_chart(found).axes[0]
    points, line = axes.lines
    np.testing.assert_allclose(points.get_ydata(), found.variances)
    np.testing.assert_allclose(line.get_ydata(), [1e-1, 1e-3])
    assert axes.get_title(loc="left") == "barren plateau"
    assert axes.get_yscale() == "log"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: explain.bloch_spheres(torch.zeros(2, 4, dtype=torch.complex64)), r"one state.*\(2, 4\)"),
        (lambda: explain.bloch_spheres(zq.QuantumLayer(2)), "give x"),
        (lambda: explain.bloch_spheres(zq.Circuit(1).state(), torch.zeros(1)), "there is a state already"),
        (lambda: explain.bloch_spheres(zq.Circuit(2).state(), wires=[2]), r"wires must be in 0\.\.1, got 2"),
        (lambda: explain.bloch_spheres(zq.Circuit(2).state(), names=["a"]), "2 names, got 1"),
        (lambda: explain.bloch_spheres(zq.Circuit(2).state(), path="a.jpg"), r"must end in \.png"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
