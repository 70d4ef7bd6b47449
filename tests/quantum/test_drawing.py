"""Circuits as text and as figures."""

from __future__ import annotations

import pytest

from tests.quantum.samples import random_circuit, strongly_entangling
from zoo.quantum.circuit import Circuit, feature

SMALL = """\
q0: ───H────●───────RZ───────●─────
            │       │        │
q1: ─RX(a)──┼───────┼────────●──×──
            │       │        │  │
q2: ────────⊕───────┼────────⊕──┼──
                    │           │
q3: ───S†──────RX(0.5·x0-1)─────×──"""


def test_text():
    circuit = Circuit(4).h(0).rx("a", 1).cx(0, 2).sdg(3)
    circuit.pauli_rot("zx", feature(0) / 2 - 1, [0, 3]).ccx(0, 1, 2).swap(3, 1)
    assert circuit.draw() == SMALL


def test_every_gate_is_told():
    circuit = random_circuit(4, 200, 0).post_select(1, 0).channel("bit_flip", 0.1, [0, 2])
    lines = circuit.draw(width=90).splitlines()
    assert max(map(len, lines)) <= 90
    assert all(line[:4] in {"q0: ", "q1: ", "q2: ", "q3: ", "    ", ""} for line in lines)
    text = "\n".join(lines)
    for mark in ("●", "⊕", "×", "SX†", "ECR.1", "|0⟩⟨0|", "~bit_flip(0.1)"):
        assert mark in text


def test_nothing_crosses():
    """A gate between two wires of another stands in a column of its own."""
    text = Circuit(3).cx(0, 2).h(1).draw()
    assert text.splitlines()[2] == "q1: ─┼──H──"


def test_an_empty_circuit_has_its_wires():
    assert Circuit(2).draw().splitlines() == ["q0: ─", "", "q1: ─"]


def test_figure():
    pytest.importorskip("matplotlib")
    circuit = strongly_entangling(3, 4)
    figure = circuit.draw("mpl", columns=12)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("q0") == 2
    assert {"RY\nx0", "ROT\nw0\nw1\nw2"} <= set(texts)
    assert len(figure.axes[0].patches) == 3 + 12
    figure.canvas.draw()
    with pytest.raises(ValueError, match="columns must be an integer of at least 1, got 0"):
        circuit.draw("mpl", columns=0)
    with pytest.raises(ValueError, match="kind is one of 'text', 'mpl', got 'svg'"):
        circuit.draw("svg")
