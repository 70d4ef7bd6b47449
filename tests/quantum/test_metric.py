"""The metric of a circuit's states: against fidelities, closed forms and derivatives taken another way."""

import math

import pytest
import torch

from tests.layers.answers import answers
from tests.quantum.samples import random_circuit, strongly_entangling
from zoo import quantum as zq
from zoo.quantum import metric
from zoo.quantum.circuit import Circuit, weight
from zoo.quantum.reference import reference_state


def case(n=3, layers=2, batch=4, dtype=torch.float64):
    torch.manual_seed(0)
    circuit = strongly_entangling(n, layers)
    return circuit, torch.randn(circuit.n_weights, dtype=dtype), torch.randn(batch, n, dtype=dtype)


def by_reverse_mode(circuit, weights, inputs):
    """The definition, with derivatives of the plain simulation."""
    total = torch.zeros(len(weights), len(weights), dtype=weights.dtype)
    for row in inputs:

        def real(w, row=row):
            return torch.view_as_real(reference_state(circuit, w, row)[0])

        psi = torch.view_as_complex(real(weights))
        moves = torch.view_as_complex(torch.autograd.functional.jacobian(real, weights).movedim(1, -1).contiguous())
        along = psi.conj() @ moves
        total += (moves.mH @ moves - torch.outer(along.conj(), along)).real
    return total / len(inputs)


@pytest.mark.parametrize("seed", range(12))
def test_any_gates_as_the_definition_says(seed):
    circuit = random_circuit(1 + seed % 5, 20, seed)
    torch.manual_seed(seed)
    weights, inputs = torch.randn(4, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    found = zq.metric_tensor(circuit, weights, inputs)
    torch.testing.assert_close(found, by_reverse_mode(circuit, weights, inputs), rtol=0, atol=1e-12)


def test_a_small_step_loses_so_much_fidelity():
    circuit, weights, inputs = case()
    step = 1e-4 * torch.nn.functional.normalize(torch.randn_like(weights), dim=0)
    # The mean of both signs has no third order.
    before, *after = (circuit.state(weights + sign * step, inputs) for sign in (0, 1, -1))
    lost = torch.stack([1 - (before.conj() * state).sum(-1).abs().square() for state in after]).mean()
    torch.testing.assert_close(step @ zq.metric_tensor(circuit, weights, inputs) @ step, lost, rtol=1e-5, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rot_of_one_qubit(dtype):
    """RZ of |0> is a phase; RY then turns by the whole circle; RZ about a vector at the angle b to its axis."""
    found = zq.metric_tensor(Circuit(1).rot("a", "b", "c", 0), torch.tensor([0.3, 0.7, -0.2], dtype=dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found, torch.tensor([0, 0.25, math.sin(0.7) ** 2 / 4], dtype=dtype).diag())


def test_scaled_angles_and_a_weight_used_twice():
    circuit = Circuit(2).ry(3 * weight(0), 0).ry(weight(0), 1)
    # The generators commute: variances of 3 Y/2 and Y/2 add.
    assert zq.metric_tensor(circuit, [0.4]).item() == pytest.approx((9 + 1) / 4)


def test_weights_by_name_and_a_state_to_begin_with():
    plus = torch.ones(2) / math.sqrt(2)
    circuit = Circuit(1).rx("a", 0).rz("b", 0)
    found = zq.metric_tensor(circuit, {"a": 0.1, "b": 0.2}, state=plus)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0], [0.0, 0.25]]))


def test_symmetric_and_positive_semidefinite():
    found = zq.metric_tensor(*case(4, 3))
    torch.testing.assert_close(found, found.mT, rtol=0, atol=1e-15)
    assert torch.linalg.eigvalsh(found).min() > -1e-14


@pytest.mark.parametrize("layers", [1, 2, 6])
def test_blocks_are_those_of_the_whole(layers):
    circuit, weights, inputs = case()
    whole, blocks = (
        zq.metric_tensor(circuit, weights, inputs),
        zq.metric_tensor(circuit, weights, inputs, layers=layers),
    )
    size = len(weights) // layers
    expected = torch.stack([whole[i : i + size, i : i + size] for i in range(0, len(weights), size)])
    torch.testing.assert_close(blocks, expected)


def test_the_mean_over_samples_however_many_go_at_once(monkeypatch):
    circuit, weights, inputs = case(batch=5)
    expected = torch.stack([zq.metric_tensor(circuit, weights, row) for row in inputs]).mean(0)
    torch.testing.assert_close(zq.metric_tensor(circuit, weights, inputs), expected)
    torch.testing.assert_close(zq.metric_tensor(circuit, weights, inputs.view(5, 1, 3)), expected)
    monkeypatch.setattr(metric, "_AT_ONCE", 2 * 18 * 8)
    monkeypatch.setattr(metric, "_CARRIED", 5 * 2 * 8)
    torch.testing.assert_close(zq.metric_tensor(circuit, weights, inputs), expected)


def test_states_of_each_sample(monkeypatch):
    circuit, weights, inputs = case()
    states = torch.nn.functional.normalize(torch.randn(4, 8, dtype=torch.complex128), dim=-1)
    rows = [zq.metric_tensor(circuit, weights, *row[:1], state=row[1]) for row in zip(inputs, states, strict=True)]
    monkeypatch.setattr(metric, "_AT_ONCE", 18 * 8)
    torch.testing.assert_close(zq.metric_tensor(circuit, weights, inputs, state=states), torch.stack(rows).mean(0))


def test_no_gradient_whatever_surrounds_it():
    circuit, weights, inputs = case()
    expected = zq.metric_tensor(circuit, weights, inputs)
    assert not zq.metric_tensor(circuit, weights.requires_grad_(), inputs.requires_grad_()).requires_grad
    with torch.no_grad():
        torch.testing.assert_close(zq.metric_tensor(circuit, weights, inputs), expected)


def test_many_weights_by_vmap():
    circuit, weights, inputs = case()
    many = torch.stack([weights, weights + 1])
    found = torch.func.vmap(lambda w: zq.metric_tensor(circuit, w, inputs))(many)
    torch.testing.assert_close(found, torch.stack([zq.metric_tensor(circuit, w, inputs) for w in many]))


def test_low_precision_is_computed_in_float32():
    circuit, weights, inputs = case(dtype=torch.bfloat16)
    found = zq.metric_tensor(circuit, weights, inputs)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, zq.metric_tensor(circuit, weights.float(), inputs.float()).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = zq.metric_tensor(circuit, weights.float(), inputs.float())
    torch.testing.assert_close(again, zq.metric_tensor(circuit, weights.float(), inputs.float()), rtol=0, atol=0)


def test_of_a_layer_in_its_own_weights():
    torch.manual_seed(0)
    layer = zq.QuantumLayer(2, n_layers=3, reupload=True, ansatz="sim14", dtype=torch.float64)
    x = torch.randn(5, 2, dtype=torch.float64)
    found, step = layer.metric_tensor(x), 1e-5 * torch.randn_like(layer.weights)
    with torch.no_grad():
        before = layer.state(x)
        layer.weights += step
        lost = (1 - (before.conj() * layer.state(x)).sum(-1).abs().square()).mean()
    torch.testing.assert_close(step.flatten() @ found @ step.flatten(), lost, rtol=1e-3, atol=1e-15)
    assert layer.metric_tensor(x, layers=3).shape == (3, *2 * (layer.weights.shape[1],))


#: expression -> parts of the message.
CASES = {
    "zq.metric_tensor(own.copy().post_select(0), [0.1])": ["ValueError", "pure states", "no post-selections"],
    "zq.metric_tensor(own.copy().channel('depolarizing', 0.1, 0), [0.1])": ["ValueError", "no channels"],
    "zq.metric_tensor(zq.Circuit(1).h(0), None)": ["ValueError", "has no weights"],
    "zq.metric_tensor(own, torch.zeros(2, 1))": ["ValueError", "all samples share, (1,)", "row for each"],
    "zq.metric_tensor(own, [0.1], layers=0)": ["ValueError", "layers", "at least 1", "0"],
    "zq.metric_tensor(own, [0.1], layers=2)": ["ValueError", "divide the 1 weights, got 2"],
    "zq.metric_tensor(own, [0.1, 0.2])": ["ValueError", "1 weights", "(2,)"],
    "zq.metric_tensor(fed, [0.1], torch.zeros(0, 1))": ["ValueError", "mean over samples, got none"],
    "zq.metric_tensor(zq.Circuit(45).rx('a', 0), [0.1])": ["CircuitTooLarge", "45 qubits"],
}
PREPARATION = """
from zoo import quantum as zq
own = zq.Circuit(1).rx("a", 0)
fed = zq.Circuit(1).rx("a", 0).rx(zq.feature(0), 0)
"""


@pytest.fixture(scope="module")
def told():
    return answers(CASES, PREPARATION)


@pytest.mark.parametrize("case", CASES)
def test_refusal(case, told):
    for part in CASES[case]:
        assert part in told[case]
