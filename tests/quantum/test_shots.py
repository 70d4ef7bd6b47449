"""Shots: frequencies, counts, estimates within their variance, words that share runs, what cannot be asked."""

import pytest
import torch
from torch import Tensor

from tests.quantum.samples import random_circuit
from zoo.quantum.circuit import Circuit
from zoo.quantum.expectation import expectations, in_basis, measured, probabilities
from zoo.quantum.noise import ReadoutError
from zoo.quantum.observables import Hermitian, parse_observables
from zoo.quantum.reference import reference_state
from zoo.quantum.shots import Reading, as_read, check_shots, counts, frequencies, index_bits, sample_indices

SHOTS = 1000


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state(n: int = 4, batch: int = 3) -> Tensor:
    circuit = random_circuit(n, 20, seed=2)
    generator = seeded(0)
    w = torch.randn(4, dtype=torch.float64, generator=generator)
    return reference_state(circuit, w, torch.randn(batch, 3, dtype=torch.float64, generator=generator))


def estimate(psi: Tensor, observables, n: int, **options) -> Tensor:
    return measured(
        as_read(lambda basis: probabilities(in_basis(psi, basis, n)), n, Reading(**options)), observables, n
    )


def test_estimates_of_words_within_4_sigma_of_20_seeds():
    """The variance of a word is (1 - <P>^2) / N."""
    psi = state()
    observables = parse_observables(["Z0", "X1 Y2", "Z0 Z1 Z3", "Y0", "X3 Z1"], 4)
    exact = expectations(psi, observables, 4)
    found = torch.stack([estimate(psi, observables, 4, shots=SHOTS, generator=seeded(s)) for s in range(20)])
    sigma = ((1 - exact.square()) / SHOTS).sqrt()
    assert ((found - exact).abs() <= 4 * sigma + 1e-12).all()
    assert ((found.mean(0) - exact).abs() <= 4 * sigma / 20**0.5 + 1e-12).all()
    # Nor is the spread smaller than it should be: chi squared of 20 seeds, 5 words, 3 samples.
    ratio = ((found - exact).square() / sigma.square().clamp(min=1e-12))[..., sigma.min(0).values > 1e-3].mean()
    assert 0.7 < ratio < 1.3


def test_words_that_agree_on_every_wire_share_their_runs():
    asked = []

    def chances_in(basis: dict[int, str]) -> Tensor:
        asked.append(dict(basis))
        return probabilities(in_basis(psi, basis, 4))

    psi = state()
    observables = parse_observables(["Z0", "Z0 Z1", "X2 + 0.5 Z1 X2", "X0", "Y1 X0", "2 X0 - Z3"], 4)
    found = measured(as_read(chances_in, 4, Reading(SHOTS, generator=seeded(0))), observables, 4)
    assert asked == [{0: "z", 1: "z", 2: "x", 3: "z"}, {0: "x", 1: "y"}]
    # The last one is 2 X0 - Z3 of the very runs of X0 and Z3.
    assert (found[:, 5] - 2 * found[:, 3]).abs().max() <= 1


def test_outcomes_without_probability_never_come():
    chances = torch.tensor([[0, 0.5, 0, 0.5, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]], dtype=torch.float32)
    drawn = sample_indices(chances, 5000, seeded(0))
    assert [sorted(set(row.tolist())) for row in drawn] == [[1, 3], [4], [0]]


def test_more_outcomes_than_multinomial_takes():
    chances = torch.zeros(2**24 + 2)
    chances[[5, -1]] = torch.tensor([0.25, 0.75])
    drawn = sample_indices(chances, 400, seeded(0))
    assert set(drawn.tolist()) == {5, 2**24 + 1}
    assert abs((drawn == 5).double().mean() - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5


def test_frequencies_sum_to_one_and_follow_the_seed():
    chances = probabilities(state())
    one, same, other = (frequencies(chances, SHOTS, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    torch.testing.assert_close(one.sum(-1), torch.ones(3, dtype=torch.float64))
    assert ((one - chances).abs() <= 5 * (chances * (1 - chances) / SHOTS).sqrt() + 1e-12).all()


def test_bits_and_counts():
    bits = index_bits(torch.tensor([[5, 0, 5], [3, 3, 3]]), 3)
    assert bits.tolist() == [[[1, 0, 1], [0, 0, 0], [1, 0, 1]], [[0, 1, 1]] * 3]
    assert counts(bits) == [{"000": 1, "101": 2}, {"011": 3}]
    assert counts(bits[0]) == {"000": 1, "101": 2}


def test_counts_are_no_tensors_for_vmap():
    with pytest.raises(ValueError, match="counts are no tensors"):
        torch.func.vmap(lambda w: Circuit(1).rx("a", 0).counts(w, shots=3), randomness="different")(torch.rand(4, 1))


def test_more_qubits_than_an_integer_has_bits():
    circuit = Circuit(70).x(0).x(69)
    assert circuit.sample(shots=2)[1].nonzero().flatten().tolist() == [0, 69]
    assert circuit.counts(shots=3) == {"1" + "0" * 68 + "1": 3}
    assert circuit.counts(shots=3, wires=[69, 1]) == {"10": 3}


def test_samples_of_trajectories_in_chunks(monkeypatch):
    """The same probabilities, however few trajectories are held at once."""
    monkeypatch.setattr("zoo.quantum.noise.trajectories._AT_ONCE", 4 * 300)
    circuit = Circuit(2).x(0).cx(0, 1).channel("bit_flip", 0.3, 1)
    bits = circuit.sample(shots=SHOTS, method="trajectories", generator=seeded(0))
    assert bits.shape == (SHOTS, 2)
    assert abs(bits[:, 1].double().mean() - 0.7) < 4 * (0.21 / SHOTS) ** 0.5


def test_readout_errors_scale_words_by_their_wires():
    """A bit flipped with p turns Z into (1 - 2 p) Z, in every basis."""
    psi = state()
    observables = parse_observables(["Z0", "X1 Y2", "Z0 Z1 Z3"], 4)
    exact = expectations(psi, observables, 4)
    factors = torch.tensor([0.8, 0.64, 0.512], dtype=torch.float64)
    read = estimate(psi, observables, 4, readout=ReadoutError(0.1))
    torch.testing.assert_close(read, exact * factors)
    found = estimate(psi, observables, 4, readout=ReadoutError(0.1), shots=SHOTS, generator=seeded(0))
    assert ((found - read).abs() <= 4 / SHOTS**0.5).all()


def test_projectors_and_constants():
    psi = state()
    observables = parse_observables(["|01> 2, 0", "3 - Z1"], 4)
    found = estimate(psi, observables, 4, shots=SHOTS, generator=seeded(0))
    assert ((found - expectations(psi, observables, 4)).abs() <= 4 / SHOTS**0.5).all()


def test_empty_batch_and_no_batch():
    assert sample_indices(torch.zeros(0, 4), 7).shape == (0, 7)
    assert frequencies(torch.tensor([0.0, 1.0]), 10).tolist() == pytest.approx([0, 1])


@pytest.mark.parametrize("shots", [0, -5, 2.5, True, "100"])
def test_shots_are_positive_integers(shots):
    with pytest.raises(ValueError, match=r"shots must be an integer of at least 1, got"):
        check_shots(shots)


@pytest.mark.parametrize("method", ["adjoint", "backprop"])
def test_shots_have_no_amplitudes_to_differentiate(method):
    with pytest.raises(ValueError, match=rf"diff_method='{method}' .*shots=100 use one of 'parameter_shift'"):
        check_shots(100, method)
    check_shots(100, "parameter_shift")


def test_a_matrix_is_not_read_wire_by_wire():
    with pytest.raises(ValueError, match="write it as a sum of Pauli words"):
        estimate(state(), [Hermitian(torch.eye(2), [0])], 4, shots=10)
