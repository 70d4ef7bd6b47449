"""Building, joining, binding and keeping circuits."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
import torch

from tests.quantum.dense import circuit_matrix
from tests.quantum.samples import random_circuit
from zoo.quantum.circuit import Circuit, feature, weight

WEIGHTS = torch.tensor([0.3, -0.8, 1.9, 0.6], dtype=torch.float64)
INPUTS = torch.tensor([1.2, 0.1, -0.7], dtype=torch.float64)


def _matrix(circuit: Circuit) -> torch.Tensor:
    return circuit.matrix(WEIGHTS[: circuit.n_weights], INPUTS[: circuit.n_inputs])


@pytest.mark.parametrize("seed", range(6))
def test_reference_is_the_product_of_matrices(seed):
    circuit = random_circuit(1 + seed % 4, 20, seed)
    torch.testing.assert_close(_matrix(circuit), circuit_matrix(circuit, WEIGHTS, INPUTS))


def test_samples_have_their_own_numbers():
    circuit = random_circuit(3, 20, 1)
    weights = torch.randn(2, 1, 4, dtype=torch.float64)
    inputs = torch.randn(3, 3, dtype=torch.float64)
    state = torch.nn.functional.normalize(torch.randn(1, 3, 8, dtype=torch.complex128), dim=-1)
    out = circuit.state(weights, inputs, state=state)
    assert out.shape == (2, 3, 8)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(out[i, j], circuit_matrix(circuit, weights[i, 0], inputs[j]) @ state[0, j])


def test_names_and_places():
    circuit = Circuit(2).rx("a", 0).ry(weight(3), 1).rz("b", 0).rx(2 * weight("a") - 0.5, 1).rz(1 - feature(1) / 4, 0)
    assert (circuit.n_weights, circuit.n_inputs) == (5, 2)
    assert circuit.weight_names == ("a", "w1", "w2", "w3", "b")
    assert [(a.source, a.index, a.scale, a.offset) for op in circuit for a in op.angles] == [
        ("weight", 0, 1, 0),
        ("weight", 3, 1, 0),
        ("weight", 4, 1, 0),
        ("weight", 0, 2, -0.5),
        ("input", 1, -0.25, 1),
    ]


def test_values_by_name():
    circuit = Circuit(1).rx("a", 0).ry("b", 0)
    torch.testing.assert_close(circuit.expval("Z0", {"b": 0.2, "a": 0.5}), circuit.expval("Z0", [0.5, 0.2]))


def test_compose():
    one = Circuit(3).rx("a", 0).ry("b", 1).rz(feature(0), 2)
    two = Circuit(2).rx("b", 0).crx(weight(1), 0, 1).ry("c", 1).rz(feature(0), 1)
    both = one.copy().compose(two, wires=[2, 0])
    assert both.weight_names == ("a", "b", "w2", "c")
    assert (one.n_weights, len(one), both.n_inputs) == (2, 3, 2)
    moved = Circuit(3).rx(weight(1), 2).crx(weight(2), 2, 0).ry(weight(3), 0).rz(feature(1), 0)
    moved.n_inputs = 2
    first = circuit_matrix(one, WEIGHTS, INPUTS)
    torch.testing.assert_close(_matrix(both), circuit_matrix(moved, WEIGHTS, INPUTS) @ first)


def test_a_sum_is_a_new_circuit():
    one, two = Circuit(2).rx("a", 0), Circuit(2).cx(0, 1).ry("a", 1)
    assert one + two == Circuit(2).rx("a", 0).cx(0, 1).ry("a", 1)
    assert one == Circuit(2).rx("a", 0)
    with pytest.raises(TypeError, match="unsupported operand"):
        one + 1


def test_equality():
    circuit = Circuit(2).rx("a", 0).cx(0, 1)
    assert circuit == Circuit.from_dict(circuit.to_dict())
    assert circuit != Circuit(2).rx("b", 0).cx(0, 1)
    assert circuit != Circuit(2).rx("a", 1).cx(0, 1)
    assert circuit != Circuit(2).rx("a", 0).cx(0, 1).h(0)
    assert circuit != "circuit"
    with pytest.raises(TypeError, match="unhashable"):
        hash(circuit)


def test_integers_of_numpy_and_tensors():
    expected = Circuit(3).h(1).cx(2, 0).rx(weight(1), 0).ry(feature(2), 1).compose(Circuit(2).x(0).y(1), [2, 1])
    given = Circuit(np.int64(3)).h(np.int64(1)).cx(torch.tensor([2, 0])).rx(weight(np.int32(1)), torch.tensor(0))
    given.ry(feature(np.int64(2)), np.uint8(1)).compose(Circuit(2).x(0).y(1), np.array([2, 1]))
    assert given == expected
    assert given.to_dict() == json.loads(json.dumps(given.to_dict()))


@pytest.mark.parametrize("name", ["θ", "Δ_1", "_", "重み", "lambda"])
def test_names_of_any_script(name):
    circuit = Circuit(1).rx(2 * weight(name), 0)
    torch.testing.assert_close(circuit.expval("Z0", {name: 0.3}), torch.tensor(0.6).cos())


def test_composed_with_itself():
    circuit = Circuit(1).rx("a", 0).ry(weight(1), 0).rz(feature(0), 0)
    circuit.compose(circuit)
    assert (len(circuit), circuit.n_weights, circuit.n_inputs) == (6, 3, 2)
    assert circuit.weight_names == ("a", "w1", "w2")


def test_inverse():
    circuit = random_circuit(3, 40, 3).diagonal([1, 1j], 2)
    torch.testing.assert_close(_matrix(circuit.inverse()), _matrix(circuit).mH)


def test_bind():
    circuit = random_circuit(3, 30, 4)
    bound = circuit.bind(WEIGHTS)
    assert bound.n_weights == 0
    torch.testing.assert_close(_matrix(bound), _matrix(circuit))
    partly = circuit.bind({"w1": -0.8, "w3": 0.6})
    assert partly.n_weights == 2
    torch.testing.assert_close(partly.matrix(WEIGHTS[[0, 2]], INPUTS), _matrix(circuit))


@pytest.mark.parametrize("seed", range(3))
def test_round_trips(seed):
    circuit = random_circuit(3, 30, seed).rx("a", 0).post_select(1, 1).channel("depolarizing", "p", 0)
    circuit.channel([[[1, 0], [0, 0.8]], [[0, 0], [0, 0.6]]], 2)
    for again in (
        Circuit.from_dict(json.loads(json.dumps(circuit.to_dict()))),
        pickle.loads(pickle.dumps(circuit)),
        copy.deepcopy(circuit),
        circuit.copy(),
    ):
        assert again.key == circuit.key
        assert again.ops == circuit.ops
        assert again.weight_names == circuit.weight_names


def test_key_is_the_structure():
    keys = {
        Circuit(2).rx("a", 0).key,
        Circuit(2).rx("a", 1).key,
        Circuit(3).rx("a", 0).key,
        Circuit(2).ry("a", 0).key,
        Circuit(2).rx(0.5, 0).key,
        Circuit(2).rx(2 * weight(0), 0).key,
        Circuit(2).rx("a", 0).x(1).key,
    }
    assert len(keys) == 7
    assert Circuit(2).rx("a", 0).key == Circuit(2).rx(weight(0), 0).key
    circuit = Circuit(2).rx("a", 0)
    before = circuit.key
    circuit.n_inputs = 3
    assert circuit.key != before
    assert Circuit(1).rx(-0.5, 0).key == Circuit(1).rx(0.5, 0).inverse().key


def test_depth_and_counts():
    circuit = Circuit(3).h(0).h(1).cx(0, 1).rx("a", 2).cx(1, 2).z(0)
    assert circuit.depth == 3
    assert repr(circuit) == "Circuit(n_qubits=3, gates=6, weights=1, inputs=0, depth=3)"
    assert circuit.summary()["gates"] == {"h": 2, "cx": 2, "rx": 1, "z": 1}


def test_post_selection():
    circuit = Circuit(2).ry("a", 0).cx(0, 1).ry(0.3, 1).post_select(0, 1)
    weights = torch.tensor([1.1], dtype=torch.float64, requires_grad=True)
    state = circuit.state(weights)
    torch.testing.assert_close(torch.linalg.vector_norm(state), torch.tensor(1.0).double())
    # Given wire 0 reads 1, wire 1 was in 1 before its turn.
    expected = torch.tensor([0, 0, -torch.sin(torch.tensor(0.15).double()), torch.cos(torch.tensor(0.15).double())])
    torch.testing.assert_close(state.real.detach(), expected)
    soft = Circuit(2).ry("a", 0).cry("a", 0, 1).post_select(1, 1).ry("a", 1)
    assert torch.autograd.gradcheck(lambda w: soft.expval(["X0", "Z1 X0"], w), weights)


def test_a_property_that_fails_says_why():
    class Broken(Circuit):
        @property
        def key(self):
            return self.n_qubits.width

    with pytest.raises(AttributeError, match="'int' object has no attribute 'width'"):
        _ = Broken(2).key
