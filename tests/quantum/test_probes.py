"""Probes: closed forms of Bloch vectors, entanglement, expressibility, and the barren plateau."""

from math import log, pi

import pytest
import torch

from zoo.quantum.ansatze import ansatz
from zoo.quantum.circuit import Circuit, feature, weight
from zoo.quantum.probes import bloch_vectors, entanglement, expressibility, gradient_variance, landscape, meyer_wallach


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bell() -> torch.Tensor:
    return Circuit(2).h(0).cx(0, 1).state(dtype=torch.float64)


def test_bloch_vectors_of_product_states():
    a, b = 0.7, -1.9
    state = Circuit(3).rx(a, 0).ry(b, 1).x(2).state(dtype=torch.float64)
    a, b = torch.tensor(a), torch.tensor(b)
    zero = torch.tensor(0.0)
    wanted = torch.stack([zero, -a.sin(), a.cos(), b.sin(), zero, b.cos(), zero, zero, zero - 1]).view(3, 3).double()
    torch.testing.assert_close(bloch_vectors(state), wanted, rtol=0, atol=1e-6)


def test_entangled_wires_have_short_vectors():
    torch.testing.assert_close(bloch_vectors(bell()), torch.zeros(2, 3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_meyer_wallach():
    assert float(meyer_wallach(bell())) == pytest.approx(1)
    product = Circuit(3).rx(0.3, 0).ry(0.2, 2).state(dtype=torch.float64)
    assert float(meyer_wallach(product)) == pytest.approx(0, abs=1e-12)
    # cos t |00> + sin t |11>: both wires have the vector (0, 0, cos 2t).
    t = 0.4
    state = Circuit(2).ry(2 * t, 0).cx(0, 1).state(dtype=torch.float64)
    assert float(meyer_wallach(state[None, None])) == pytest.approx(float(torch.tensor(2 * t).sin() ** 2), abs=1e-6)
    # A Bell pair beside a wire of its own: the mean over the wires.
    pair = Circuit(3).h(0).cx(0, 1).state(dtype=torch.float64)
    assert float(meyer_wallach(pair)) == pytest.approx(2 / 3)


def test_entangling_capability():
    assert float(entanglement(ansatz("hardware_efficient", 1), samples=5, generator=seeded()).max()) < 1e-12
    # RY, then a CNOT: sin^2 of an even angle.
    found = entanglement(Circuit(2).ry("a", 0).cx(0, 1), samples=4000, generator=seeded())
    assert float(found.mean()) == pytest.approx(0.5, abs=0.02)
    deep = entanglement(ansatz("strongly_entangling", 4, 4), samples=400, generator=seeded())
    # Of Haar-random states (N - 2) / (N + 1), N = 2**n.
    assert float(deep.mean()) == pytest.approx(14 / 17, abs=0.02)


def test_expressibility_of_one_wire_as_in_the_paper():
    """Sim et al. (2019): H and RZ 0.22; H, RZ and RX 0.02; any rotation 0.007."""
    h = Circuit(1).h(0)
    idle = h.copy().rz("a", 0).rz(-1.0, 0)
    assert expressibility(idle, pairs=5000, generator=seeded()).divergence == pytest.approx(0.22, abs=0.03)
    two = h.copy().rz("a", 0).rx("b", 0)
    assert expressibility(two, pairs=5000, generator=seeded()).divergence == pytest.approx(0.02, abs=0.012)
    # The bins alone add some 75 / (2 * 5000).
    haar = Circuit(1).rz("a", 0).unitary([[2**-0.5, 2**-0.5], [2**-0.5, -(2**-0.5)]], 0).rz("b", 0).rx("c", 0)
    assert expressibility(haar, pairs=5000, generator=seeded()).divergence < 0.03


def test_a_circuit_that_stays_where_it_is_is_farthest_from_haar():
    still = expressibility(Circuit(1).rz("a", 0), pairs=100, generator=seeded())
    # All fidelities are 1: -log of the share of the last of 75 bins.
    assert still.divergence == pytest.approx(log(75), rel=1e-6)
    assert float(still.shares.sum()) == pytest.approx(1)
    assert float(still.haar.sum()) == pytest.approx(1)


def test_angles_in_full_turns_are_drawn_over_one_turn():
    radians = Circuit(1).h(0).rz("a", 0)
    turns = Circuit(1).h(0).rz(2 * pi * weight("a"), 0)
    one, other = (expressibility(c, pairs=300, generator=seeded()).fidelities for c in (radians, turns))
    torch.testing.assert_close(one, other)


def test_the_variance_of_one_rotation():
    """<Z0 Z1> of RY(a) RY(b) is cos a cos b: both derivatives have the variance 1/4, with features too."""
    found = gradient_variance(
        lambda n: Circuit(n).ry("a", 0).ry(feature(0), 1), [3, 2], samples=20_000, generator=seeded()
    )
    assert found.variances == pytest.approx((0.25, 0.25), rel=0.03)
    assert found.factor == pytest.approx(1, abs=0.05)
    assert not found.warning


def test_a_product_of_cosines_is_a_barren_plateau():
    """<Z on all wires> of an RY a wire: the variance is 2**-n."""

    def product(n: int) -> Circuit:
        circuit = Circuit(n)
        for wire in range(n):
            circuit.ry(f"w{wire}", wire)
        return circuit

    variances = []
    for n in (2, 4, 6):
        observable = " ".join(f"Z{wire}" for wire in range(n))
        variances += gradient_variance(
            product, [n, n + 1], observable=observable, samples=8000, generator=seeded()
        ).variances[:1]
    assert variances == pytest.approx([2.0**-n for n in (2, 4, 6)], rel=0.15)


def test_deep_random_circuits_warn_and_a_start_near_zero_does_not():
    wide = gradient_variance("strongly_entangling", [2, 4, 6], n_layers=6, samples=60, generator=seeded())
    assert wide.factor < 0.6
    assert wide.at(4) == pytest.approx(wide.variances[1], rel=1)
    assert "barren plateau" in wide.warning
    assert f"{wide.factor:.2f}" in wide.warning
    # Where X of a wire is measured, CZ and small angles keep its derivative by that wire's RY near 1.
    options = {"n_layers": 6, "observable": "X0", "samples": 60}
    wide = gradient_variance("hardware_efficient", [2, 4, 6], **options, generator=seeded())
    near = gradient_variance(
        "hardware_efficient", [2, 4, 6], **options, start=lambda u: 0.05 * (u - 0.5), generator=seeded()
    )
    assert wide.warning
    assert near.variances == pytest.approx((1, 1, 1), rel=0.02)
    assert not near.warning


def test_landscape_of_two_cosines():
    circuit = Circuit(2).ry("a", 0).ry("b", 1).ry("c", 0)
    weights = torch.tensor([0.3, -0.2, 0.1]).double()
    found = landscape(lambda w: circuit.expval("Z0 Z1", w), weights, (0, 1), steps=5)
    at_once = landscape(lambda w: circuit.expval("Z0 Z1", w), weights, (0, 1), steps=5, batched=True)
    torch.testing.assert_close(at_once.values, found.values, rtol=0, atol=1e-12)
    a, b = 0.4 + found.first, -0.2 + found.second
    torch.testing.assert_close(found.values, a.cos()[:, None] * b.cos(), rtol=0, atol=1e-7)
    assert found.first.tolist() == pytest.approx([-pi, -pi / 2, 0, pi / 2, pi])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bloch_vectors(torch.zeros(3, dtype=torch.complex64)), r"2\*\*n amplitudes.*\(3,\)"),
        (lambda: bloch_vectors(torch.ones(8).cfloat()), r"a state have norm 1, got 2\.82843"),
        (lambda: meyer_wallach(torch.full((8,), torch.nan).cfloat()), "amplitudes must be finite"),
        (lambda: expressibility(Circuit(1).h(0)), "no weights to draw"),
        (lambda: expressibility(Circuit(1).rx("a", 0), pairs=0), "pairs must be at least 1, got 0"),
        (lambda: entanglement(Circuit(1).rx("a", 0), samples=0), "samples must be at least 1, got 0"),
        (lambda: gradient_variance("sim14", [4]), "at least two different numbers"),
        (lambda: gradient_variance("sim14", [2, 2]), r"different numbers of qubits, got \[2, 2\]"),
        (lambda: gradient_variance("sim41", [2, 3]), "unknown ansatz 'sim41'; did you mean"),
        (lambda: gradient_variance("sim14", [2, 3], samples=1), "samples must be at least 2"),
        (lambda: gradient_variance("sim14", [2, 3], observable="z"), "observable must be one"),
        (lambda: gradient_variance(lambda n: Circuit(n).rz("a", 0), [2, 3]), "does not depend on the weights"),
        (lambda: landscape(torch.sum, torch.zeros(2), (0, 2)), r"two different weights of 0\.\.1, got \(0, 2\)"),
        (lambda: landscape(torch.sum, torch.zeros(2), steps=1), "steps must be at least 2"),
        (lambda: landscape(torch.cos, torch.zeros(2), steps=2), r"one number, got the shape \(2,\)"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
