"""Every bad input is refused with what was given and what is allowed."""

import pytest

from tests.layers.answers import answers

_PREPARATION = """
from zoo import quantum as zq
q = zq.QNN(3)
bits = torch.zeros(2, 3)
state = torch.eye(8, dtype=torch.complex64)
"""
#: expression -> parts of the message.
CASES = {
    "zq.QNN(0)": ["ValueError", "n_data must be an int ≥ 1, got 0"],
    "zq.QNN(2.0)": ["ValueError", "n_data", "2.0"],
    "zq.QNN(3, [])": ["ValueError", "one layer at least"],
    "zq.QNN(3, ['ZX', 'XI'])": ["ValueError", "letters X, Y and Z", "'XI'"],
    "zq.QNN(3, ['ZXX'])": ["ValueError", "'ZXX'"],
    "zq.QNN(3, readout_init='|0>')": ["ValueError", "readout_init", "'+i'", "'|0>'"],
    "zq.QNN(3, observable='W')": ["ValueError", "observable", "'W'"],
    "zq.QNN(3, method='branch')": ["ValueError", "did you mean 'branches'"],
    "zq.QNN(3, loss='hinges')": ["ValueError", "did you mean 'hinge'"],
    "zq.QNN(3, ['XX', 'ZZ'])": ["ValueError", "same prediction for every input", "readout_init='-'"],
    "zq.QNN(3, ['ZZ'])": ["ValueError", "same prediction for every input"],
    "q(torch.zeros(2, 4))": ["ValueError", "expected bits (batch, 3), got (2, 4)"],
    "q(torch.zeros(3))": ["ValueError", "expected bits (batch, 3), got (3,)"],
    "q(bits + 0.5)": ["ValueError", "bits must be 0 and 1, got 0.5 at sample 0, bit 0", "threshold"],
    "q(bits.index_fill(1, torch.tensor([2]), float('nan')))": ["ValueError", "got nan at sample 0, bit 2"],
    "q(-bits - 1)": ["ValueError", "got -1"],
    "q(bits.to(torch.complex64))": ["TypeError", "complex64", "forward_state"],
    "q.forward_state(state[:, :4])": ["ValueError", "expected states (batch, 8), got (8, 4)"],
    "q.forward_state(0 * state)": ["ValueError", "normalised", "at [0] is 0"],
    "q.forward_state(state * float('nan'))": ["ValueError", "normalised", "nan"],
    "q.forward_product(torch.ones(2, 3, 2).to(torch.complex64))": ["ValueError", "normalised", "[0, 0] is 2"],
    "q.loss(torch.zeros(2), torch.tensor([1, 2]))": ["ValueError", "+1 and -1, or 1 and 0", "[1, 2]"],
    "q.loss(torch.zeros(2), torch.tensor([1, 0]), 'avg')": ["ValueError", "reduction", "'mean'", "'avg'"],
    "q.loss(torch.zeros(2), torch.ones(2, 1))": ["ValueError", "expected labels (2,), got (2, 1)"],
    "q.accuracy(torch.zeros(2), torch.ones(1))": ["ValueError", "expected labels (2,), got (1,)"],
    "q.loss(torch.zeros(2), [1, 2])": ["ValueError", "+1 and -1, or 1 and 0", "[1, 2]"],
    "q.loss(torch.zeros(3), [1, 0, -1])": ["ValueError", "+1 and -1, or 1 and 0", "[-1, 0, 1]"],
    "q.loss(torch.zeros(2), [1, 0, 1])": ["ValueError", "expected labels (2,), got (3,)"],
    "q.loss(torch.zeros(2, 1), [1, 0])": ["ValueError", "expected labels (2, 1), got (2,)"],
    "q.loss(torch.zeros(2), ['3', '6'])": ["TypeError", "labels are 2 numbers, +1 and -1, or 1 and 0", "'3'"],
    "q.loss(torch.zeros(2), [1, float('nan')])": ["ValueError", "+1 and -1, or 1 and 0", "nan"],
    "q.accuracy(torch.zeros(2), None)": ["TypeError", "labels are 2 numbers", "got None"],
    "q.accuracy(torch.zeros(2), [[1], [0, 1]])": ["TypeError", "labels are 2 numbers"],
    "q.accuracy(torch.zeros(1), [1j])": ["TypeError", "real numbers, +1 and -1, or 1 and 0", "complex64"],
    "q.superposition_loss(bits, [1, -1, 1])": ["ValueError", "expected labels (2,), got (3,)"],
    "q([[0, 1, 1]])": ["TypeError", "bits must be a tensor (batch, 3), got list", "torch.as_tensor"],
    "q.forward_product([[[1, 0]] * 3])": ["TypeError", "states must be a tensor, got list"],
    "zq.SineModel(3)(bits + 0.5)": ["ValueError", "bits must be 0 and 1, got 0.5"],
    "zq.distinct_strings(bits, torch.ones(3))": ["ValueError", "expected labels (2,), got (3,)"],
    "zq.distinct_strings(bits, torch.tensor([0, 3]))": ["ValueError", "+1 and -1, or 1 and 0", "[0, 3]"],
    "zq.distinct_strings(bits, [0, 3])": ["ValueError", "+1 and -1, or 1 and 0", "[0, 3]"],
    "zq.distinct_strings(bits + 0.5, [0, 1])": ["ValueError", "bits must be 0 and 1, got 0.5"],
    "zq.distinct_strings([[0, 1]], [1])": ["TypeError", "bits must be a tensor", "torch.as_tensor"],
    "zq.distinct_strings(torch.tensor(1), [1])": ["ValueError", "expected bits (batch, 1), got ()"],
    "zq.QNN(3, init=0.3)": ["ValueError", "init must be two limits, low and high", "got 0.3"],
    "zq.QNN(3, init=(1,))": ["ValueError", "two limits, low and high", "got (1,)"],
    "zq.QNN(3, init=(1, -1))": ["ValueError", "two limits, low and high", "got (1, -1)"],
    "zq.QNN(3, init=(float('nan'), 1))": ["ValueError", "two limits, low and high", "got (nan, 1)"],
    "zq.QNN(3, init='01')": ["ValueError", "two limits, low and high", "got '01'"],
    "zq.QNN(3, angle_scale=0)": ["ValueError", "angle_scale must be a finite number other than 0, got 0"],
    "zq.QNN(3, angle_scale=float('nan'))": ["ValueError", "angle_scale must be a finite number", "got nan"],
    "zq.QNN(3, angle_scale='1')": ["ValueError", "angle_scale must be a finite number", "got '1'"],
    "zq.QNN(3, dtype=torch.complex64)": ["TypeError", "angles are real", "torch.float32", "got torch.complex64"],
    "zq.QNN(3, dtype=torch.int64)": ["TypeError", "angles are real", "got torch.int64"],
    "zq.QNN(40, ['ZX', 'XX']).superposition_loss(bits.new_tensor([[0] * 40, [1] * 40]), [1, 0])": ["41 qubits in a b"],
    "zq.QNN(70, ['ZX', 'XX']).superposition_loss(bits.new_tensor([[0] * 70, [1] * 70]), [1, 0])": ["CircuitTooLarge"],
    "q.superposition_loss(bits[:1], torch.tensor([1]))": ["ValueError", "both labels"],
    "q.superposition_loss(bits, torch.tensor([1, -1]))": ["ValueError", "distinct strings"],
    "q.circuit([0, 2, 1])": ["ValueError", "bits must be 0 and 1, got 2 at bit 1"],
    "q.circuit([0, 1])": ["ValueError", "expected 3 bits, got 2"],
    "zq.QNN(40, method='statevector')(torch.zeros(1, 40))": ["CircuitTooLarge", "41 qubits"],
    "q.as_circuit(bits)": ["ValueError", "one sample", "(2, 3)"],
    "zq.label_circuit('partiy', [1])": ["ValueError", "did you mean 'parity'"],
    "zq.label_circuit('parity')": ["ValueError", "subset="],
    "zq.label_circuit('parity', [0, 2])": ["ValueError", "0 or 1 for each data qubit", "[0, 2]"],
    "zq.label_circuit('boolean', [1, 1])": ["ValueError", "truth_table="],
    "zq.label_circuit('boolean', truth_table=[1, -1, 1])": ["ValueError", "2**n labels", "got 3"],
    "zq.label_circuit('boolean', truth_table=[1, -2])": ["ValueError", "labels must be", "-2"],
    "zq.FarhiNevenSGD(q.parameters(), rate=0)": ["ValueError", "rate must be above 0"],
    "zq.FarhiNevenSGD(q.parameters()).step()": ["TypeError", "closure"],
    "zq.FarhiNevenSGD(q.parameters()).step(lambda: torch.tensor(float('nan')))": ["ValueError", "the loss is nan"],
}


@pytest.fixture(scope="module")
def answered():
    return answers(CASES, _PREPARATION)


@pytest.mark.parametrize("case", CASES)
def test_refused(case, answered):
    for part in CASES[case]:
        assert part in answered[case]
