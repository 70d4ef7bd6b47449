"""OpenQASM 3: what is written, read by an independent reader and by ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.quantum.dense import circuit_matrix
from tests.quantum.samples import random_circuit, random_unitary
from zoo.quantum.circuit import Circuit, feature, weight
from zoo.quantum.dressed import DressedCircuit
from zoo.quantum.gates import GATES
from zoo.quantum.qasm import from_openqasm3, to_openqasm3

WEIGHTS = torch.tensor([0.3, -0.8, 1.9, 0.6], dtype=torch.float64)
INPUTS = torch.tensor([1.2, 0.1, -0.7], dtype=torch.float64)
HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'


def _independent(text: str, values: dict[str, float] | None = None) -> torch.Tensor:
    """The unitary that Qiskit reads, in our order of wires (its first wire is the least significant bit)."""
    qasm3 = pytest.importorskip("qiskit.qasm3")
    from qiskit.quantum_info import Operator

    circuit = qasm3.loads(text)
    if values is not None:
        circuit = circuit.assign_parameters(values)
    return torch.from_numpy(np.asarray(Operator(circuit.reverse_bits()).data))


def _assert_equal_up_to_phase(actual: torch.Tensor, expected: torch.Tensor, limit: float) -> None:
    phase = (expected.conj() * actual).sum()
    assert (actual * phase.conj() / phase.abs() - expected).abs().max() < limit


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(50))
def test_fifty_circuits(seed):
    circuit = random_circuit(1 + seed % 4, 12, seed)
    expected = circuit_matrix(circuit, WEIGHTS, INPUTS)
    written = to_openqasm3(circuit, INPUTS, weights=WEIGHTS, measure=False)
    _assert_equal_up_to_phase(_independent(written), expected, 1e-6)
    again = from_openqasm3(written)
    assert (again.n_weights, again.n_inputs) == (0, 0)
    _assert_equal_up_to_phase(again.matrix(dtype=torch.float64), expected, 1e-10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(5))
def test_inputs_by_name(seed):
    names = [name for name, gate in GATES.items() if gate.unitary and name != "unitary"]
    circuit = random_circuit(3, 20, seed, sources="wi", names=names)
    circuit.rx("theta", 0).ry("x1", 1).rz("q", 2)
    values = torch.cat([WEIGHTS, torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64)])
    expected = circuit_matrix(circuit, values, INPUTS)
    written = to_openqasm3(circuit, params="input", measure=False)
    names = [line.split()[-1].rstrip(";") for line in written.splitlines() if line.startswith("input")]
    assert names == ["w0", "w1", "w2", "w3", "theta", "x1_5", "q", "x0", "x1", "x2"]
    used = {name: float(value) for name, value in zip(names, [*values, *INPUTS], strict=True)}
    _assert_equal_up_to_phase(_independent(written, used), expected, 1e-6)
    again = from_openqasm3(written)
    assert again.weight_names == tuple(names[:7])
    _assert_equal_up_to_phase(again.matrix(values, INPUTS), expected, 1e-10)
    assert to_openqasm3(again, params="input", measure=False) == written


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_dense_matrices(n):
    circuit = Circuit(n).unitary(random_unitary(n, n), list(range(n))[::-1])
    _assert_equal_up_to_phase(_independent(to_openqasm3(circuit, measure=False)), circuit.matrix().cdouble(), 1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["cx", "swap", "iswap", "ccx", "cz"])
def test_matrices_with_zeros(name):
    matrix = GATES[name].matrix(torch.empty(0, dtype=torch.float64))
    circuit = Circuit(3).unitary(matrix, list(range(GATES[name].n_wires)))
    _assert_equal_up_to_phase(_independent(to_openqasm3(circuit, measure=False)), circuit.matrix().cdouble(), 1e-6)


def test_text():
    circuit = Circuit(3).h(0).rzz(weight("a"), 0, 2).cphase(0.5, 1, 2)
    assert to_openqasm3(circuit, weights={"a": 0.25}, observables="Y0 X1") == HEAD + (
        "qubit[3] q;\nbit[3] c;\nh q[0];\ncx q[0], q[2];\nrz(0.25) q[2];\ncx q[0], q[2];\ncp(0.5) q[1], q[2];\n"
        "sdg q[0];\nh q[0];\nh q[1];\nc = measure q;\n"
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_measured_bits_give_the_expectation():
    circuit = random_circuit(3, 15, 7)
    observable = "0.5 X0 Y1 - 2 Y1 Z2"
    text = to_openqasm3(circuit, INPUTS, weights=WEIGHTS, observables=observable).replace("c = measure q;\n", "")
    chances = _independent(text)[:, 0].abs().square()
    signs = [[1 - 2 * (index >> (2 - wire) & 1) for wire in range(3)] for index in range(8)]
    mean = sum(p * (0.5 * s[0] * s[1] - 2 * s[1] * s[2]) for p, s in zip(chances, signs, strict=True))
    torch.testing.assert_close(mean, circuit.expval(observable, WEIGHTS, INPUTS))


def test_counts_of_a_readout_network():
    circuit = Circuit(17)
    for layer in range(6):
        for wire in range(16):
            circuit.pauli_rot("zx" if layer % 2 == 0 else "xx", weight(16 * layer + wire), [wire, 16])
    standard = circuit.summary()["standard"]
    assert standard["gates"]["cx"] == 192
    assert to_openqasm3(circuit, weights=torch.zeros(96)).count("\ncx ") == 192


def test_a_module_writes_itself():
    class Module:
        def as_circuit(self, x):
            return Circuit(1).rx(weight(0), 0).ry(feature(0), 0), torch.tensor([0.5]), x, ["X0"]

    text = to_openqasm3(Module(), torch.tensor([0.25]))
    assert text.endswith("rx(0.5) q[0];\nry(0.25) q[0];\nh q[0];\nc = measure q;\n")


def test_reading_by_hand():
    text = """
    OPENQASM 3;  // a comment
    include "stdgates.inc";
    input float[64] theta;
    input float[64] x0;
    /* two
       lines */
    qubit[2] r;
    bit[2] out;
    rx(-theta / 2 + pi) r[0]; inv @ sx r[1];
    CX r[0],
       r[1];
    ry(3 * (x0 - 1)) r[1];
    out = measure r;
    """
    expected = Circuit(2).rx(-weight("theta") / 2 + torch.pi, 0).sxdg(1).cx(0, 1).ry(3 * feature(0) - 3, 1)
    assert from_openqasm3(text).key == expected.key


def _equal_to_qiskit(circuit, values: dict[str, float] | None = None) -> None:
    """A circuit of Qiskit's, read from what it writes."""
    qasm3 = pytest.importorskip("qiskit.qasm3")
    from qiskit.quantum_info import Operator

    bound = circuit if values is None else circuit.assign_parameters(values)
    expected = torch.from_numpy(np.asarray(Operator(bound.reverse_bits()).data))
    again = from_openqasm3(qasm3.dumps(circuit))
    numbers = None if values is None else {name: torch.tensor(values[name]).double() for name in again.weight_names}
    _assert_equal_up_to_phase(again.matrix(numbers, dtype=torch.float64), expected, 1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(30))
def test_random_circuits_of_qiskit(seed):
    random = pytest.importorskip("qiskit.circuit.random")
    _equal_to_qiskit(random.random_circuit(1 + seed % 4, 6, max_operands=4, seed=seed))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_gates_of_qiskit_s_own():
    library = pytest.importorskip("qiskit.circuit.library")
    from qiskit import QuantumCircuit
    from qiskit.circuit import Parameter
    from qiskit.quantum_info import random_unitary

    circuit = QuantumCircuit(4, global_phase=0.3)
    part = QuantumCircuit(2, name="part")
    part.h(0)
    part.crx(0.7, 0, 1)
    for gate in (
        library.CUGate(0.1, 0.2, 0.3, 0.4),
        library.GlobalPhaseGate(0.3),
        library.U1Gate(0.2),
        library.XGate().control(2, ctrl_state=1),
        library.RXGate(0.3).control(3),
        part.to_gate(),
        part.to_gate().inverse(),
        library.UnitaryGate(random_unitary(4, seed=1)),
        library.PermutationGate([2, 0, 1]),
    ):
        circuit.append(gate, list(range(gate.num_qubits))[::-1])
    circuit.barrier()
    for place, name in enumerate(("θ", "lambda", "c")):
        angle = Parameter(name)
        circuit.rzz(angle, 0, 1)
        circuit.ry(0.1 - angle / 2, place)
        circuit.append(library.XXPlusYYGate(2 * angle, 0.3), [2, place % 2])
    _equal_to_qiskit(circuit, {"θ": 0.3, "lambda": -0.8, "c": 1.9})


def test_phases_count_under_controls():
    text = HEAD + "gate foo(p) a { rx(p) a; barrier a; gphase(p/2); }\nqubit[2] q;\n"
    found = from_openqasm3(text + "gphase(0.3); foo(0.4) q[1]; ctrl @ foo(0.4) q[0], q[1]; negctrl @ gphase(0.2) q[1];")
    expected = Circuit(2).rx(0.4, 1).crx(0.4, 0, 1).phase(0.2, 0).x(1).phase(0.2, 1).x(1)
    torch.testing.assert_close(found.matrix(dtype=torch.float64), expected.matrix(dtype=torch.float64))


def test_a_gate_on_the_whole_register():
    assert from_openqasm3(HEAD + "qubit[3] q;\nh q;\nbarrier q;\ncx q[0], q[2];") == Circuit(3).h(0).h(1).h(2).cx(0, 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["c", "q", "q_", "θ", "lambda", "_a", "w1"])
def test_names_are_kept(name):
    circuit = Circuit(2).rx(name, 0).ry(2 * weight(name), 1).cx(0, 1)
    again = from_openqasm3(to_openqasm3(circuit, params="input"))
    assert again == circuit
    text = to_openqasm3(circuit, params="input", measure=False)
    _assert_equal_up_to_phase(_independent(text, {name: 0.4}), circuit.matrix({name: 0.4}, dtype=torch.float64), 1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["pi", "h", "gate", "sin", "τ", "cu", "true"])
def test_names_that_mean_something_else_get_their_number(name):
    circuit = Circuit(1).ry(name, 0)
    text = to_openqasm3(circuit, params="input", measure=False)
    assert from_openqasm3(text).weight_names == (f"{name}_0",)
    value = {f"{name}_0": 0.4}
    _assert_equal_up_to_phase(_independent(text, value), circuit.matrix([0.4], dtype=torch.float64), 1e-6)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("qubit[2] q;\nfoo q[0];", "line 4: 'foo' is no gate that is read here"),
        ("qubit[2] q;\n\nrx(0.1) q[2];", "line 5: rx on wire 2: the wires are 0 to 1"),
        ("qubit[2] q;\ncx q[0], q[0];", "line 4: cx acts on different wires"),
        ("qubit[2] q;\ncx q[0];", "line 4: cx acts on 2 wires, got 1"),
        ("qubit[2] q;\nrx q[0];", "line 4: 'rx' takes 1 angles, got 0"),
        ("qubit[2] q;\nrx(theta) q[0];", "line 4: 'theta' is no input"),
        ("input float[64] a;\nqubit[2] q;\nrx(a*a) q[0];", "line 5: the angle 'a.a' is no number and not affine"),
        ("input float[64] a;\nqubit[2] q;\nrx(sin(a)) q[0];", "line 5: the angle 'sin.a.' is no number"),
        ("input float[64] a;\nqubit[2] q;\nctrl @ rx(a) q[0], q[1];", "line 5: 'rx' with ctrl @ takes numbers"),
        ("h q[0];", "line 3: 'h q.0.' before 'qubit"),
        ("qubit[2] q;\nqubit[2] r;", "line 4: a second register"),
        ("qubit[2] q;\nif (c) x q[0];", "line 4: 'if' is not read: a circuit is gates"),
        ("qubit[2] q;\nh r[0];", "line 4: 'r.0.' is no qubit of the register 'q'"),
        ("qubit[2] q;\nh q[0]", "line 4: a ';' is missing after 'h q.0.'"),
        ("bit[1] c;\nqubit[1] q;\nc = measure q;\nh q[0];", "line 6: 'h q.0.' after a measurement"),
        ("gate foo a { bar a; }\nqubit[1] q;", "line 3: 'bar' is no gate that is read here"),
        ("gate foo a { foo a; }\nqubit[1] q;", "line 3: 'foo' is no gate that is read here"),
        ("gate x a { h a; }\nqubit[1] q;", "line 3: the gate 'x' is there already"),
        ("gate foo a { x b; }\nqubit[1] q;\nfoo q[0];", "line 5: 'b' is no wire of the gate 'foo'"),
        ("gate foo(p) a { rx(p) a; }\nqubit[1] q;\nfoo q[0];", "line 5: 'foo' takes 1 angles, got 0"),
        ("gate foo a { x a; }\nqubit[2] q;\nfoo q[0], q[1];", "line 5: 'foo' acts on 1 wires, got 2"),
        ("qubit[2] q;\ngphase(pi) q[0];", "line 4: 'gphase' acts on no wires, got 1"),
        ("qubit[2] q;\nif (c) {\n x q[0]; }", "line 4: 'if' is not read: a circuit is gates"),
        ("qubit[2] q;\ncx q, q[0];", "line 4: 'q' is no qubit of the register"),
        ("qubit[99999999999] q;", "line 3: a circuit has at most 65536 qubits"),
        ("bit[2] c;", "the program has no qubits"),
        ("input float[64] a;\ninput float[64] a;", "line 4: the input 'a' is declared twice"),
        ("qubit[2] q;\ninput float[64] a;", "line 4: the input 'a' is declared after the qubits"),
        ("qubit[2] q;\nh (q[0]);", "line 4: 'h' takes 0 angles, got 1"),
        ("qubit[2] q;\nh (q[0]) (q[1]);", "line 4: 'h' takes 0 angles|line 4: cannot read"),
        ("qubit[2] q;\nrx(1 +) q[0];", "line 4: cannot read the angle"),
        ("qubit[2] q;\nfor int i in [0:1] { x q[i]; }", "line 4: 'for' is not read"),
        ("qubit[2] q;\nreset q[0];", "line 4: 'reset' is not read"),
        (f"qubit[2] q;\nrx({'1+' * 900}) q[0];", "line 4: cannot read the angle '(1.){40}'… .1800 characters.$"),
        (f"qubit[2] q;\nrx({'1+' * 30000}1) q[0];", "line 4: .*… .60001 characters."),
    ],
)
def test_outside_of_what_is_read(lines, message):
    with pytest.raises(ValueError, match=message):
        from_openqasm3(HEAD + lines)


def test_what_cannot_be_written():
    circuit = Circuit(2).rx("a", 0).ry(feature(0), 1)
    with pytest.raises(ValueError, match="the circuit has 1 weights, got none"):
        to_openqasm3(circuit, [0.1])
    with pytest.raises(ValueError, match="one sample"):
        to_openqasm3(circuit, torch.zeros(3, 1), weights=[0.1])
    with pytest.raises(ValueError, match="2 programs, as their letters differ on a wire: X0; Z0"):
        to_openqasm3(circuit, [0.1], weights=[0.1], observables=["X0", "Z0"])
    with pytest.raises(ValueError, match="no sum of Pauli words"):
        to_openqasm3(circuit, [0.1], weights=[0.1], observables=["|0> 1"])
    with pytest.raises(ValueError, match="OpenQASM 3 has no 'post_select'"):
        to_openqasm3(Circuit(1).post_select(0))
    with pytest.raises(TypeError, match="a Circuit, or a module such as QuantumLayer, got 'x'"):
        to_openqasm3("x")
    with pytest.raises(TypeError, match="got DressedCircuit; write its part 'circuit', with the features"):
        to_openqasm3(DressedCircuit(5, 2), torch.zeros(5))
    with pytest.raises(ValueError, match="params is one of 'literal', 'input', got 'names'"):
        to_openqasm3(circuit, params="names")
