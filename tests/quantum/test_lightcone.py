"""Causal cones: equal to the whole circuit, small where circuits are shallow, run together where they are alike."""

import pytest
import torch

from tests.quantum.goldens import DTYPES, golden
from tests.quantum.samples import random_circuit
from tests.quantum.test_mps import brickwork
from zoo.quantum.circuit import Circuit, feature, weight
from zoo.quantum.expectation import expectations
from zoo.quantum.lightcone import cone, cones, lightcone_expectations
from zoo.quantum.observables import Hermitian, parse_observables
from zoo.quantum.reference import reference_state


@pytest.mark.parametrize("dtype", DTYPES)
def test_40_qubits(dtype):
    case = golden("mps_n40_L4", dtype)
    neighbours = [f"Z{i} Z{i + 1}" for i in range(39)]
    observables = parse_observables([*(f"Z{i}" for i in range(40)), *neighbours], 40)
    circuit = brickwork(40, 4)
    found = lightcone_expectations(circuit, case["state.weights"].flatten(), case["in.x"], observables)[0]
    limit = case.meta["tolerance"]["complex64" if dtype == torch.float32 else "complex128"]
    torch.testing.assert_close(found[:40], case["out.expval_z"], rtol=0, atol=limit)
    torch.testing.assert_close(found[40:], case["out.expval_zz"], rtol=0, atol=limit)
    assert cones(circuit, observables).widest <= 10


def test_what_is_in_a_cone():
    """Z1 after CX(0, 1) depends on both wires, and not on the gates behind or beside."""
    circuit = Circuit(4).h(0).h(2).cx(0, 1).cx(2, 3).ry(weight(0), 2).rx(weight(1), 1).cx(0, 3)
    found = cone(circuit.ops, [1])
    assert found.wires == (0, 1)
    assert [circuit.ops[place].gate.name for place in found.places] == ["h", "cx", "rx"]


def test_cones_of_equal_structure_are_one_batch():
    """In the middle of 40 qubits there are two kinds, one for each parity; all words of a cone are measured at once."""
    circuit = brickwork(40, 4)
    found = cones(circuit, parse_observables("z", 40))
    assert max(len(group.columns) for group in found.groups) == 17
    assert len(found.groups) == 8
    both = cones(circuit, parse_observables(["Z5 + 0.5 X5 - 2", "Y5"], 40))
    assert [len(group.pieces) for group in both.groups] == [3]
    assert both.constants == (-2, 0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("batched", ["", "w", "i", "wi"])
def test_equals_the_whole_circuit(batched, seed):
    circuit = random_circuit(6, 14, seed)
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(*[3] * ("w" in batched), 4, dtype=torch.float64, generator=generator).requires_grad_()
    x = torch.randn(*[3] * ("i" in batched), 3, dtype=torch.float64, generator=generator).requires_grad_()
    matrix = Hermitian(torch.tensor([[0.5, 1j], [-1j, 2]]), [3])
    observables = [*parse_observables(["Z0", "0.5 X1 - Y2 Z4 + 1", "|10> 5, 2", "Z0 - Z3", "3 I"], 6), matrix]
    found = lightcone_expectations(circuit, w, x, observables)
    wanted = expectations(reference_state(circuit, w, x), observables, 6)
    assert found.shape == (3 if batched else 1, 6)
    torch.testing.assert_close(found, wanted.expand_as(found), rtol=0, atol=1e-12)
    cotangent = torch.randn(found.shape, dtype=torch.float64, generator=generator)
    mine = torch.autograd.grad((found * cotangent).sum(), (w, x), materialize_grads=True)
    its = torch.autograd.grad((wanted * cotangent).sum(), (w, x), materialize_grads=True)
    for one, other in zip(mine, its, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_cones_one_after_the_other(monkeypatch):
    """What runs when all cones together would be too many amplitudes."""
    circuit = brickwork(12, 2)
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(24, dtype=torch.float64, generator=generator)
    x = torch.randn(5, 12, dtype=torch.float64, generator=generator)
    observables = parse_observables("z", 12)
    together = lightcone_expectations(circuit, w, x, observables)
    seen = []

    def evolve(circuit, weights, inputs):
        seen.append((tuple(weights.shape), tuple(inputs.shape)))
        return reference_state(circuit, weights, inputs)

    monkeypatch.setattr("zoo.quantum.lightcone._AT_ONCE", 2**4)
    apart = lightcone_expectations(circuit, w, x, observables, evolve)
    torch.testing.assert_close(apart, together, rtol=0, atol=1e-14)
    assert len(seen) == 12
    assert all(len(weights) == 1 and inputs[0] == 5 for weights, inputs in seen)


def test_post_selection_elsewhere_is_not_dropped():
    circuit = Circuit(4).h(0).cx(0, 1).ry(weight(0), 1).cx(1, 2).ry(weight(1), 3).post_select(2, 1)
    w, x = torch.tensor([0.7, 0.4], dtype=torch.float64), torch.empty(0, dtype=torch.float64)
    observables = parse_observables(["Z0", "Z3"], 4)
    found = lightcone_expectations(circuit, w, x, observables)
    torch.testing.assert_close(found, expectations(reference_state(circuit, w, x), observables, 4), rtol=0, atol=1e-12)


def test_cones_found_in_inference_serve_training():
    circuit, w, x = brickwork(5, 3), torch.rand(15), torch.rand(2, 5)
    observables = parse_observables("z", 5)
    with torch.inference_mode():
        first = lightcone_expectations(circuit, w, x, observables)
    again = lightcone_expectations(circuit, w.requires_grad_(), x, observables)
    again.sum().backward()
    assert torch.equal(first, again)
    assert w.grad is not None


def test_empty_batch():
    out = lightcone_expectations(brickwork(6, 2), torch.zeros(12), torch.zeros(0, 6), parse_observables("z", 6))
    assert out.shape == (0, 6)


def test_a_gradient_of_zeros_in_what_no_cone_reads():
    circuit = Circuit(2).ry(feature(0), 0).rx("a", 1)
    weights, inputs = torch.tensor([0.1], requires_grad=True), torch.tensor([0.2], requires_grad=True)
    for values in (
        circuit.expval("Z0", weights, inputs, method="lightcone"),
        circuit.probs(weights, inputs, wires=[0], method="lightcone")[0],
    ):
        of_weights, of_inputs = torch.autograd.grad(values, [weights, inputs])
        assert of_weights.tolist() == [0.0]
        assert of_inputs.item() != 0
