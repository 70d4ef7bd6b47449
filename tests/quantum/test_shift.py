"""Gradients from further runs against backpropagation."""

from __future__ import annotations

import math

import pytest
import torch

from tests.quantum.samples import random_circuit
from zoo.quantum.circuit import Circuit, feature, weight
from zoo.quantum.gates import GATES
from zoo.quantum.running import shift

OBSERVABLES = ["Z0", "X0 Y1 - 0.5 Z2", "|01> 2, 0"]


def _case(seed: int, batch: int | None, dtype: torch.dtype, own_weights: bool = False):
    """A circuit over the whole set of gates, weights and features, all with gradients."""
    generator = torch.Generator().manual_seed(seed)
    circuit = random_circuit(3, 15, seed)
    lead = () if batch is None else (batch,)
    weights = torch.randn(*(lead if own_weights else ()), circuit.n_weights, generator=generator, dtype=torch.float64)
    inputs = torch.randn(*lead, circuit.n_inputs, generator=generator, dtype=torch.float64)
    return circuit, weights.to(dtype).requires_grad_(), inputs.to(dtype).requires_grad_()


def _gradients(out, *tensors):
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(out.dtype)
    return torch.autograd.grad((out * cotangent).sum(), tensors)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("own_weights", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("batch", [None, 0, 1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_parameter_shift(seed, batch, own_weights, dtype, limit):
    circuit, weights, inputs = _case(seed, batch, dtype, own_weights)
    found = {}
    for diff_method in ("parameter_shift", "backprop"):
        out = circuit.expval(OBSERVABLES, weights, inputs, diff_method=diff_method)
        found[diff_method] = out, *_gradients(out, weights, inputs)
    for shifted, exact in zip(*found.values(), strict=True):
        # The gradient of a weight is a sum over its uses, each with a scale of up to 2.
        torch.testing.assert_close(shifted, exact, atol=limit * 10, rtol=limit)


@pytest.mark.parametrize("name", [name for name, gate in GATES.items() if gate.n_angles])
def test_each_gate(name):
    gate = GATES[name]
    wires = list(range(gate.n_wires or 3))
    circuit = Circuit(3).rot(0.3, 0.8, -0.4, 0).u3(0.9, 0.1, 0.5, 1).cry(1.1, 0, 2).ry(0.4, 2)
    word = ["xyz"] if name == "pauli_rot" else []
    getattr(circuit, name)(*word, *(weight(i) for i in range(gate.n_angles)), wires)
    circuit.rot(0.2, 0.7, 0.4, 0).rx(0.6, 1).cx(1, 2)
    weights = torch.tensor([0.7, -1.2, 0.4], dtype=torch.float64)[: gate.n_angles].requires_grad_()
    grads = [
        torch.autograd.grad(circuit.expval(["Z0 Y1", "X2", "Z1"], weights, diff_method=m).sum(), weights)[0]
        for m in ("parameter_shift", "backprop")
    ]
    torch.testing.assert_close(*grads, atol=1e-12, rtol=0)
    assert grads[0].abs().min() > 1e-3


def test_only_what_wants_a_gradient_is_shifted():
    circuit, weights, inputs = _case(0, 3, torch.float64)
    for frozen in (0, 1):
        tensors = [t.detach() if i == frozen else t for i, t in enumerate((weights, inputs))]
        grads = [
            _gradients(circuit.expval(OBSERVABLES, *tensors, diff_method=m), tensors[1 - frozen])[0]
            for m in ("parameter_shift", "backprop")
        ]
        torch.testing.assert_close(*grads, atol=1e-11, rtol=0)


def test_batch_of_states():
    """Shared weights, a state of each sample: the gradient is the sum over samples."""
    circuit = Circuit(3).rx("a", 0).cx(0, 1).crot("b", "a", 0.2, 1, 2)
    state = torch.randn(5, 8, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    state = state / state.norm(dim=-1, keepdim=True)
    weights = torch.tensor([0.3, 0.9], dtype=torch.float64, requires_grad=True)
    grads = [
        torch.autograd.grad(circuit.expval("z", weights, state=state, diff_method=m).sum(), weights)[0]
        for m in ("parameter_shift", "backprop")
    ]
    torch.testing.assert_close(*grads)


def test_probabilities_and_variances():
    circuit, weights, inputs = _case(1, 2, torch.float64)
    for ask in (
        lambda m: circuit.probs(weights, inputs, wires=[2, 0], diff_method=m),
        lambda m: circuit.var(OBSERVABLES, weights, inputs, diff_method=m),
    ):
        shifted, exact = (_gradients(ask(m), weights, inputs) for m in ("parameter_shift", "backprop"))
        torch.testing.assert_close(shifted, exact, atol=1e-10, rtol=1e-10)


def test_second_derivative():
    circuit = Circuit(2).rx("a", 0).cry("b", 0, 1).rzz(weight("a") * 0.5, 0, 1).rx(feature(0), 1)
    weights = torch.tensor([0.3, 0.9], dtype=torch.float64)
    inputs = torch.tensor([0.4], dtype=torch.float64)
    hessians = [
        torch.autograd.functional.hessian(lambda w, m=m: circuit.expval("Z0 Z1", w, inputs, diff_method=m), weights)
        for m in ("parameter_shift", "backprop")
    ]
    torch.testing.assert_close(*hessians)


def test_finite_differences():
    circuit, weights, inputs = _case(2, 3, torch.float64)
    close, exact = (
        _gradients(circuit.expval(OBSERVABLES, weights, inputs, diff_method=m), weights, inputs)
        for m in ("finite_diff", "backprop")
    )
    torch.testing.assert_close(close, exact, atol=1e-7, rtol=1e-7)


def test_simultaneous_perturbation_is_right_on_average():
    """Every sample has directions of its own."""
    circuit = Circuit(2).rx("a", 0).ry("b", 1).cx(0, 1).rx("a", 1)
    weights = torch.tensor([0.3, 0.9], dtype=torch.float64).repeat(400, 1).requires_grad_()
    exact = torch.autograd.grad(circuit.expval("Z1", weights).sum(), weights)[0]
    for directions in (1, 50):
        options = {"directions": directions, "generator": torch.Generator().manual_seed(0)}
        values = circuit.expval("Z1", weights, diff_method="spsa", **options)
        drawn = torch.autograd.grad(values.sum(), weights)[0]
        error = (drawn.mean(0) - exact[0]).abs()
        assert (error < 4 * drawn.std(0) / math.sqrt(400)).all()
        assert drawn.std(0).max() < 1.2 / math.sqrt(directions)


@pytest.mark.parametrize("diff_method", ["auto", "parameter_shift", "finite_diff", "spsa"])
def test_shots_have_gradients(diff_method):
    circuit, weights, inputs = _case(3, 2, torch.float64)
    exact = _gradients(circuit.expval(OBSERVABLES, weights, inputs), weights, inputs)
    drawn = []
    for seed in range(20):
        options = {"shots": 200, "diff_method": diff_method, "generator": torch.Generator().manual_seed(seed)}
        drawn.append(_gradients(circuit.expval(OBSERVABLES, weights, inputs, **options), weights, inputs))
    for i in range(2):
        each = torch.stack([gradients[i] for gradients in drawn])
        error = (each.mean(0) - exact[i]).abs()
        curvature = 0.05 if diff_method in ("finite_diff", "spsa") else 0
        assert (error <= 4 * each.std(0) / math.sqrt(20) + curvature + 1e-12).all()
        assert error.max() > 0


def test_noisy_circuits():
    circuit = Circuit(2).rx("a", 0).channel("amplitude_damping", 0.2, 0).crx("b", 0, 1).channel("depolarizing", 0.1, 1)
    weights = torch.tensor([0.3, 0.9], dtype=torch.float64, requires_grad=True)
    grads = [
        torch.autograd.grad(circuit.expval("Z1", weights, diff_method=m), weights)[0]
        for m in ("parameter_shift", "backprop")
    ]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("at_once", [1, 4 * 64, 2**22])
def test_runs_in_pieces(at_once, monkeypatch):
    """However few runs are held at once, the gradient is the same."""
    monkeypatch.setattr(shift, "_AT_ONCE", at_once)
    circuit = Circuit(3).rx("a", 0).cry("b", 0, 1).rzz("a", 1, 2).ry("b", 2).channel("bit_flip", 0.1, 0)
    weights = torch.tensor([0.3, 0.9], dtype=torch.float64, requires_grad=True)
    shifted, exact = (
        torch.autograd.grad(circuit.expval("Z0 Y2", weights, diff_method=m), weights)[0]
        for m in ("parameter_shift", "backprop")
    )
    torch.testing.assert_close(shifted, exact)


def test_refusals():
    weights = torch.tensor([0.3], requires_grad=True)
    with pytest.raises(ValueError, match="post_select makes them others"):
        Circuit(2).rx("a", 0).post_select(0, 0).expval("Z1", weights, diff_method="parameter_shift")
    with pytest.raises(ValueError, match="channel makes them others"):
        Circuit(1).channel("bit_flip", "p", 0).expval("Z0", weights, diff_method="parameter_shift")
    with pytest.raises(ValueError, match="no gradient for the state"):
        state = torch.tensor([1.0, 0.0], requires_grad=True)
        Circuit(1).rx("a", 0).expval("Z0", weights, state=state, diff_method="finite_diff")
    for method in ("parameter_shift", "finite_diff", "spsa"):
        with pytest.raises(ValueError, match=r"under torch\.func take diff_method='auto'"):
            torch.func.grad(lambda w, m=method: Circuit(1).rx("a", 0).expval("Z0", w, diff_method=m))(weights.detach())
    with pytest.raises(ValueError, match="did you mean 'parameter_shift'"):
        Circuit(1).rx("a", 0).expval("Z0", weights, diff_method="parameter-shift")
