"""Circuits that represent a label exactly, and the network as a circuit."""

import itertools
import math

import pytest
import torch

from tests.quantum.goldens import golden
from zoo import quantum as zq


def answers(circuit, bits):
    """<Y_readout> of the circuit for rows of bits."""
    n = bits.shape[1]
    index = (bits.long() << torch.arange(n - 1, -1, -1)).sum(1)
    state = torch.eye(2 ** (n + 1), dtype=torch.complex128)[2 * index]
    return zq.expval(circuit, f"Y{n}", state=state, dtype=torch.float64)


def every(n):
    return torch.cartesian_prod(*[torch.arange(2)] * n).reshape(-1, n)


def test_golden_label_circuits():
    case = golden("label_functions_n5")
    bits = case["in.bits"].long()
    circuits = {
        "parity": zq.label_circuit("parity", case["in.parity_subset"].long()),
        "majority": zq.label_circuit("majority", case["in.majority_subset"].long(), beta=case.kwargs["beta"]),
        "boolean": zq.label_circuit("boolean", truth_table=case["in.boolean_labels"].long()),
    }
    for name, circuit in circuits.items():
        case.check(answers(circuit, bits), case[f"out.{name}"], name)


def test_every_boolean_function_of_three_bits():
    bits = every(3)
    for table in itertools.product([-1, 1], repeat=8):
        circuit = zq.label_circuit("boolean", truth_table=table)
        torch.testing.assert_close(answers(circuit, bits), torch.tensor(table, dtype=torch.float64))


def test_six_bits():
    torch.manual_seed(0)
    bits = every(6)
    z = 1 - 2 * bits
    subset = torch.tensor([1, 0, 1, 1, 0, 1])
    parity = z.masked_fill(subset == 0, 1).prod(1)
    torch.testing.assert_close(answers(zq.label_circuit("parity", subset), bits), parity.double())
    total = (z * subset).sum(1)
    y = answers(zq.label_circuit("majority", subset), bits)
    torch.testing.assert_close(y, torch.sin(0.9 * math.pi / 6 * total.double()))
    assert torch.equal(y.sign()[total != 0], total.sign()[total != 0].double())
    table = torch.randint(0, 2, (64,))
    found = answers(zq.label_circuit("boolean", truth_table=table), bits)
    torch.testing.assert_close(found, 2 * table.double() - 1)


def test_gates_of_the_label_circuits():
    parity = zq.label_circuit("parity", [1, 0, 1])
    assert parity.summary()["gates"] == {"rx": 3, "pauli_rot": 2}
    assert all(len(op.wires) <= 2 for op in parity)
    # Of the labels of a parity one Walsh coefficient is left.
    table = [(-1) ** (a + c) for a, b, c in itertools.product((0, 1), repeat=3)]
    assert [op.word.lower() for op in zq.label_circuit("boolean", truth_table=table)] == ["zzx"]


def test_as_a_program_it_has_two_cx_a_rotation_and_answers_the_same():
    qnn = zq.QNN(4, init=(-1.0, 1.0), dtype=torch.float64)
    bits = torch.tensor([1, 0, 0, 1])
    program = zq.to_openqasm3(qnn, bits)
    assert program.count("cx ") == 2 * qnn.theta.numel()
    assert [line for line in program.splitlines() if line.startswith("x ")] == ["x q[0];", "x q[3];"]
    again = zq.from_openqasm3(zq.to_openqasm3(qnn, bits, measure=False))
    torch.testing.assert_close(zq.expval(again, "Y4", dtype=torch.float64), qnn(bits[None])[0])


def test_the_paper_s_network_has_96_rotations_of_two_qubits():
    circuit = zq.QNN(16).circuit()
    summary = circuit.summary()
    assert (summary["n_qubits"], summary["n_weights"], summary["gates"]) == (17, 96, {"pauli_rot": 96})
    assert {len(op.wires) for op in circuit} == {2}
    assert summary["depth"] == 96  # they share the readout
    assert summary["standard"]["gates"]["cx"] == 192


@pytest.mark.parametrize("start", ["0", "1", "+", "-", "+i", "-i"])
def test_a_circuit_that_prepares_its_input_answers_as_the_network(start):
    qnn = zq.QNN(3, ["ZY", "XX", "YZ", "ZX"], readout_init=start, observable="Y", init=(-1.0, 1.0), dtype=torch.float64)
    for bits in every(3):
        value = zq.expval(qnn.circuit(bits), "Y3", qnn.theta.flatten())
        torch.testing.assert_close(value, qnn(bits[None])[0])
