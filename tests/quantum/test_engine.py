"""The fast way to a state against the plain one, values and gradients."""

from __future__ import annotations

import copy
import pickle
import random

import pytest
import torch

from tests.quantum.samples import random_circuit, random_unitary
from zoo.quantum.circuit import Circuit, feature
from zoo.quantum.engine import evolve
from zoo.quantum.reference import reference_state

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
REAL = ["x", "z", "h", "ry", "cx", "cz", "ch", "swap", "ccx", "cswap", "ccz", "single_excitation"]
DIAGONAL = ["rz", "phase", "rzz", "cphase", "crz", "multirz", "cx", "swap", "x", "s", "t", "ccx", "h"]
PAULIS = ["pauli_rot", "rxx", "ryy", "rzz", "rx", "h"]


def values(circuit, seed, dtype=torch.float64, batch=5, own_weights=False, given=False):
    """Weights, inputs and an initial state that collect gradients."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = draw(*([batch] if own_weights else []), circuit.n_weights)
    inputs = draw(batch, circuit.n_inputs)
    tensors = [weights.to(dtype).requires_grad_(), inputs.to(dtype).requires_grad_()]
    if given:
        state = torch.complex(draw(batch, 2**circuit.n_qubits), draw(batch, 2**circuit.n_qubits))
        state = state / torch.linalg.vector_norm(state, dim=-1, keepdim=True)
        tensors.append(state.to(torch.complex64 if dtype == torch.float32 else torch.complex128).requires_grad_())
    return tensors


def loss_of(state):
    """Depends on phases and on sizes of all amplitudes."""
    places = torch.arange(1, state.shape[1] + 1, dtype=state.real.dtype) / state.shape[1]
    return (state.real * places.cos() + state.imag.square() * places).sum()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("names", [None, REAL, DIAGONAL, PAULIS], ids=["all", "real", "diagonal", "paulis"])
@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 12))])
def test_random_circuits(seed, names, dtype):
    draw = random.Random(seed)
    n, batch = draw.randint(1, 8), draw.choice([0, 1, 5, 19])
    circuit = random_circuit(n, 40, seed, names=names, sources=draw.choice(["cwi", "w", "ci"]))
    tensors = values(circuit, seed, dtype, batch, own_weights=draw.random() < 0.3, given=draw.random() < 0.4)
    expected = reference_state(circuit, *tensors)
    expected = expected.expand(batch, -1)
    wanted = torch.autograd.grad(loss_of(expected), tensors, materialize_grads=True, allow_unused=True)
    close = {"rtol": 0, "atol": TOLERANCE[dtype] * max(1, batch)}
    for method in ("adjoint", "backprop"):
        found = evolve(circuit, *tensors, diff_method=method)
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE[dtype])
        grads = torch.autograd.grad(loss_of(found), tensors, materialize_grads=True, allow_unused=True)
        for grad, value in zip(grads, wanted, strict=True):
            torch.testing.assert_close(grad, value, **close)
    with torch.no_grad():
        torch.testing.assert_close(evolve(circuit, *tensors), expected.detach(), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("n", [9, 13])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_wide_circuits(n, batch):
    circuit = random_circuit(n, 60, n, sources="cw")
    tensors = values(circuit, n, batch=batch, given=True)
    found, expected = (run(circuit, *tensors) for run in (evolve, reference_state))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    grads = [torch.autograd.grad(loss_of(result), (tensors[0], tensors[2])) for result in (found, expected)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-11)


def test_no_ops_and_no_batch():
    nothing = torch.zeros(0)
    assert evolve(Circuit(2), nothing).tolist() == [[1, 0, 0, 0]]
    assert evolve(Circuit(1).x(0), nothing).tolist() == [[0, 1]]
    single = evolve(Circuit(2).h(0).rx(feature(0), 1), nothing, torch.tensor([0.3]))
    torch.testing.assert_close(single, reference_state(Circuit(2).h(0).rx(0.3, 1), nothing, nothing))


def test_one_given_state_serves_all_samples():
    circuit = Circuit(3).cx(0, 1).ry(feature(0), 2).cz(1, 2).rx("a", 0)
    weights, inputs = values(circuit, 0)
    state = random_unitary(3, 0)[:1].requires_grad_()
    found, expected = (run(circuit, weights, inputs, state) for run in (evolve, reference_state))
    torch.testing.assert_close(found, expected)
    grads = [torch.autograd.grad(loss_of(result), state)[0] for result in (found, expected)]
    torch.testing.assert_close(*grads)


def test_real_circuits_stay_real():
    circuit = Circuit(3).h(0).ry("a", 1).cx(0, 1).cz(1, 2).ry(feature(0), 2)
    weights, inputs = values(circuit, 0)
    found = evolve(circuit, weights, inputs, keep_real=True)
    assert found.dtype == torch.float64
    assert evolve(circuit, weights, inputs).dtype == torch.complex128
    assert evolve(Circuit(1).rx("a", 0), weights, keep_real=True).is_complex()


@pytest.mark.parametrize("given", [False, True])
def test_second_derivatives(given):
    circuit = random_circuit(3, 20, 1, sources="wi")
    tensors = values(circuit, 1, batch=2, given=given)
    vectors = [t.detach() for t in tensors]

    def of(run):
        leaves = [t.clone().requires_grad_() for t in vectors]
        first = torch.autograd.grad(loss_of(run(circuit, *leaves)), leaves, create_graph=True)
        return torch.autograd.grad(sum((g.abs() ** 2).sum() for g in first), leaves)

    for found, expected in zip(of(evolve), of(reference_state), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("names", [None, DIAGONAL])
def test_gradients_numerically(names):
    circuit = random_circuit(3, 15, 5, sources="wi", names=names)
    weights, inputs = values(circuit, 5, batch=2)

    def run(weights, inputs):
        return torch.view_as_real(evolve(circuit, weights, inputs))

    assert torch.autograd.gradcheck(run, (weights, inputs))
    assert torch.autograd.gradgradcheck(run, (weights, inputs))


def test_functional_transforms():
    circuit = random_circuit(3, 20, 2, sources="wi")
    weights, inputs = (t.detach() for t in values(circuit, 2))

    def run(weights, inputs):
        return torch.view_as_real(evolve(circuit, weights, inputs)).sum(0)

    found = torch.func.jacrev(run)(weights, inputs)
    expected = torch.autograd.functional.jacobian(lambda w: run(w, inputs), weights)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.func.jacfwd(run)(weights, inputs), expected)
    each = torch.func.vmap(lambda x: run(weights, x[None]))(inputs)
    torch.testing.assert_close(each, torch.view_as_real(evolve(circuit, weights, inputs)))


@pytest.mark.parametrize("seed", range(3))
def test_undoing_a_thousand_gates_in_float32(seed):
    """The adjoint pass comes back to the state at the start."""
    circuit = Circuit(6)
    for layer in range(100):
        for wire in range(6):
            circuit.rot(*(f"{name}{layer}_{wire}" for name in "abc"), wire)
        for wire in range(4):
            circuit.cx(wire, (wire + layer % 5 + 1) % 6)
    assert len(circuit) == 1000
    weights = torch.randn(circuit.n_weights, generator=torch.Generator().manual_seed(seed))
    there = evolve(circuit, weights)
    back = evolve(circuit.inverse(), weights, state=there)
    assert abs(back[0, 0] - 1) < 1e-5
    assert back[0, 1:].abs().max() < 1e-5


def test_memory_kept_for_backward_is_one_state():
    """However deep the circuit, beside the product state at the start and the small matrices of the gates."""
    kept = {}
    for layers in (4, 40):
        circuit = Circuit(12).ry(feature(0), 3)
        for layer in range(layers):
            for wire in range(12):
                circuit.rot(f"a{wire}", f"b{layer}", f"c{wire}", wire)
            for wire in range(12):
                circuit.cx(wire, (wire + layer % 11 + 1) % 12)
            circuit.rzz("a", 0, 1).rxx("b", 4, 7)
        weights = torch.randn(circuit.n_weights, requires_grad=True)
        sizes: dict[int, int] = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            state = evolve(circuit, weights, torch.randn(64, 1))
        kept[layers] = sum(sizes.values())
    assert kept[4] < 1.2 * state.nbytes
    assert kept[40] - kept[4] < 0.3 * state.nbytes


def test_circuits_are_copied_and_pickled():
    circuit = random_circuit(3, 20, 3)
    tensors = values(circuit, 3)
    expected = evolve(circuit, *tensors)
    for other in (copy.deepcopy(circuit), pickle.loads(pickle.dumps(circuit))):
        torch.testing.assert_close(evolve(other, *tensors), expected, rtol=0, atol=0)


def test_a_circuit_that_grew_is_compiled_anew():
    circuit = Circuit(1).x(0)
    nothing = torch.zeros(0)
    assert evolve(circuit, nothing).tolist() == [[0, 1]]
    assert evolve(circuit.x(0), nothing).tolist() == [[1, 0]]


def test_post_selection_is_differentiated():
    circuit = Circuit(2).ry("a", 0).cx(0, 1).post_select(0, 1).rx("b", 1)
    weights = torch.tensor([0.4, 0.9], dtype=torch.float64, requires_grad=True)
    found = evolve(circuit, weights)
    torch.testing.assert_close(found, reference_state(circuit, weights, weights[:0]))
    assert torch.autograd.gradcheck(lambda w: torch.view_as_real(evolve(circuit, w)), weights)


def test_unknown_method():
    with pytest.raises(ValueError, match="did you mean 'adjoint'"):
        evolve(Circuit(1), torch.zeros(0), diff_method="adjont")
