"""Feature maps: the states that they make, and what they refuse."""

import re
from math import pi

import pytest
import torch
from torch import Tensor

from tests.quantum.goldens import DTYPES, golden
from zoo.quantum.feature_maps import FeatureMap, feature_map
from zoo.quantum.reference import reference_state


def encoded(found: FeatureMap, x: Tensor) -> Tensor:
    """The states of a batch."""
    found.check(x)
    return reference_state(found.circuit, x.new_empty(0), found.angles(x), found.state(x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "given", "wanted"), [("amplitude", "amplitudes", "amplitude"), ("iqp:2", "x", "iqp"), ("zz", "x", "zz")]
)
def test_states_are_those_of_pennylane(name, given, wanted, dtype):
    case = golden("embeddings_n4", dtype)
    x = case[f"in.{given}"]
    case.check(encoded(feature_map(name, x.shape[-1], 4), x), case.complex(f"out.{wanted}"), name)


def test_marginals_of_the_golden():
    case = golden("embeddings_n4")
    state = encoded(feature_map("iqp:2", 4), case["in.x"])
    probs = state.abs().square().reshape(-1, 2, 2, 2, 2).sum((2, 4)).transpose(1, 2).flatten(1)
    case.check(probs, case["out.iqp_marginal_probs_wires_2_0"])


def test_angles_turn_each_wire_by_its_feature():
    x = torch.tensor([[0.3, -1.2]], dtype=torch.float64)

    def qubit(a: complex, b: complex) -> Tensor:
        return torch.tensor([a, b], dtype=torch.complex128)

    def product(kets: list[Tensor]) -> Tensor:
        return torch.kron(*kets)

    half = [float(v) / 2 for v in x[0]]
    cos, sin = (
        [float(torch.tensor(v).double().cos()) for v in half],
        [float(torch.tensor(v).double().sin()) for v in half],
    )
    wanted = {
        "angle:y": [qubit(c, s) for c, s in zip(cos, sin, strict=True)],
        "angle:x": [qubit(c, -1j * s) for c, s in zip(cos, sin, strict=True)],
        "angle:z": [qubit(c - 1j * s, 0) for c, s in zip(cos, sin, strict=True)],
        "angle:hz": [qubit(c - 1j * s, c + 1j * s) / 2**0.5 for c, s in zip(cos, sin, strict=True)],
        "angle:hy": [qubit(c - s, c + s) / 2**0.5 for c, s in zip(cos, sin, strict=True)],
    }
    for name, kets in wanted.items():
        torch.testing.assert_close(encoded(feature_map(name, 2), x)[0], product(kets), rtol=0, atol=1e-6)


def test_fewer_features_than_wires_leave_the_last_ones_alone():
    got = encoded(feature_map("angle:y", 1, 2), torch.tensor([[pi]], dtype=torch.float64))
    torch.testing.assert_close(got.abs(), torch.tensor([[0, 0, 1, 0]], dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bool])
def test_bits_make_basis_states(dtype):
    bits = torch.tensor([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)])
    found = feature_map("basis", 3)
    found.check(bits.to(dtype))
    got = encoded(found, bits.double())
    torch.testing.assert_close(got, torch.eye(8, dtype=torch.complex128), rtol=0, atol=1e-12)


def test_amplitudes_of_any_scale_are_normalised():
    x = torch.tensor([[3e30, 4e30], [3e-30, 4e-30], [-3.0, 4.0]])
    got = encoded(feature_map("amplitude", 2, 1), x)
    torch.testing.assert_close(got.real, torch.tensor([[0.6, 0.8], [0.6, 0.8], [-0.6, 0.8]]))


def test_amplitudes_take_as_few_wires_as_hold_them():
    assert [feature_map("amplitude", count).n_qubits for count in (1, 2, 3, 8, 9)] == [1, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["amplitude", "angle:hx", "iqp", "zz:2"])
def test_gradients_reach_the_features(name):
    found = feature_map(name, 3)
    weights = torch.randn(2**found.n_qubits, dtype=torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: encoded(found, x).abs().square() @ weights, x)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: feature_map("angel:y", 2), ["unknown feature map 'angel:y'", "did you mean 'angle'"]),
        (lambda: feature_map("angle:w", 2), ["x, y, z, hx, hy, hz", "'angle:w'"]),
        (lambda: feature_map("iqp:0", 2), ["number of repeats", "'iqp:0'"]),
        (lambda: feature_map("basis:2", 2), ["takes nothing after a colon", "'basis:2'"]),
        (lambda: feature_map("angle:y", 3, 2), ["at most 2 features on 2 wires", "n_features=3"]),
        (lambda: feature_map("amplitude", 5, 2), ["at most 4 features on 2 wires", "n_features=5"]),
        (lambda: feature_map("angle:y", 0), ["n_features must be an integer of at least 1, got 0"]),
        (lambda: feature_map("angle:y", 1, 0), ["n_qubits must be an integer of at least 1, got 0"]),
        (lambda: feature_map("angle:y", 3).check(torch.zeros(2, 4)), ["made for 3 features", "(2, 4)"]),
        (lambda: feature_map("angle:y", 2).check(torch.tensor([[0.0, torch.inf]])), ["finite", "inf at (0, 1)"]),
        (lambda: feature_map("basis", 2).check(torch.tensor([[0, 1], [0, 2]])), ["0 or 1, got 2 at (1, 1)"]),
        (lambda: feature_map("amplitude", 2).check(torch.tensor([[1.0, 0], [0, 0]])), ["zeros", "sample (1,)"]),
    ],
)
def test_refused_values(call, words):
    with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
        call()


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_refused_types(dtype):
    with pytest.raises(TypeError, match=r"x\.float\(\)" if dtype == torch.int64 else "real"):
        feature_map("angle:y", 2).check(torch.zeros(1, 2, dtype=dtype))
