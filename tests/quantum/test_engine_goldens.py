"""The fast way to a state against independent simulators: a real circuit, and one of commuting rotations."""

from __future__ import annotations

import pytest
import torch

from tests.quantum.goldens import DTYPES, golden
from zoo.quantum.circuit import Circuit, feature, weight
from zoo.quantum.engine import evolve
from zoo.quantum.expectation import expectations
from zoo.quantum.observables import parse_observables

METHODS = ("adjoint", "backprop")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_dressed(method, dtype):
    data = golden("dressed_n4", dtype)
    circuit = Circuit(4)
    for wire in range(4):
        circuit.h(wire).ry(feature(wire), wire)
    for layer in range(6):
        circuit.cx(0, 1).cx(2, 3).cx(1, 2)
        for wire in range(4):
            circuit.ry(weight(4 * layer + wire), wire)
    x, weights = data.leaf("in.x"), data.leaf("state.weights")
    state = evolve(circuit, weights.flatten(), x, diff_method=method, keep_real=True)
    assert state.dtype == dtype  # all gates are real
    out = expectations(state, parse_observables("z", 4), 4)
    data.check(out, data["out.expval"], "values")
    (out * data["in.cotangent"]).sum().backward()
    data.check(weights.grad, data["grad.weights"], "gradient of the weights")
    data.check(x.grad, data["grad.x"], "gradient of the features")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_readout(method, dtype):
    data = golden("fn_zx_xx_n6", dtype)
    n = data.kwargs["n_data"]
    circuit = Circuit(n + 1)
    for wire in range(n):
        circuit.rx(torch.pi * feature(wire), wire)
    for layer, word in enumerate(data.kwargs["layers"]):
        for wire in range(n):
            circuit.pauli_rot(word.lower(), -2 * weight(layer * n + wire), wire, n)
    theta = data.leaf("state.theta")
    state = evolve(circuit, theta.flatten(), data["in.bits"].to(dtype), diff_method=method)
    out = expectations(state, parse_observables([f"Y{n}"], n + 1), n + 1)[:, 0]
    data.check(out, data["out.expval"], "values")
    (1 - data["in.labels"].to(dtype) * out).mean().backward()
    data.check(theta.grad, data["grad.theta"], "gradient of the weights")
