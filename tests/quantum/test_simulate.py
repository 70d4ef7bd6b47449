"""Every way to simulate and to differentiate gives the same answers; samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.quantum.samples import random_circuit
from zoo.errors import CircuitTooLarge
from zoo.quantum import simulate
from zoo.quantum.circuit import Circuit, feature, weight
from zoo.quantum.noise import NoiseModel, ReadoutError, make_channel
from zoo.quantum.observables import Hermitian

OBSERVABLES = ["Z0", "X0 Y1 - 0.5 Z2 + 0.25", "|01> 2, 0", "Y1"]
METHODS = ("statevector", "reference", "density", "mps", "lightcone")


def _case(seed: int, dtype: torch.dtype, lead: tuple[int, ...] = (3,)):
    generator = torch.Generator().manual_seed(seed)
    circuit = random_circuit(3, 15, seed)
    weights = torch.randn(circuit.n_weights, generator=generator, dtype=torch.float64).to(dtype)
    inputs = torch.randn(*lead, circuit.n_inputs, generator=generator, dtype=torch.float64).to(dtype)
    return circuit, weights.requires_grad_(), inputs.requires_grad_()


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 2e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("seed", range(4))
def test_methods_agree(seed, dtype, limit):
    circuit, weights, inputs = _case(seed, dtype)
    found = []
    for method in METHODS:
        values = circuit.expval(OBSERVABLES, weights, inputs, method=method)
        assert values.dtype == dtype
        found.append((values, *torch.autograd.grad(values.square().sum(), (weights, inputs))))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=limit, rtol=limit)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("seed", range(4))
def test_gradients_agree(seed, dtype, limit):
    circuit, weights, inputs = _case(seed, dtype)
    found = [
        torch.autograd.grad(
            circuit.expval(OBSERVABLES, weights, inputs, diff_method=diff_method).square().sum(), (weights, inputs)
        )
        for diff_method in ("adjoint", "backprop", "parameter_shift")
    ]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=10 * limit, rtol=limit)


@pytest.mark.parametrize("method", METHODS)
def test_leading_dimensions(method):
    circuit, weights, inputs = _case(1, torch.float64, (2, 4))
    values = circuit.expval(OBSERVABLES, weights, inputs, method=method)
    assert values.shape == (2, 4, 4)
    for i in range(2):
        one = circuit.expval(OBSERVABLES, weights, inputs[i, 1], method=method)
        torch.testing.assert_close(values[i, 1], one)
    assert circuit.expval(OBSERVABLES, weights, inputs[:0], method=method).shape == (0, 4, 4)
    assert circuit.expval(OBSERVABLES, weights, inputs[:1, :1], method=method).shape == (1, 1, 4)
    assert circuit.expval("Z0", weights, inputs, method=method).shape == (2, 4)


def test_weights_of_each_sample():
    circuit, _, inputs = _case(2, torch.float64)
    weights = torch.randn(3, circuit.n_weights, dtype=torch.float64)
    values = circuit.expval(OBSERVABLES, weights, inputs)
    for i in range(3):
        torch.testing.assert_close(values[i], circuit.expval(OBSERVABLES, weights[i], inputs[i]))


@pytest.mark.parametrize("method", ["statevector", "density", "mps"])
def test_variances_probabilities_and_densities(method):
    circuit, weights, inputs = _case(3, torch.float64)
    state = circuit.state(weights, inputs)
    torch.testing.assert_close(circuit.probs(weights, inputs, method=method), state.abs().square())
    exact = circuit.density_matrix(weights, inputs, wires=[2, 0], method="reference")
    torch.testing.assert_close(circuit.density_matrix(weights, inputs, wires=[2, 0], method=method), exact)
    torch.testing.assert_close(circuit.density_matrix(weights, inputs), state[..., None] * state[:, None].conj())
    words = circuit.expval(["Z0", "Y1"], weights, inputs)
    torch.testing.assert_close(circuit.var(["Z0", "Y1"], weights, inputs, method=method), 1 - words**2)


def test_all_real_circuits_are_asked_the_same():
    circuit = Circuit(3).h(0).ry("a", 1).cx(0, 2).cry("a", 2, 1).ccz(0, 1, 2).ry(feature(0), 2)
    weights, inputs = torch.tensor([0.7]).double(), torch.tensor([[0.3], [1.1]]).double()
    matrix = torch.tensor([[0.3, 1j], [-1j, 0.2]], dtype=torch.complex128)
    observables = ["X0 Z1", "Y1 Y2", "Y0", "|10> 2, 1", Hermitian(matrix, [2])]
    for ask in (circuit.expval, circuit.var):
        real, full = (ask(observables, weights, inputs, method=m) for m in ("statevector", "reference"))
        torch.testing.assert_close(real, full)
    assert circuit.state(weights, inputs).is_complex()
    assert circuit.density_matrix(weights, inputs, wires=[1]).is_complex()


def test_states_to_begin_with():
    circuit, weights, inputs = _case(4, torch.float64)
    state = torch.nn.functional.normalize(torch.randn(3, 8, dtype=torch.complex128), dim=-1)
    matrix = circuit.matrix(weights, inputs)
    after = (matrix @ state[..., None])[..., 0]
    torch.testing.assert_close(circuit.state(weights, inputs, state=state), after)
    real = torch.nn.functional.normalize(state.real, dim=-1).requires_grad_()
    grads = [
        torch.autograd.grad(circuit.expval(OBSERVABLES, weights, inputs, state=real, method=m).sum(), real)[0]
        for m in ("statevector", "reference", "density")
    ]
    torch.testing.assert_close(grads[0], grads[1])
    torch.testing.assert_close(grads[0], grads[2])


def test_types():
    circuit = Circuit(1).rx("a", 0).ry(feature(0), 0)
    single, double = torch.tensor([0.3]), torch.tensor([0.3], dtype=torch.float64)
    assert circuit.expval("Z0", single, double).dtype == torch.float64
    assert circuit.state(single, single).dtype == torch.complex64
    assert circuit.state(single, single, dtype=torch.float64).dtype == torch.complex128
    exact = circuit.expval("Z0", single.bfloat16().float(), single.bfloat16().float())
    low = circuit.expval("Z0", single.bfloat16(), single.bfloat16())
    assert low == exact.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(circuit.expval("z", single, single), circuit.expval("z", [0.3], [0.3]))
    assert circuit.expval("Z0", [0.3], 0.3).dtype == torch.float32


@pytest.mark.parametrize("method", ["statevector", "mps", "trajectories"])
def test_samples(method):
    """Chi-square of 4,000 runs against the probabilities, two wires in another order."""
    circuit, weights, inputs = _case(5, torch.float64, (2,))
    options = {"method": method, "generator": torch.Generator().manual_seed(0)}
    bits = circuit.sample(weights, inputs, shots=4000, wires=[2, 0], **options)
    assert bits.shape == (2, 4000, 2)
    expected = 4000 * circuit.probs(weights, inputs, wires=[2, 0])
    found = torch.stack([(bits @ torch.tensor([2, 1]) == outcome).sum(-1) for outcome in range(4)], dim=-1)
    assert ((found - expected) ** 2 / expected.clamp(min=1)).sum(-1).max() < 20
    counted = circuit.counts(weights, inputs, shots=50, wires=[2, 0], generator=torch.Generator().manual_seed(1))
    assert [sum(one.values()) for one in counted] == [50, 50]
    one = circuit.counts(weights, inputs[0], shots=50, generator=torch.Generator().manual_seed(1))
    assert set(map(len, one)) == {3}


@pytest.mark.parametrize("method", ["statevector", "mps", "density", "trajectories"])
def test_shots_are_right_on_average(method):
    circuit, weights, inputs = _case(6, torch.float64, ())
    exact = circuit.expval(OBSERVABLES, weights, inputs)
    drawn = torch.stack(
        [
            circuit.expval(
                OBSERVABLES, weights, inputs, shots=100, method=method, generator=torch.Generator().manual_seed(seed)
            )
            for seed in range(20)
        ]
    )
    error = (drawn.mean(0) - exact).abs()
    assert (error <= 4 * drawn.std(0) / math.sqrt(20) + 1e-12).all()


def test_the_spread_of_shots():
    circuit = Circuit(1).ry("a", 0)
    drawn = circuit.expval("Z0", torch.full((1000, 1), 0.8), shots=64, generator=torch.Generator().manual_seed(0))
    assert abs(drawn.std().item() / (math.sin(0.8) / 8) - 1) < 0.1


def test_noise_and_errors_of_the_readout():
    circuit = Circuit(2).h(0).cx(0, 1).ry(0.4, 1)
    noise = NoiseModel(after={"2q": make_channel("depolarizing", 0.1)}, readout=ReadoutError(0.02, 0.05))
    exact = circuit.expval(["Z0", "X1"], noise=noise, dtype=torch.float64)
    read = noise.readout.apply(circuit.probs(noise=NoiseModel(after=noise.after), dtype=torch.float64), [0, 1])
    torch.testing.assert_close(circuit.probs(noise=noise, dtype=torch.float64), read)
    torch.testing.assert_close(exact[0], (read * torch.tensor([1, 1, -1, -1])).sum())
    drawn = torch.stack(
        [
            circuit.expval(
                ["Z0", "X1"],
                noise=noise,
                method="trajectories",
                trajectories=200,
                dtype=torch.float64,
                generator=torch.Generator().manual_seed(seed),
            )
            for seed in range(20)
        ]
    )
    assert ((drawn.mean(0) - exact).abs() <= 4 * drawn.std(0) / math.sqrt(20) + 1e-12).all()
    assert (circuit.probs(noise=noise, wires=[1]).sum() - 1).abs() < 1e-6


def test_wide_circuits_choose_their_method():
    circuit = Circuit(40)
    for wire in range(40):
        circuit.ry(weight(wire), wire)
    for wire in range(39):
        circuit.rzz(0.3, wire, wire + 1)
    weights = torch.linspace(-1, 1, 40, dtype=torch.float64)
    torch.testing.assert_close(circuit.expval("z", weights), weights.cos())
    torch.testing.assert_close(circuit.expval("z", weights, method="mps"), weights.cos())
    generator = torch.Generator().manual_seed(0)
    drawn = circuit.expval("z", weights, shots=400, generator=generator)
    assert (drawn - weights.cos()).abs().max() < 5 * 0.05
    assert circuit.sample(weights, shots=3, generator=generator).shape == (3, 40)
    with pytest.raises(CircuitTooLarge, match="40 qubits"):
        circuit.state(weights)


def test_what_is_discarded_is_reported():
    circuit = Circuit(4).h(0).cx(0, 1).ry(0.4, 1).cx(1, 2).rx(0.3, 2).cx(2, 3)
    found = []
    exact = circuit.expval("z", method="mps", report=found.append)
    with pytest.warns(UserWarning, match="discarded"):
        cut = circuit.expval("z", method="mps", max_bond=1, report=found.append)
    assert (found[0] < 1e-6).all()
    assert (found[1] > 1e-3).all()
    assert (exact - cut).abs().max() > 1e-3


def wide(n: int) -> tuple[Circuit, torch.Tensor, torch.Tensor]:
    """Ladders of entangling gates, shallow and narrow enough for cones and chains alike."""
    circuit = Circuit(n)
    for wire in range(n):
        circuit.ry(weight(wire), wire).rz(feature(wire % 3), wire)
    for wire in range(n - 1):
        circuit.rxx(weight(n + wire), wire, wire + 1)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2 * n - 1, dtype=torch.float64, generator=generator).requires_grad_()
    return circuit, weights, torch.randn(2, 3, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("method", ["mps", "lightcone", "density"])
def test_few_wires_and_variances_by_every_method(method):
    """Equal to what all amplitudes give, values and gradients; wires in any order."""
    circuit, weights, inputs = wide(6)
    matrix = torch.tensor([[0.5, 1j], [-1j, 2]])
    observables = [*OBSERVABLES, "X1 X2 - 2 Y1 Z2 + 0.5 Z4 + Z1", Hermitian(matrix, [3])]
    asks = (
        lambda method: circuit.probs(weights, inputs, wires=[4, 1, 2], method=method),
        lambda method: circuit.density_matrix(weights, inputs, wires=[5, 0], method=method),
        lambda method: circuit.density_matrix(weights, inputs, wires=[1, 3, 2], method=method),
        lambda method: circuit.var(observables, weights, inputs, method=method),
    )
    for ask in asks:
        found, wanted = ask(method), ask("statevector")
        torch.testing.assert_close(found, wanted)
        grads = [torch.autograd.grad(torch.view_as_real(v + 0j).square().sum(), weights)[0] for v in (found, wanted)]
        torch.testing.assert_close(*grads)


@pytest.mark.parametrize("method", ["auto", "mps", "lightcone"])
def test_few_wires_of_sixty(method):
    """Nothing of the size of the state is made: entangled pairs, one of them far apart."""
    circuit = Circuit(60).h(0).cx(0, 59).ry(2 * math.acos(math.sqrt(0.3)), 30)
    torch.testing.assert_close(circuit.probs(wires=[59, 0], method=method), torch.tensor([0.5, 0, 0, 0.5]))
    torch.testing.assert_close(circuit.probs(wires=[30], method=method), torch.tensor([0.3, 0.7]))
    bell = torch.tensor([[1, 0, 0, 1], [0] * 4, [0] * 4, [1, 0, 0, 1]]) / 2
    torch.testing.assert_close(circuit.density_matrix(wires=[0, 59], method=method), bell.cfloat())
    variances = circuit.var(["X1", "X0 X59", "Z30", "X0 + Y0 + Z59"], method=method)
    torch.testing.assert_close(variances, torch.tensor([1, 0, 0.84, 3]), atol=1e-6, rtol=1e-5)
    shares = circuit.probs(wires=[59, 0], method=method, shots=10000, generator=torch.Generator().manual_seed(0))
    assert shares[1:3].tolist() == [0, 0]
    assert float(shares[0]) == pytest.approx(0.5, abs=0.02)
    misread = circuit.probs(wires=[30], method=method, noise=NoiseModel(readout=0.1))
    torch.testing.assert_close(misread, torch.tensor([0.34, 0.66]))


def test_a_chain_opens_many_wires_in_pieces(monkeypatch):
    circuit, weights, inputs = wide(7)
    wanted = circuit.probs(weights, inputs)
    monkeypatch.setattr("zoo.quantum.mps.measure._AT_ONCE", 2)
    torch.testing.assert_close(circuit.probs(weights, inputs, method="mps"), wanted)


def test_any_number_of_shots():
    """10^12 runs are not drawn one by one: 4 sigma are 4e-6."""
    circuit = Circuit(3).ry(0.3, 0).cx(0, 1)
    options = {"shots": 10**12, "generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    found = circuit.expval(["Z0", "Z0 Z1", "X0", "Z2"], **options)
    wanted = torch.tensor([math.cos(0.3), 1, 0, 1], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, atol=4e-6, rtol=0)
    assert found[0] != math.cos(0.3)
    assert circuit.probs(**options)[[1, 2, 3, 4, 5, 7]].tolist() == [0] * 6


def test_no_samples_and_shots_give_no_gradient():
    circuit = Circuit(2).ry(feature(0), 0).rz("a", 1).cx(0, 1)
    inputs, weights = torch.zeros(0, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
    circuit.expval("z", weights, inputs, shots=5).sum().backward()
    assert weights.grad.tolist() == [0]
    assert inputs.grad.shape == (0, 1)


def test_one_wire_and_integers_of_numpy():
    circuit = Circuit(2).ry(0.3, 0).cx(0, 1)
    assert torch.equal(circuit.probs(wires=1), circuit.probs(wires=[1]))
    assert torch.equal(circuit.density_matrix(wires=np.int64(0)), circuit.density_matrix(wires=[0]))
    assert torch.equal(circuit.probs(wires=np.array([1, 0])), circuit.probs(wires=torch.tensor([1, 0])))
    z = Hermitian([[1, 0], [0, -1]], 1)
    torch.testing.assert_close(circuit.expval(z), circuit.expval("Z1"))
    assert circuit.sample(shots=3, wires=0).shape == (3, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precisions_are_computed_in_float32(dtype):
    circuit, exact = Circuit(1).rx("a", 0), torch.tensor([0.3])
    assert torch.equal(circuit.expval("Z0", exact, dtype=dtype), circuit.expval("Z0", exact).to(dtype))
    assert torch.equal(circuit.expval("Z0", exact.to(dtype)), circuit.expval("Z0", exact.to(dtype).float()).to(dtype))
    assert circuit.state(exact, dtype=dtype).dtype == torch.complex64


def test_module_functions_are_the_methods():
    circuit, weights, inputs = _case(0, torch.float64)
    torch.testing.assert_close(
        simulate.expval(circuit, OBSERVABLES, weights, inputs), circuit.expval(OBSERVABLES, weights, inputs)
    )
