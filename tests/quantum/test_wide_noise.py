"""Noise and errors of the readout in wide circuits: by cones and chains as by all probabilities."""

import pytest
import torch

from zoo import quantum as zq
from zoo.errors import CircuitTooLarge

OBSERVABLES = ["Z0", "0.5 X0 Y1 - Z2 + 0.3", "|01> 0, 2", "Y3"]
UNEQUAL = zq.ReadoutError([0.02, 0.1, 0.0, 0.3], [0.05, 0.1, 0.2, 0.0])


def circuit() -> zq.Circuit:
    made = zq.Circuit(4).ry("a", 0).cx(0, 1).rx(zq.feature(0), 1).ry("b", 2).cz(1, 2).rot(0.1, "a", 0.3, 3).cx(2, 3)
    return made.rx("b", 3).ry(zq.feature(0), 0)


def case() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    weights, inputs = torch.randn(2, dtype=torch.float64), torch.randn(3, 1, dtype=torch.float64)
    return weights.requires_grad_(), inputs.requires_grad_()


def same(found: torch.Tensor, wanted: torch.Tensor, *tensors: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    grads = [torch.autograd.grad(values.square().sum(), tensors) for values in (found, wanted)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-11)


@pytest.mark.parametrize("readout", [zq.ReadoutError(0.1), UNEQUAL])
@pytest.mark.parametrize("method", ["mps", "lightcone"])
def test_errors_of_the_readout_without_probabilities_of_all_outcomes(method, readout):
    weights, inputs = case()
    found, wanted = (
        circuit().expval(OBSERVABLES, weights, inputs, method=m, noise=zq.NoiseModel(readout=readout))
        for m in (method, "statevector")
    )
    same(found, wanted, weights, inputs)


@pytest.mark.parametrize("ask", ["expval", "var", "probs", "density_matrix"])
def test_noise_in_cones_is_that_of_the_whole(ask):
    weights, inputs = case()
    noise = zq.NoiseModel(
        after={"1q": ("amplitude_damping", 0.1), "2q": ("depolarizing", 0.05)},
        readout=UNEQUAL if ask in ("expval", "probs") else None,
    )
    noisy = circuit().channel("bit_flip", 0.2, 1).ry("a", 1).channel("phase_damping", 0.3, 3)
    asked = [OBSERVABLES] if ask in ("expval", "var") else []
    wires = {} if asked else {"wires": [2, 0]}
    found, wanted = (
        getattr(noisy, ask)(*asked, weights, inputs, method=m, noise=noise, **wires) for m in ("lightcone", "density")
    )
    if found.is_complex():
        found, wanted = torch.view_as_real(found), torch.view_as_real(wanted)
    same(found, wanted, weights, inputs)


def test_forty_qubits():
    wide, narrow = zq.Circuit(40), zq.Circuit(3)
    for made in (wide, narrow):
        for wire in range(made.n_qubits):
            made.ry(0.1 + wire, wire)
        for wire in range(made.n_qubits - 1):
            made.rzz(0.7, wire, wire + 1).rx(0.2, wire)
    noise = zq.NoiseModel(after={"1q": ("depolarizing", 0.01), "2q": ("amplitude_damping", 0.1)}, readout=0.1)
    found, wanted = (made.expval(["Z0", "X0 Y1"], noise=noise, dtype=torch.float64) for made in (wide, narrow))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_what_no_way_gives():
    wide = zq.Circuit(40)
    for wire in range(39):
        wide.ry(0.1, wire).cx(wire, wire + 1)
    with pytest.raises(CircuitTooLarge, match="no other way fits either: with noise"):
        wide.expval("Z39", noise=zq.NoiseModel(after={"1q": ("depolarizing", 0.01)}))
    with pytest.raises(ValueError, match=r"method='mps' simulates no noise; use one of .*'lightcone'"):
        wide.expval("Z0", noise=zq.NoiseModel(after={"1q": ("depolarizing", 0.01)}), method="mps")
    every = " ".join(f"Z{wire}" for wire in range(40))
    read = zq.NoiseModel(readout=zq.ReadoutError(0.1, 0.2))
    with pytest.raises(ValueError, match="is a sum of 1099511627776 words, at most 4096 are computed: give shots"):
        wide.expval(every, noise=read, method="mps")
    wide.expval(every, noise=zq.NoiseModel(readout=0.1), method="mps")
