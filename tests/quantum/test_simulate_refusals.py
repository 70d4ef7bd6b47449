"""What circuits and their simulation refuse, and what the refusals say."""

from __future__ import annotations

import math

import pytest
import torch

from tests.layers.answers import answers
from zoo.errors import CircuitTooLarge, PostSelectionError
from zoo.quantum.circuit import Angle, Circuit, feature, weight
from zoo.quantum.gates import GATES
from zoo.quantum.noise import NoiseModel
from zoo.quantum.observables import Hermitian, Projector
from zoo.quantum.paulis import PauliSum, PauliWord

REFUSED = {
    "weights": (lambda c: c.expval("Z0", torch.zeros(3), [0.1]), ValueError, r"has 2 weights, got .* shape \(3,\)"),
    "no inputs": (lambda c: c.expval("Z0", [0.1, 0.2]), ValueError, "the circuit has 1 inputs, got none"),
    "inputs": (lambda c: c.expval("Z0", [0.1, 0.2], torch.zeros(5, 2)), ValueError, r"1 inputs, got .* \(5, 2\)"),
    "names": (lambda c: c.expval("Z0", {"alpah": 1.0, "b": 2.0}, [0.1]), ValueError, "did you mean 'alpha'"),
    "missing name": (lambda c: c.expval("Z0", {"b": 2.0}, [0.1]), ValueError, "no value for the weights 'alpha'"),
    "nan": (
        lambda c: c.expval("Z0", [0.1, 0.2], torch.tensor([[0.1], [math.nan]])),
        ValueError,
        r"features must be finite, got nan at index \(1, 0\)",
    ),
    "complex": (lambda c: c.expval("Z0", [0.1, 0.2], torch.zeros(1) * 1j), TypeError, "inputs must be real"),
    "integers": (lambda c: c.expval("Z0", [0.1, 0.2], torch.zeros(1).long()), TypeError, r"call .float\(\)"),
    "dtype": (lambda c: c.expval("Z0", [0.1, 0.2], [0.1], dtype=torch.int64), TypeError, "float32 or float64"),
    "wire": (lambda c: c.expval("Z7", [0.1, 0.2], [0.1]), ValueError, "on wire 7: the wires are 0 to 1"),
    "wires": (lambda c: c.probs([0.1, 0.2], [0.1], wires=[0, 0]), ValueError, r"different numbers .* \[0, 0\]"),
    "state": (lambda c: c.state([0.1, 0.2], [0.1], state=torch.ones(3)), ValueError, r"4 amplitudes, got \(3,\)"),
    "method": (lambda c: c.state([0.1, 0.2], [0.1], method="state"), ValueError, "did you mean 'statevector'"),
    "option": (lambda c: c.state([0.1, 0.2], [0.1], shot=3), TypeError, "no argument 'shot'; did you mean 'shots'"),
    "shots": (lambda c: c.expval("Z0", [0.1, 0.2], [0.1], shots=0), ValueError, "shots must be"),
    "adjoint shots": (
        lambda c: c.expval("Z0", [0.1, 0.2], [0.1], shots=5, diff_method="adjoint"),
        ValueError,
        "'parameter_shift'",
    ),
    "adjoint density": (
        lambda c: c.expval("Z0", [0.1, 0.2], [0.1], method="density", diff_method="adjoint"),
        ValueError,
        "diff_method='backprop'",
    ),
    "shots of cones": (
        lambda c: c.expval("Z0", [0.1, 0.2], [0.1], method="lightcone", shots=10),
        ValueError,
        "by method='lightcone' are exact: no shots",
    ),
    "no memory": (lambda c: c.state([0.1, 0.2], [0.1], max_memory=0), ValueError, "at least 1 byte, got 0"),
    "nan weights": (lambda c: c.state([0.1, math.nan], [0.1]), ValueError, r"weights must be finite, got nan at .*1"),
    "batches": (
        lambda c: c.state(torch.zeros(2, 2), torch.zeros(3, 1)),
        ValueError,
        r"weights \(2,\), inputs \(3,\)",
    ),
    "nan state": (
        lambda c: c.state([0.1, 0.2], [0.1], state=torch.tensor([math.nan, 0, 0, 0])),
        ValueError,
        "must be finite, got nan at index",
    ),
    "long state": (
        lambda c: c.state([0.1, 0.2], [0.1], state=torch.ones(4)),
        ValueError,
        r"norm 1, got 2 \(state / state.norm\(dim=-1, keepdim=True\)",
    ),
    "shots of a state": (lambda c: c.state([0.1, 0.2], [0.1], shots=3), ValueError, "not measured: no shots.*shots=3"),
    "shifted density": (
        lambda c: c.density_matrix([0.1, 0.2], [0.1], diff_method="spsa"),
        ValueError,
        "diff_method='spsa'",
    ),
    "state by cones": (lambda c: c.state([0.1, 0.2], [0.1], method="lightcone"), ValueError, "not the state"),
    "state into a chain": (
        lambda c: c.expval("Z0", [0.1, 0.2], [0.1], method="mps", state=torch.eye(4)[0]),
        ValueError,
        "begins with every wire in 0",
    ),
    "readout of a chain": (
        lambda c: c.expval(Hermitian(torch.eye(2), 0), [0.1, 0.2], [0.1], method="mps", noise=NoiseModel(readout=0.1)),
        ValueError,
        "cannot be read wire by wire",
    ),
    "directions": (
        lambda c: c.expval("Z0", [0.1, 0.2], [0.1], directions=0),
        ValueError,
        "directions must be an integer of at least 1, got 0",
    ),
    "single": (lambda c: c.expval(["z"], [0.1, 0.2], [0.1]), ValueError, "within a list write each, such as 'Z0'"),
    "observable": (lambda c: c.expval(3, [0.1, 0.2], [0.1]), TypeError, "an observable is text"),
    "noise": (
        lambda c: c.channel("bit_flip", 0.1, 0).expval("Z0", [0.1, 0.2], [0.1], method="mps"),
        ValueError,
        "simulates no noise",
    ),
    "state of a mixture": (
        lambda c: c.channel("bit_flip", 0.1, 0).state([0.1, 0.2], [0.1]),
        ValueError,
        "use density_matrix",
    ),
    "matrix of a mixture": (
        lambda c: c.channel("bit_flip", 0.1, 0).matrix([0.1, 0.2], [0.1]),
        ValueError,
        "no unitary",
    ),
    "var shots": (lambda c: c.var("Z0", [0.1, 0.2], [0.1], shots=5), ValueError, "takes no shots"),
    "memory": (lambda c: c.state([0.1, 0.2], [0.1], max_memory=16), CircuitTooLarge, "2 qubits"),
    "never": (
        lambda c: Circuit(1).ry(feature(0), 0).post_select(0, 1).state(None, torch.tensor([[0.3], [0.0]])),
        PostSelectionError,
        "wire 0 is never 1 in sample 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    ask, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        ask(Circuit(2).rx("alpha", 0).ry("b", 1).rz(feature(0), 0).cx(0, 1))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: Circuit(60).state(), "fits: expectations, samples, and probabilities of few wires, by method='mps'$"),
        (lambda: Circuit(60).state(method="mps"), "8 EiB .* fits: a result of fewer wires or shots"),
        (lambda: Circuit(60).probs(), "by method='mps'$"),
        (lambda: Circuit(60).probs(wires=range(40), method="mps"), "8 TiB .* fits: a result of fewer wires or shots"),
        (lambda: Circuit(18).matrix(), "262144 states each.* 1 TiB .* fits: .* one column after the other"),
        (lambda: Circuit(60).matrix(), "1152921504606846976 states each"),
        (lambda: Circuit(16).matrix(max_memory=10**6), r"more than the 977 KiB .*\(max_memory\)"),
        (lambda: Circuit(18).density_matrix(), "512 GiB .* fewer wires"),
        (lambda: Circuit(13).density_matrix(max_memory=10**7), "512 MiB .* max_memory of 512 MiB"),
        (lambda: Circuit(2).h(0).expval("z", max_memory=10), "64 bytes of states, more than the 10 bytes"),
        (lambda: Circuit(2).h(0).sample(shots=10**12), "29.1 TiB .* fewer wires or shots"),
    ],
)
def test_too_large_before_anything_is_made(ask, message):
    with pytest.raises(CircuitTooLarge, match=message):
        ask()


BUILDING = {
    "no qubits": (lambda: Circuit(0), ValueError, "at least 1, got 0"),
    "range": (lambda: Circuit(2).h(2), ValueError, "h on wire 2: the wires are 0 to 1"),
    "negative": (lambda: Circuit(2).h(-1), ValueError, "h on wire -1: the wires are 0 to 1"),
    "repeated": (lambda: Circuit(2).cx(1, 1), ValueError, r"cx acts on different wires, got \(1, 1\)"),
    "count": (lambda: Circuit(3).cx(0, 1, 2), ValueError, "cx acts on 2 wires, got 3"),
    "no wires": (lambda: Circuit(3).pauli_rot("", 0.1), ValueError, "letters i, x, y, z"),
    "angles": (lambda: Circuit(3).rot(0.1, 0.2), TypeError, "rot takes 3 angles"),
    "kind": (lambda: Circuit(3).rx([0.1], 0), TypeError, "an angle is a number"),
    "index": (lambda: weight(-1), ValueError, "the index of an angle is 0 or more, got -1"),
    "source": (lambda: Angle("wieght", 0), ValueError, "'weight', 'input', got 'wieght'"),
    "feature": (lambda: Circuit(1).rx(Angle("input", "a"), 0), ValueError, "only weights have names"),
    "matrix": (lambda: Circuit(1).unitary(), TypeError, "unitary takes a matrix, then wires"),
    "no word": (lambda: Circuit(1).pauli_rot(0.3, 0), TypeError, "pauli_rot takes a Pauli word"),
    "wire kind": (lambda: Circuit(2).cx(0, "b"), TypeError, "'b' is no number of a wire"),
    "no wire": (lambda: Circuit(2).multirz(0.1), ValueError, "at least one wire"),
    "operation": (lambda: Circuit(2).Post_Select(0), AttributeError, "by the method of that name"),
    "no strength": (lambda: Circuit(1).channel("bit_flip"), TypeError, "a name, a probability, then wires"),
    "kraus wires": (lambda: Circuit(2).channel([torch.eye(2)], 0, 1), ValueError, "acts on 1 wires, got 2"),
    "projector": (lambda: Projector("2", (0,)), ValueError, "0 and 1, got '2'"),
    "hermitian shape": (lambda: Hermitian(torch.eye(4), [0]), ValueError, r"\(2, 2\), got \(4, 4\)"),
    "coefficient": (lambda: PauliSum(((math.nan, PauliWord()),)), ValueError, "a coefficient is finite"),
    "letter": (lambda: PauliWord(((0, "q"),)), ValueError, "letters i, x, y, z"),
    "no matrix": (lambda: GATES["unitary"].matrix(torch.zeros(0)), ValueError, "is given with each use"),
    "gradient": (lambda: Circuit(3).rx(torch.tensor(0.1, requires_grad=True), 0), TypeError, "make the angle a weight"),
    "finite": (lambda: Circuit(3).rx(math.inf, 0), ValueError, "an angle is finite"),
    "gate": (lambda: Circuit(3).cswp(0, 1, 2), AttributeError, "gate 'cswp'; did you mean 'cswap'"),
    "other name": (lambda: Circuit(2).cnto(0, 1), AttributeError, "gate 'cnto'; did you mean 'cnot'"),
    "unitary": (
        lambda: Circuit(1).unitary([[1, 0], [0, 1.1]], 0),
        ValueError,
        r"not unitary: max\|U U\^H - I\| = 0.21, allowed 1e-05",
    ),
    "diagonal": (lambda: Circuit(1).diagonal([1, 2], 0), ValueError, "= 3, allowed"),
    "shape": (lambda: Circuit(2).unitary(torch.eye(2), 0, 1), ValueError, r"shape \(4, 4\), got \(2, 2\)"),
    "empty": (lambda: Circuit(1).unitary(torch.empty(0), 0), ValueError, r"shape \(2, 2\), got \(0,\)"),
    "word": (lambda: Circuit(2).pauli_rot("zq", 0.1, 0, 1), ValueError, "letters i, x, y, z, got 'zq'"),
    "letters": (lambda: Circuit(2).pauli_rot("z", 0.1, 0, 1), ValueError, "1 letters for 2 wires"),
    "bit": (lambda: Circuit(1).post_select(0, 2), ValueError, "a bit is 0 or 1, got 2"),
    "channel": (lambda: Circuit(1).channel("depolarising", 0.1, 0), ValueError, "did you mean 'depolarizing'"),
    "strength": (lambda: Circuit(1).channel("bit_flip", 1.5, 0), ValueError, r"must lie in \[0, 1\], got 1.5"),
    "bind": (lambda: Circuit(1).rx("a", 0).bind([1, 2]), ValueError, "has 1 weights, got 2 values"),
    "bind name": (lambda: Circuit(1).rx("a", 0).bind({"b": 1}), ValueError, "no weight is named 'b'"),
    "bind kind": (lambda: Circuit(1).rx("a", 0).bind([1j]), TypeError, "'a' is bound to a real number, got 1j"),
    "compose": (lambda: Circuit(3).compose(Circuit(2), [0]), ValueError, "2 qubits goes on as many different wires"),
    "compose twice": (lambda: Circuit(2).compose(Circuit(2), [0, 0]), ValueError, r"different wires, got \(0, 0\)"),
    "compose range": (lambda: Circuit(2).compose(Circuit(1), [2]), ValueError, r"from 0 to 1, got \(2,\)"),
    "many qubits": (lambda: Circuit(10**11), ValueError, "at most 65536 qubits, got 100000000000"),
    "name": (lambda: Circuit(1).rx("2*a", 0), ValueError, r"underscores, got '2\*a'; .* 2 \* weight"),
    "no name": (lambda: Circuit(1).rx("", 0), ValueError, "letters, digits and underscores, got ''"),
    "from nothing": (lambda: Circuit.from_dict({}), ValueError, "n_qubits, n_weights, .* Circuit.to_dict"),
    "inverse": (lambda: Circuit(1).post_select(0).inverse(), ValueError, "'post_select' has no inverse"),
    "hermitian": (lambda: Hermitian([[0, 1], [0, 0]], [0]), ValueError, r"max\|A - A\^H\| = 1"),
    "hermitian wires": (lambda: Hermitian(torch.eye(2), range(11)), ValueError, "1 to 10 wires, got 11"),
}


@pytest.mark.parametrize("name", BUILDING)
def test_refused_in_building(name):
    build, error, message = BUILDING[name]
    with pytest.raises(error, match=message):
        build()


#: expression -> what its TypeError says.
REFUSED_TYPES = {
    "zq.Circuit(1).ry('a', 0).expval('z', 'a')": "weights are a tensor or numbers, or a dict of numbers by name, got",
    "zq.Circuit(1).expval('z', None, {'x': 1})": "inputs are a tensor or numbers, got dict",
    "zq.Circuit(1).expval('z', state=[1, 0])": "state is a tensor of amplitudes, got list",
    "zq.Circuit(2.5)": "n_qubits must be an integer of at least 1, got 2.5",
    "zq.Circuit(True)": "n_qubits must be an integer of at least 1, got True",
    "zq.feature(1.5)": "a feature has a number, got 1.5",
    "zq.weight(None)": "a weight has a number or a name, got None",
    "zq.Circuit(1).append('h')": "append takes an Op, got 'h'",
    "zq.Circuit(1).compose('x')": "compose takes a Circuit, got 'x'",
    "zq.Circuit.from_dict(None)": "Circuit.to_dict gives, got None",
    "zq.Circuit(1).rx('a', 0).bind(None)": "bound to numbers, all in their order or some by name, got None",
    "zq.weight('a') + zq.weight('b')": "added to numbers; got Angle(source='weight', index='b'",
    "zq.weight('a') * zq.feature(0)": "multiplied by numbers; got Angle(source='input'",
    "zq.Circuit(1).probs(generator=5)": "generator is a torch.Generator; got 5",
    "zq.Circuit(1).probs(report=3)": "report is a function of what was discarded; got 3",
    "zq.Circuit(1).probs(directions=1.5)": "directions must be an integer of at least 1, got 1.5",
    "zq.Circuit(1).probs(noise={'readout': 0.1})": "NoiseModel.from_dict makes one of a dict; got {'readout': 0.1}",
    "zq.Circuit(1).probs(wires='a')": "'a' is no number of a wire",
    "zq.gate_named(None)": "the name of a gate is text, such as 'cx', got None",
}


@pytest.fixture(scope="module")
def refused_types():
    return answers(REFUSED_TYPES, "from zoo import quantum as zq")


@pytest.mark.parametrize("expression", REFUSED_TYPES)
def test_refused_types(expression, refused_types):
    assert refused_types[expression].startswith("TypeError: ")
    assert REFUSED_TYPES[expression] in refused_types[expression]


@pytest.mark.parametrize("name", ["max_bond", "trajectories"])
def test_numbers_that_the_method_does_not_use_are_checked(name):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got 0"):
        Circuit(2).probs(**{name: 0})
