"""A circuit between two linear layers: the golden case, its state dict, what it is made of."""

from math import pi

import pytest
import torch

import zoo
from tests.quantum.goldens import DTYPES, golden
from tests.quantum.test_layer import held_to
from zoo import quantum as zq
from zoo.quantum.circuit import Circuit, feature
from zoo.quantum.dressed import DressedCircuit
from zoo.quantum.layer import QuantumLayer

MATRIX = zq.Hermitian([[1, 0.5j], [-0.5j, 2]], 0)
OWN = Circuit(2).ry(feature(0), 0).ry(feature(1), 1).cx(0, 1).rx("a", 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_circuit_is_that_of_quantum_transfer_learning(dtype):
    layer = DressedCircuit(5, 2, dtype=dtype).circuit
    assert tuple(layer.weights.shape) == (6, 4)
    held_to(golden("dressed_n4", dtype), layer, weights="weights")


def test_all_gates_are_real():
    assert {op.gate.name for op in DressedCircuit(5, 2).circuit.circuit} == {"h", "ry", "cx"}


def test_it_is_linear_circuit_linear():
    torch.manual_seed(0)
    head = DressedCircuit(5, 3, depth=2, dtype=torch.float64)
    x = torch.randn(2, 7, 5, dtype=torch.float64)
    wanted = head.post(head.circuit(torch.tanh(head.pre(x)) * (pi / 2)))
    torch.testing.assert_close(head(x), wanted, rtol=0, atol=1e-12)
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == {
        "pre.weight": (4, 5),
        "pre.bias": (4,),
        "circuit.weights": (2, 4),
        "post.weight": (3, 4),
        "post.bias": (3,),
    }


def test_its_start():
    torch.manual_seed(0)
    weights = DressedCircuit(5, 2, n_qubits=8, depth=100).circuit.weights.detach()
    assert float(weights.std()) == pytest.approx(0.01, rel=0.1)
    assert abs(float(weights.mean())) < 0.002


@pytest.mark.parametrize(
    ("name", "gates", "scaled"),
    [
        ("circuit/dressed", {"h", "ry", "cx"}, False),
        ("circuit/quantum", {"h", "ry", "rot", "cz"}, False),
        ("circuit/reuploading", {"ry", "rot", "cz"}, True),
    ],
)
def test_registered_circuits(name, gates, scaled):
    head = zoo.create_module(name, 5, 3, n_qubits=3, depth=2)
    assert isinstance(head, DressedCircuit)
    assert isinstance(head.circuit, QuantumLayer)
    assert {op.gate.name for op in head.circuit.circuit} == gates
    assert (head.circuit.scales is not None) == scaled
    assert head(torch.randn(4, 5)).shape == (4, 3)


def test_options_go_to_the_circuit():
    head = DressedCircuit(
        5, 2, bias=False, n_qubits=3, observables=["Z0 Z1", "X2"], shots=20, noise={"after": {}, "readout": None}
    )
    assert head.post.bias is None
    assert head.post.in_features == 2
    assert (head.circuit.shots, head.circuit.reads) == (20, ["Z0 Z1", "X2"])
    assert head.circuit.noise is not None


def test_a_circuit_of_ones_own():
    own = Circuit(3).ry(feature(0), 0).ry(feature(1), 2).cx(0, 1).cx(1, 2).rx("a", 1)
    head = DressedCircuit(5, 2, circuit=own, observables=["Z0", "Z1"])
    assert (head.pre.out_features, head.post.in_features, tuple(head.circuit.weights.shape)) == (2, 2, (1,))
    x = torch.randn(4, 5)
    measured = own.expval(["Z0", "Z1"], head.circuit.weights, head.pre(x).tanh() * (pi / 2))
    torch.testing.assert_close(head(x), head.post(measured))
    with pytest.raises(ValueError, match="circuit= is the whole circuit: leave out reupload"):
        DressedCircuit(5, 2, circuit=own.to_dict(), reupload=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"circuit": OWN, "n_qubits": 5, "ansatz": "sim14"}, "leave out n_qubits, ansatz"),
        ({"n_layers": 2}, "circuit/quantum takes no argument 'n_layers'; did you mean 'depth'?"),
        ({"n_qubits": 0}, "refuses its options: n_qubits must be an integer of at least 1, got 0"),
        ({"dtype": torch.float64}, r"create_model\(dtype=...\) is of the whole model"),
        ({"options": {"generator": torch.Generator()}}, "head.options.generator must be a JSON value"),
    ],
)
def test_heads_refuse(options, told):
    with pytest.raises((TypeError, ValueError), match=told):
        zoo.create_model("test_vit", img_size=32, head={"type": "circuit/quantum", **options}, num_classes=3)


@pytest.mark.parametrize(
    "options",
    [
        {"noise": zq.NoiseModel(after={"2q": zq.make_channel([[[1, 0], [0, 0.6]], [[0, 0.8], [0, 0]]])})},
        {"observables": [MATRIX, zq.Projector("01", (0, 1)), zq.parse_observables("Z0 - X1", 2)[0], "Z1"]},
        {"observables": MATRIX},
    ],
)
def test_heads_with_objects_are_saved_and_loaded(options, tmp_path):
    head = {"type": "circuit/quantum", "n_qubits": 2, **options}
    model = zoo.create_model("test_vit", img_size=32, head=head, num_classes=3).eval()
    zoo.save_pretrained(model, tmp_path)
    again = zoo.create_model(f"local-dir:{tmp_path}").eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


def test_it_learns_what_no_linear_layer_can():
    """Two rings."""
    torch.manual_seed(0)
    angle = 2 * pi * torch.rand(200)
    label = torch.arange(200) % 2
    x = (0.5 + label)[:, None] * torch.stack([angle.cos(), angle.sin()], -1)
    head = DressedCircuit(2, 2, n_qubits=4, depth=3)
    optimiser = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(80):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(head(x), label).backward()
        optimiser.step()
    assert float((head(x).argmax(-1) == label).float().mean()) > 0.95
