"""Circuits of up to five wires, contracted to matrices whose gradients are computed by hand, against the plain way."""

from __future__ import annotations

import pytest
import torch

from tests.quantum.samples import random_circuit, reuploading, strongly_entangling
from tests.quantum.test_engine import DIAGONAL, REAL, loss_of, values
from zoo.quantum.circuit import Circuit, feature, weight
from zoo.quantum.engine import evolve
from zoo.quantum.reference import reference_state


def dressed(n: int, layers: int, odd: bool = False) -> Circuit:
    """Hadamards and RY of features, then CNOTs and RY; `odd`: with mirrors and wires that nothing turns."""
    circuit = Circuit(n)
    for wire in range(n):
        circuit.h(wire).ry(0.7 * feature(wire) + 0.2, wire)
    for layer in range(layers):
        for wire in range(n - 1):
            circuit.cx(wire, wire + 1)
        for wire in range(n):
            if odd and (layer + wire) % 3 == 0:
                continue
            if odd and wire % 2 == 0:
                circuit.h(wire)
            circuit.ry(1.3 * weight((layer * n + wire) % (5 * n)) - 0.4, wire)
            if odd:
                getattr(circuit, ("x", "z", "h")[(layer + wire) % 3])(wire)
        if odd and n > 1:
            circuit.cz(0, n - 1)
    return circuit


def mixed(n: int, layers: int) -> Circuit:
    """Runs of shared angles of several depths between turns by features."""
    circuit = Circuit(n)
    for part in range(3):
        for wire in range(n):
            circuit.ry(feature(wire), wire)
        circuit.compose(random_circuit(n, layers * (part + 1), part, sources="cw"))
    return circuit


CIRCUITS = {
    **{f"dressed {n} x {layers}": dressed(n, layers) for n in (1, 2, 3, 4, 5) for layers in (1, 2, 6)},
    **{f"odd {n} x {layers}": dressed(n, layers, odd=True) for n in (1, 3, 4, 5) for layers in (3, 8, 9)},
    **{f"deep {layers}": dressed(3, layers, odd=True) for layers in (10, 25, 40)},
    **{f"entangling {n} x {layers}": strongly_entangling(n, layers) for n in (2, 4, 5) for layers in (1, 11)},
    **{f"reuploading {n}": reuploading(n, 3) for n in (2, 4)},
    **{f"mixed {n} x {gates}": mixed(n, gates) for n in (2, 4) for gates in (4, 30)},
    "phases": dressed(4, 1).compose(random_circuit(4, 30, 1, names=DIAGONAL, sources="cw")),
    "real": dressed(4, 1).compose(random_circuit(4, 60, 2, names=REAL, sources="cw")),
    "numbers": dressed(3, 1).compose(random_circuit(3, 20, 3, sources="c")),
    "one feature for all": Circuit(3).ry(feature(0), 0).ry(feature(0), 1).ry(feature(0), 2).cx(0, 1).ry("a", 1),
}


@pytest.mark.parametrize("batch", [1, 3, 20])
@pytest.mark.parametrize("name", CIRCUITS)
def test_values_and_gradients(name, batch):
    circuit = CIRCUITS[name]
    tensors = values(circuit, len(name), batch=batch)
    found, expected = (run(circuit, *tensors) for run in (evolve, reference_state))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    keep = {"materialize_grads": True, "allow_unused": True}
    wanted = torch.autograd.grad(loss_of(expected), tensors, **keep)
    for method in ("auto", "backprop"):
        found = evolve(circuit, *tensors, diff_method=method)
        for grad, value in zip(torch.autograd.grad(loss_of(found), tensors, **keep), wanted, strict=True):
            torch.testing.assert_close(grad, value, rtol=0, atol=1e-11 * batch)
    with torch.no_grad():
        torch.testing.assert_close(evolve(circuit, *tensors), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["odd 4 x 3", "deep 25", "phases", "mixed 2 x 4"])
def test_only_some_gradients_are_asked_for(name):
    circuit = CIRCUITS[name]
    weights, inputs = values(circuit, 1, batch=3)
    wanted = torch.autograd.grad(loss_of(reference_state(circuit, weights, inputs)), (weights, inputs))
    for chosen, other, value in ((weights, inputs, wanted[0]), (inputs, weights, wanted[1])):
        other.requires_grad_(False)
        found = torch.autograd.grad(loss_of(evolve(circuit, weights, inputs)), chosen)[0]
        torch.testing.assert_close(found, value, rtol=0, atol=1e-11)
        other.requires_grad_()


@pytest.mark.parametrize("name", ["odd 4 x 3", "deep 10", "entangling 2 x 1", "mixed 2 x 4"])
def test_second_derivatives(name):
    circuit = CIRCUITS[name]
    vectors = [tensor.detach() for tensor in values(circuit, 2, batch=2)]
    found, expected = [], []
    for run, results in ((evolve, found), (reference_state, expected)):
        leaves = [tensor.clone().requires_grad_() for tensor in vectors]
        first = torch.autograd.grad(loss_of(run(circuit, *leaves)), leaves, create_graph=True)
        results += [*first, *torch.autograd.grad(sum(part.square().sum() for part in first), leaves)]
    for value, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["odd 4 x 3", "deep 10", "entangling 2 x 1"])
def test_many_gradients_at_once(name):
    circuit = CIRCUITS[name]
    weights, inputs = (tensor.detach() for tensor in values(circuit, 2, batch=2))

    def sizes(weights):
        return evolve(circuit, weights, inputs).abs().square().sum(0)

    rows = torch.autograd.functional.jacobian(sizes, weights)
    torch.testing.assert_close(torch.autograd.functional.jacobian(sizes, weights, vectorize=True), rows)
    torch.testing.assert_close(torch.func.jacfwd(sizes)(weights), rows)


def test_a_small_circuit_takes_few_operations():
    """Forward and backward of the dressed circuit, whatever its depth up to eight layers."""
    circuit = dressed(4, 6)
    tensors = values(circuit, 0, torch.float32)
    evolve(circuit, *tensors)
    with torch.profiler.profile() as profile:
        evolve(circuit, *tensors, keep_real=True).sum().backward()
    kernels = {"aten::mul", "aten::bmm", "aten::mm", "aten::cos", "aten::sin", "aten::index_select", "aten::sum"}
    assert sum(event.count for event in profile.key_averages() if event.key in kernels) < 60
