"""A circuit as a layer: golden values, shapes, starts, configurations, copies, precisions."""

import copy
import json
import pickle
import warnings
from math import pi

import pytest
import torch

from tests.quantum.goldens import DTYPES, golden
from zoo.quantum.circuit import Circuit, feature, weight
from zoo.quantum.layer import QuantumLayer
from zoo.quantum.noise import NoiseModel

SEVERAL = ["Z0", "X0 Y1", "0.5 Z0 Z2 - 1.25 X1 + 2.0 Y0 X1 Z2"]


def own_circuit() -> Circuit:
    return Circuit(2).ry(feature(0), 0).rx(2 * feature(1), 1).cx(0, 1).rz("a", 1).ry(weight("a") + 0.5, 0).rx("b", 1)


def held_to(case, layer: QuantumLayer, **parameters: str) -> None:
    """Values and gradients of a golden case."""
    with torch.no_grad():
        for name, key in parameters.items():
            held = getattr(layer, name)
            held.copy_(case[f"state.{key}"].view_as(held))
    x = case.leaf("in.x")
    y = layer(x)
    case.check(y, case["out.expval"], "expval")
    (y * case["in.cotangent"]).sum().backward()
    case.check(x.grad, case["grad.x"], "gradient of x")
    for name, key in parameters.items():
        gradient = getattr(layer, name).grad
        case.check(gradient, case[f"grad.{key}"].view_as(gradient), f"gradient of {name}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_strongly_entangling_layers_are_those_of_pennylane(dtype):
    layer = QuantumLayer(5, 5, 3, encoding="angle:y", ansatz="strongly_entangling", dtype=dtype)
    held_to(golden("strongly_entangling_n5", dtype), layer, weights="weights")


@pytest.mark.parametrize("dtype", DTYPES)
def test_reuploading_is_that_of_pennylane(dtype):
    layer = QuantumLayer(
        3, 3, 3, encoding="angle:x", ansatz="hardware_efficient", reupload=True, observables=SEVERAL, dtype=dtype
    )
    held_to(golden("reuploading_n3", dtype), layer, weights="weights", scales="scales")


def test_scales_multiply_the_features_of_their_layer():
    torch.manual_seed(0)
    free = QuantumLayer(2, 2, 2, reupload=True, init="uniform", dtype=torch.float64)
    plain = QuantumLayer(2, 2, 2, reupload=True, input_scales=False, init="uniform", dtype=torch.float64)
    assert plain.scales is None
    plain.load_state_dict({"weights": free.weights.detach()})
    x = torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(free(x), plain(x), rtol=0, atol=1e-12)
    with torch.no_grad():
        free.scales.fill_(0.5)
    torch.testing.assert_close(free(x), plain(0.5 * x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("encoding", ["angle:hz", "amplitude", "iqp", "zz"])
def test_any_leading_axes_and_no_rows(encoding):
    layer = QuantumLayer(3, encoding=encoding, init="uniform", out_features=5, dtype=torch.float64)
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    rows = layer(x)
    assert rows.shape == (2, 4, 5)
    torch.testing.assert_close(layer(x.flatten(0, 1)), rows.flatten(0, 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x[1, 2]), rows[1, 2], rtol=0, atol=1e-12)
    nothing = layer(x[:, :0])
    assert nothing.shape == (2, 0, 5)
    nothing.sum().backward()
    assert float(layer.weights.grad.abs().max()) == 0.0


def test_a_smaller_last_batch_needs_no_word():
    layer = QuantumLayer(2)
    assert [len(layer(batch)) for batch in torch.randn(7, 2).split(3)] == [3, 3, 1]


def test_bits_of_any_type():
    layer = QuantumLayer(3, encoding="basis", n_layers=2, init="uniform")
    bits = torch.tensor([[0, 1, 1], [1, 0, 0]])
    assert layer(bits).dtype == torch.float32
    torch.testing.assert_close(layer(bits), layer(bits.float()))
    assert not torch.allclose(layer(bits)[0], layer(bits)[1], atol=1e-2)


def test_starts():
    torch.manual_seed(0)

    def drawn(**options: str) -> torch.Tensor:
        return QuantumLayer(8, n_layers=40, **options).weights.detach()

    assert float(drawn().std()) == pytest.approx(0.01 * pi, rel=0.1)
    assert float(drawn(init="uniform").min()) >= 0
    assert float(drawn(init="uniform").max()) == pytest.approx(2 * pi, rel=0.02)
    # In full turns.
    assert float(drawn(ansatz="sim14").std()) == pytest.approx(0.005, rel=0.1)
    assert float(drawn(ansatz="sim14", init="uniform").max()) == pytest.approx(1, rel=0.02)


def test_a_start_near_zero_is_near_the_encoding_alone():
    x = torch.tensor([[0.4, -1.1]], dtype=torch.float64)
    layer = QuantumLayer(2, ansatz="basic_entangler", init_std=1e-6, dtype=torch.float64)
    # <Z> of two RY, then of a CNOT: cos a, cos a cos b.
    wanted = torch.stack([x[:, 0].cos(), x[:, 0].cos() * x[:, 1].cos()], -1)
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-4)


def test_a_circuit_of_ones_own():
    layer = QuantumLayer(circuit=own_circuit(), observables=["Z0", "X1"], dtype=torch.float64)
    assert (layer.in_features, layer.out_features, layer.n_qubits, tuple(layer.weights.shape)) == (2, 2, 2, (2,))
    x = torch.randn(3, 2, dtype=torch.float64)
    wanted = own_circuit().expval(["Z0", "X1"], layer.weights, x)
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(layer, x.requires_grad_())


def test_later_gates_of_the_users_circuit_are_not_the_layers():
    circuit = own_circuit()
    layer = QuantumLayer(circuit=circuit)
    x = torch.randn(1, 2)
    before = layer(x)
    circuit.x(0)
    assert torch.equal(layer(x), before)


@pytest.mark.parametrize(
    "make",
    [
        lambda: QuantumLayer(3, 4, 2, encoding="iqp:2", ansatz="sim14", observables=SEVERAL, out_features=2),
        lambda: QuantumLayer(2, n_layers=3, reupload=True, input_scales=False, ansatz="iqp", shots=50),
        lambda: QuantumLayer(circuit=own_circuit(), observables="x", init="uniform", diff_method="parameter_shift"),
        lambda: QuantumLayer(5, encoding="amplitude", observables=["|01> 0, 2", "Z1"], backend="reference"),
        lambda: QuantumLayer(2, noise=NoiseModel(readout=0.05)),
        lambda: QuantumLayer(5, n_layers=2, backend="mps", options={"max_bond": 4}),
    ],
)
def test_a_configuration_in_json_makes_the_layer_again(make):
    layer = make()
    config = json.loads(json.dumps(layer.config()))
    other = QuantumLayer(**config)
    other.load_state_dict(layer.state_dict())
    assert other.config() == layer.config()
    assert repr(other) == repr(layer)
    x = torch.randn(4, layer.in_features)
    torch.manual_seed(1)
    wanted = layer(x)
    torch.manual_seed(1)
    assert torch.equal(other(x), wanted)


def test_copies_share_nothing():
    layer = QuantumLayer(circuit=own_circuit(), out_features=3)
    x = torch.randn(4, 2)
    wanted = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), wanted)
        with torch.no_grad():
            other.weights.add_(1.0)
        assert torch.equal(layer(x), wanted)


def test_nothing_is_kept_between_calls():
    layer = QuantumLayer(3, n_layers=2)
    before = set(vars(layer)), list(layer.buffers())
    layer(torch.randn(5, 3)).sum().backward()
    assert (set(vars(layer)), list(layer.buffers())) == before
    assert set(layer.state_dict()) == {"weights"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_it_computes_in_float32_or_better_and_answers_in_the_type_of_its_input(dtype):
    torch.manual_seed(0)
    layer = QuantumLayer(3, n_layers=2, init="uniform", out_features=2)
    x = torch.randn(4, 3)
    exact = layer(x)
    got = copy.deepcopy(layer).to(dtype)(x.to(dtype))
    assert got.dtype == dtype
    # What is lost is in the weights and the features, not in the circuit.
    torch.testing.assert_close(got.float(), exact, rtol=0, atol=1e-6 if dtype == torch.float64 else 0.05)


def test_autocast_is_off_inside():
    torch.manual_seed(0)
    layer = QuantumLayer(3, n_layers=2, init="uniform", out_features=2)
    x = torch.randn(4, 3)
    wanted = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), wanted)
        half = layer(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert layer.zoo_keep_fp32


def test_shots_scatter_about_the_expectation_by_their_number():
    layer = QuantumLayer(2, init="uniform", shots=400, dtype=torch.float64)
    exact = copy.deepcopy(layer)
    exact.shots = None
    x = torch.randn(1, 2, dtype=torch.float64)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        found = torch.cat([layer(x, generator) for _ in range(100)])
        wanted = exact(x)
        again = layer(x, torch.Generator().manual_seed(0))
    assert torch.equal(again, found[:1])
    error = (1 - wanted.square()).sqrt() / 20
    assert bool(((found.mean(0) - wanted).abs() < 4 * error / 10).all())
    assert bool((found.std(0) < 1.5 * error).all())


def test_readout_error_draws_expectations_together():
    x = torch.randn(3, 2, dtype=torch.float64)
    layer = QuantumLayer(2, noise=NoiseModel(readout=0.1), dtype=torch.float64)
    exact = QuantumLayer(2, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), 0.8 * exact(x), rtol=0, atol=1e-12)


def test_options_of_the_simulation():
    torch.manual_seed(0)
    x = torch.randn(2, 6, dtype=torch.float64)
    exact = QuantumLayer(6, n_layers=3, init="uniform", dtype=torch.float64)
    chains = {bond: QuantumLayer(6, n_layers=3, backend="mps", options={"max_bond": bond}).double() for bond in (2, 8)}
    errors = {}
    for bond, chain in chains.items():
        chain.load_state_dict(exact.state_dict())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two is too few, which is said
            errors[bond] = float((chain(x) - exact(x)).detach().abs().max())
    assert errors[8] < 1e-9
    assert errors[2] > 1e-2
    assert chains[8].truncation_error < 1e-12
    assert chains[2].truncation_error > 1e-3
    assert exact.truncation_error is None


def test_state():
    layer = QuantumLayer(circuit=own_circuit(), dtype=torch.float64)
    x = torch.randn(2, 3, 2, dtype=torch.float64)
    state = layer.state(x)
    assert state.shape == (2, 3, 4)
    chances = state.abs().square()
    torch.testing.assert_close(chances @ chances.new_tensor([1, 1, -1, -1]), layer(x)[..., 0], rtol=0, atol=1e-12)


def test_drawing():
    text = QuantumLayer(circuit=own_circuit()).draw()
    assert [line[:3] for line in text.splitlines() if line.startswith("q")] == ["q0:", "q1:"]
    for angle in ("x0", "2·x1", "a+0.5", "(b)"):
        assert angle in text


@pytest.mark.parametrize("reupload", [False, True])
def test_as_a_circuit_of_one_sample(reupload):
    layer = QuantumLayer(3, n_layers=2, encoding="iqp", reupload=reupload, init="uniform", dtype=torch.float64)
    x = torch.randn(1, 3, dtype=torch.float64)
    circuit, weights, inputs, observables = layer.as_circuit(x)
    torch.testing.assert_close(circuit.expval(observables, weights, inputs), layer(x)[0], rtol=0, atol=1e-12)
    assert layer.as_circuit()[2] is None
    assert torch.equal(layer.as_circuit(x[0])[2], inputs)


def test_several_samples_or_a_first_state_are_no_circuit():
    with pytest.raises(ValueError, match=r"one sample, got an input of shape \(2, 3\)"):
        QuantumLayer(3).as_circuit(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="the state in which the circuit begins"):
        QuantumLayer(3, encoding="amplitude").as_circuit()
