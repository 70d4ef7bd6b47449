"""Every layer that could not run is refused, with what is allowed; in a process without run-time checks of shapes."""

import pytest

from tests.layers.answers import answers

PREPARATION = """
import numpy
from zoo.quantum.circuit import Circuit, feature
from zoo.quantum.dressed import DressedCircuit
from zoo.quantum.layer import QuantumLayer
from zoo.quantum.optim import QuantumNaturalGradient
own = Circuit(2).rx(feature(0), 0).rz("a", 1)
nan = float("nan")
"""

#: expression -> parts of the message.
CASES = {
    "QuantumLayer()": ["ValueError", "in_features", "circuit"],
    "QuantumLayer(0)": ["ValueError", "in_features must be an integer of at least 1, got 0"],
    "QuantumLayer(2, 0)": ["ValueError", "n_qubits must be an integer of at least 1, got 0"],
    "QuantumLayer(2.0)": ["TypeError", "in_features must be an integer of at least 1, got 2.0"],
    "QuantumLayer(2, n_layers='3')": ["TypeError", "n_layers must be an integer of at least 1, got '3'"],
    "QuantumLayer(2, init_std=-1)": ["ValueError", "init_std must be a number of at least 0, got -1"],
    "QuantumLayer(2, init_std=nan)": ["ValueError", "init_std must be a number of at least 0, got nan"],
    "QuantumLayer(3)([[0.0, 0.0, 0.0]])": ["TypeError", "features are a tensor, got list", "torch.as_tensor"],
    "QuantumLayer(3).state(numpy.zeros((2, 3)))": ["TypeError", "features are a tensor, got ndarray"],
    "DressedCircuit(5, 3, n_qubits=0)": ["ValueError", "n_qubits must be an integer of at least 1, got 0"],
    "DressedCircuit(5, 3, depth='2')": ["TypeError", "depth must be an integer of at least 1, got '2'"],
    "QuantumNaturalGradient(QuantumLayer(2).parameters())": ["TypeError", "the module itself", "got generator"],
    "QuantumLayer(3, 2)": ["ValueError", "at most 2 features on 2 wires", "3"],
    "QuantumLayer(2, n_layers=0)": ["ValueError", "n_layers must be an integer of at least 1, got 0"],
    "QuantumLayer(2, n_layers=0, reupload=True)": ["ValueError", "n_layers must be an integer of at least 1, got 0"],
    "QuantumLayer(2, encoding='angle:z')": ["ValueError", "phase", "'angle:hz'", "reupload=True"],
    "QuantumLayer(4, encoding='amplitude', reupload=True)": ["ValueError", "'amplitude'", "reupload=False"],
    "QuantumLayer(2, encoding='angles')": ["ValueError", "did you mean 'angle'"],
    "QuantumLayer(2, ansatz='strong_entangling')": ["ValueError", "did you mean 'strongly_entangling'"],
    "QuantumLayer(2, observables='Z2')": ["ValueError", "wire 2", "0 to 1"],
    "QuantumLayer(2, observables=[])": ["ValueError", "at least one observable"],
    "QuantumLayer(2, out_features=0)": ["ValueError", "out_features must be an integer of at least 1, got 0"],
    "QuantumLayer(2, init='unifrom')": ["ValueError", "init", "did you mean 'uniform'"],
    "QuantumLayer(2, diff_method='adjiont')": ["ValueError", "diff_method", "did you mean 'adjoint'"],
    "QuantumLayer(2, backend='cuda')": ["ValueError", "method", "'cuda'"],
    "QuantumLayer(2, shots=0)": ["ValueError", "shots must be an integer of at least 1, got 0"],
    "QuantumLayer(2, shots=10, diff_method='adjoint')": ["ValueError", "adjoint", "shots", "parameter_shift"],
    "QuantumLayer(2, options={'max_bonds': 4})": ["TypeError", "did you mean 'max_bond'"],
    "QuantumLayer(2, options={'shots': 4})": ["ValueError", "shots cannot be among options"],
    "QuantumLayer(circuit=Circuit(2).rx('a', 0))": ["ValueError", "no features", "feature(0)"],
    "QuantumLayer(3, circuit=own, ansatz='sim14')": ["ValueError", "leave out in_features, ansatz"],
    "QuantumLayer(3)(torch.zeros(2, 4))": ["ValueError", "made for 3 features", "(2, 4)"],
    "QuantumLayer(2)(torch.zeros(1, 2, dtype=torch.int64))": ["TypeError", "x.float()", "int64"],
    "QuantumLayer(2)(torch.zeros(1, 2, dtype=torch.complex64))": ["TypeError", "real", "complex64"],
    "QuantumLayer(2)(torch.tensor([[0.0, nan]]))": ["ValueError", "finite", "nan at (0, 1)"],
    "QuantumLayer(circuit=own)(torch.tensor([[nan]]))": ["ValueError", "finite", "nan at (0, 0)"],
    "QuantumLayer(circuit=own)(torch.zeros(2, 2))": ["ValueError", "made for 1 features", "(2, 2)"],
    "QuantumLayer(2, encoding='amplitude')(torch.zeros(1, 2))": ["ValueError", "zeros", "(0,)"],
    "QuantumLayer(2, encoding='basis')(torch.tensor([[0, 2]]))": ["ValueError", "0 or 1, got 2"],
}


@pytest.fixture(scope="module")
def told():
    return answers(CASES, PREPARATION)


@pytest.mark.parametrize("case", CASES)
def test_refusal(case, told):
    for part in CASES[case]:
        assert part in told[case]
