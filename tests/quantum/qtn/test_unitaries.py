"""Many unitaries of one small circuit at once, held to the circuit itself."""

from __future__ import annotations

import pytest
import torch

from zoo.quantum import Circuit, ansatz, unitary
from zoo.quantum.qtn.unitaries import SmallCircuit


@pytest.mark.parametrize("name", ["qtn14", "qtn_iqp", "qtn9", "iqp", "sim4", "sim15", "strongly_entangling"])
@pytest.mark.parametrize("wires", [1, 2, 4])
def test_rows_of_angles_give_the_unitaries_of_the_circuit(name: str, wires: int) -> None:
    circuit = ansatz(name, wires, 2)
    torch.manual_seed(0)
    weights = torch.rand(3, circuit.n_weights, dtype=torch.float64, requires_grad=True)
    expected, made = unitary(circuit, weights), SmallCircuit(circuit).unitaries(weights)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)
    (one,) = torch.autograd.grad(expected.real.sum() + expected.imag.square().sum(), weights)
    (other,) = torch.autograd.grad(made.real.sum() + made.imag.square().sum(), weights)
    torch.testing.assert_close(other, one, rtol=0, atol=1e-11)


def test_gates_with_constants_several_angles_and_wires_apart() -> None:
    circuit = Circuit(3).h(1).rot("a", 0.3, "b", 2).cswap(2, 0, 1).rzz("a", 2, 0).unitary(torch.eye(4).flip(0), [1, 2])
    weights = torch.tensor([[0.1, 0.2], [0.3, -0.4]], dtype=torch.float64)
    torch.testing.assert_close(SmallCircuit(circuit).unitaries(weights), unitary(circuit, weights), rtol=0, atol=1e-12)


def test_gates_of_whole_angles_and_second_derivatives() -> None:
    circuit = (
        Circuit(2).u3("a", "b", "c", 0).phase("d", 1).crot("a", "c", 0.2, [0, 1]).cphase("b", [1, 0]).u2("d", "a", 1)
    )
    torch.manual_seed(0)
    weights = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    made = SmallCircuit(circuit)
    torch.testing.assert_close(made.unitaries(weights), unitary(circuit, weights), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(made.unitaries, weights, fast_mode=True)
    assert torch.autograd.gradgradcheck(made.unitaries, weights, fast_mode=True)
