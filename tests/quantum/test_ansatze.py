"""Ansätze: their unitaries, the order and the number of their angles, and the variants of the tensor networks."""

import re
from math import pi

import pytest
import torch
from torch import Tensor

from tests.quantum.goldens import golden
from zoo.quantum.ansatze import ANSATZE, ansatz, ansatz_named
from zoo.quantum.circuit import Circuit
from zoo.quantum.reference import reference_state

GOLDEN = golden("ansatz_unitaries")
CASES = GOLDEN.kwargs["cases"]


def unitary(circuit: Circuit, weights: Tensor) -> Tensor:
    """Its matrix: column i is what becomes of basis state i."""
    basis = torch.eye(2**circuit.n_qubits, dtype=torch.complex128).to(torch.complex(weights, weights).dtype)
    return reference_state(circuit, weights, weights.new_empty(0), basis).T


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("case", CASES)
def test_unitaries_are_those_of_lambeq(case, dtype, limit):
    name, qubits, layers = case.rsplit("_", 2)
    circuit = ansatz(name, int(qubits[1:]), int(layers[1:]))
    # There all angles are in full turns.
    turns = GOLDEN[f"in.params.{case}"].flatten() * (1 if ANSATZE[name].turns else 2 * pi)
    wanted = GOLDEN.complex(f"out.unitary_in_out.{case}").T
    assert circuit.n_weights == len(turns)
    got = unitary(circuit, turns.to(dtype))
    assert float((got - wanted).abs().max()) < limit


@pytest.mark.parametrize("qubits", [2, 3, 5])
@pytest.mark.parametrize(
    ("name", "per_layer"),
    [
        ("iqp", lambda n: n - 1),
        ("qtn_iqp", lambda n: n - 1),
        ("sim4", lambda n: 3 * n - 1),
        ("sim9", lambda n: n),
        ("sim9cx", lambda n: n),
        ("qtn9", lambda n: n),
        ("sim14", lambda n: 4 * n),
        ("qtn14", lambda n: 4 * n),
        ("sim15", lambda n: 2 * n),
        ("strongly_entangling", lambda n: 3 * n),
        ("basic_entangler", lambda n: n),
        ("basic_entangler:rot", lambda n: 3 * n),
        ("hardware_efficient", lambda n: 3 * n),
        ("dressed", lambda n: n),
    ],
)
def test_angles_of_a_layer(name, per_layer, qubits):
    assert ansatz_named(name)[0].angles(qubits, ansatz_named(name)[1]) == per_layer(qubits)
    circuit = ansatz(name, qubits, 3)
    assert circuit.n_weights == 3 * per_layer(qubits)
    assert [a.place for op in circuit for a in op.angles] == list(range(circuit.n_weights))


@pytest.mark.parametrize("name", [name for name, found in ANSATZE.items() if found.lone])
def test_one_wire_has_three_rotations_however_many_layers(name):
    assert [op.gate.name for op in ansatz(name, 1, 4)] == ["rx", "rz", "rx"]
    assert ansatz_named(name)[0].angles(1) == 3


def test_the_walls_of_the_two_iqp_ansaetze():
    def last(circuit: Circuit) -> str:
        return circuit.ops[-1].gate.name

    assert last(ansatz("iqp", 3)) == "h"
    assert last(ansatz("iqp", 3, final_wall=False)) == "crz"
    assert last(ansatz("qtn_iqp", 3)) == "crz"
    # Diagonal, but the control matters.
    angles = torch.tensor([0.3, 0.7], dtype=torch.float64)
    one, other = unitary(ansatz("iqp", 3, final_wall=False), angles), unitary(ansatz("qtn_iqp", 3), angles)
    assert float((one - other).abs().max()) > 0.1


@pytest.mark.parametrize(
    ("case", "name", "layers"), [("hptn_a14_discard_q2", "qtn14", 1), ("uptn_iqp_ps_q2", "qtn_iqp", 2)]
)
def test_variants_of_the_tensor_networks_are_those_of_the_reference(case, name, layers):
    """A path of boxes on 2 x 2 wires, merged by density matrices; wires 1 and 3 are discarded or post-selected."""
    network = golden(f"qtn_{case}")
    select = case.endswith("ps_q2")
    one, two = ansatz(name, 2, layers), ansatz(name, 4, layers)
    for tokens, wanted in zip(network["in.tokens"], network["out.probs"], strict=True):
        words = [unitary(one, network["state.words"][t])[:, 0] for t in tokens]
        words = [torch.outer(word, word.conj()) for word in words]
        rho = words[0]
        for place, word in enumerate(words[1:]):
            box = unitary(two, network["state.rules"][network["in.rule_index"][place]])
            both = (box @ torch.kron(rho, word) @ box.mH).reshape(2, 2, 2, 2, 2, 2, 2, 2)
            rho = both[:, 0, :, 0, :, 0, :, 0] if select else torch.einsum("abcdebfd->acef", both)
            rho = rho.reshape(4, 4)
        last = unitary(one, network["state.class"])
        rho = (last @ rho @ last.mH).reshape(2, 2, 2, 2)
        probs = (rho[0, :, 0, :] if select else torch.einsum("abac->bc", rho)).diagonal().real
        torch.testing.assert_close(probs / probs.sum(), wanted, rtol=0, atol=1e-9)


def test_layers_of_growing_distance_go_on_where_the_last_block_stopped():
    whole = ansatz("strongly_entangling", 4, 3)
    parts = ansatz("strongly_entangling", 4, 1)
    for layer in (1, 2):
        parts.compose(ansatz("strongly_entangling", 4, 1, first_layer=layer))
    assert parts.key == whole.key
    assert [op.wires for op in whole if op.gate.name == "cx"][8:] == [(0, 3), (1, 0), (2, 1), (3, 2)]


def test_rotations_by_name():
    assert [op.gate.name for op in ansatz("basic_entangler:y", 2)] == ["ry", "ry", "cx"]
    assert [op.gate.name for op in ansatz("hardware_efficient:x", 3)] == ["rx"] * 3 + ["cz"] * 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ansatz("sim13", 2), ["unknown ansatz 'sim13'", "did you mean", "'sim14'"]),
        (lambda: ansatz("basic_entangler:w", 2), ["'basic_entangler:w': one of", "'basic_entangler:y'"]),
        (lambda: ansatz("sim14:x", 2), ["'sim14' takes no rotation"]),
        (lambda: ansatz("sim14", 0), ["n_qubits must be an integer of at least 1, got 0"]),
        (lambda: ansatz("sim14", 2, 0), ["n_layers must be an integer of at least 1, got 0"]),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
        call()
