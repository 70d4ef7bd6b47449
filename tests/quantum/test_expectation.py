"""Expectations, variances, marginals and density matrices against matrices on all wires."""

from __future__ import annotations

import pytest
import torch

from tests.quantum.dense import observable_matrix
from zoo.quantum import expectation
from zoo.quantum.circuit import Circuit
from zoo.quantum.expectation import apply_observable, expectations, marginal, plan, probabilities, z_words
from zoo.quantum.observables import Hermitian, parse_observables

N = 5
WORDS = ["0.5 Z0 Z2 - 1.25 X1 + 2.0 Y0 X1 Z2", "Y4", "1", "3", "-x0y1 + 2*z3", "Z0 Z1 Z2 Z3 Z4", "0.3 Y0 Y1 - 0.2"]


def _states(batch: int = 3, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    state = torch.randn(batch, 2**N, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return state / torch.linalg.vector_norm(state, dim=-1, keepdim=True)


def _hermitian(wires: tuple[int, ...]) -> Hermitian:
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(2 ** len(wires), 2 ** len(wires), dtype=torch.complex128, generator=generator)
    return Hermitian(matrix + matrix.mH, wires)


OBSERVABLES = (
    *parse_observables(WORDS, N),
    *parse_observables("z", N),
    *parse_observables(["|01> 3, 1", "|01100>"], N),
    _hermitian((3, 1)),
)


def _exact(state: torch.Tensor, power: int = 1) -> torch.Tensor:
    matrices = [torch.linalg.matrix_power(observable_matrix(o, N), power) for o in OBSERVABLES]
    return torch.stack([torch.einsum("bi,ij,bj->b", state.conj(), m, state).real for m in matrices], dim=-1)


@pytest.mark.parametrize("most", [2**18, 0], ids=["signs", "halves"])
def test_expectations(most, monkeypatch):
    monkeypatch.setattr(expectation, "_MOST_SIGNS", most)
    state = _states()
    torch.testing.assert_close(expectations(state, OBSERVABLES, N), _exact(state))
    assert expectations(state[:0], OBSERVABLES, N).shape == (0, len(OBSERVABLES))


def test_real_states():
    state = _states().real.clone()
    torch.testing.assert_close(expectations(state, OBSERVABLES, N), _exact(state.cdouble()))
    torch.testing.assert_close(expectation.second_moments(state, OBSERVABLES, N), _exact(state.cdouble(), 2))


@pytest.mark.parametrize("most", [2**18, 0], ids=["signs", "halves"])
def test_gradient(most, monkeypatch):
    monkeypatch.setattr(expectation, "_MOST_SIGNS", most)
    state = torch.view_as_real(_states(2)).clone().requires_grad_()

    def run(state):
        return expectations(torch.view_as_complex(state), OBSERVABLES, N)

    assert torch.autograd.gradcheck(run, state)


def test_observables_applied():
    state = _states()
    for observable in OBSERVABLES:
        expected = state @ observable_matrix(observable, N).mT
        torch.testing.assert_close(apply_observable(state, observable, N), expected)


def test_second_moments():
    state = _states()
    torch.testing.assert_close(expectation.second_moments(state, OBSERVABLES, N), _exact(state, 2))


def test_words_that_agree_share_a_measurement():
    found = plan(parse_observables(["Z0", "X1 Z2", "Z0 X1", "Y1", "X0", "Y1 X0"], 3))
    assert [len(group.words) for group in found.groups] == [3, 3]


def test_wide_words_need_no_matrix_of_signs():
    chances = torch.zeros(1, 2**16)
    chances[0, 0b1010_0000_0000_0001] = 1
    words = ((0,), (1,), (0, 2), (0, 15), tuple(range(16)), ())
    assert z_words(chances, words, 16).tolist() == [[-1, 1, 1, 1, -1, 1]]


@pytest.mark.parametrize("wires", [(3, 1), (0, 1, 2, 3, 4), (4,)])
def test_marginals_and_density_matrices(wires):
    state = _states()
    matrix = expectation.reduced_density(state, wires, N)
    chances = marginal(probabilities(state), wires, N)
    torch.testing.assert_close(matrix.diagonal(dim1=-2, dim2=-1).real, chances)
    if len(wires) == 2:
        mean = torch.einsum("bij,ji->b", matrix, _hermitian(wires).matrix).real
        torch.testing.assert_close(mean, _exact(state)[:, -1])


def test_what_is_asked_of_a_circuit():
    circuit = Circuit(2).h(0).cx(0, 1).ry(0.3, 1)
    state = circuit.state(dtype=torch.float64)
    assert state.shape == (4,)
    torch.testing.assert_close(circuit.probs(dtype=torch.float64), state.abs().square())
    torch.testing.assert_close(circuit.probs(wires=[1], dtype=torch.float64), torch.full((2,), 0.5).double())
    torch.testing.assert_close(circuit.var("Z1", dtype=torch.float64), torch.tensor(1.0).double())
    torch.testing.assert_close(circuit.density_matrix(wires=[0]), 0.5 * torch.eye(2) + 0j)
    torch.testing.assert_close(circuit.expval("|00>"), (state[0].abs() ** 2).float())
    assert circuit.expval(["Z0 Z1"]).shape == (1,)
