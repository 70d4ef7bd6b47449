"""Every gate: its action, its matrix, what is said of it beforehand."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from tests.quantum.goldens import DTYPES, golden
from zoo.quantum.circuit import Circuit
from zoo.quantum.gates import GATES, gate_named

CASES = golden("gates_n4").kwargs["gates"]
BUILT = [gate for gate in GATES.values() if gate.build is not None]
WORDS = {"multirz": "zzz", "pauli_rot": "yxy"}


def _matrices(gate, count=5):
    angles = torch.rand(count, gate.n_angles, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 6 - 3
    return gate.matrix(angles, WORDS.get(gate.name, ""))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["gate"])
def test_action(case, dtype):
    data, name = golden("gates_n4", dtype), case["gate"]
    circuit = Circuit(4)
    if name.startswith("PauliRot"):
        circuit.pauli_rot(name.split("_")[1], *case["params"], case["wires"])
    else:
        getattr(circuit, name)(*case["params"], case["wires"])
    out = circuit.state(state=data.complex("in.state"), method="reference")
    data.check(torch.view_as_real(out), data[f"out.{case['index']:02d}.{name}"], name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["unitary2", "diag3"])
def test_given_matrices(name, dtype):
    data = golden("gates_n4", dtype)
    wires = data.kwargs[f"{name}_wires"]
    add = Circuit(4).unitary if name == "unitary2" else Circuit(4).diagonal
    out = add(golden("gates_n4").complex(f"in.{name}"), wires).state(state=data.complex("in.state"))
    data.check(torch.view_as_real(out), data[f"out.{name}"], name)


@pytest.mark.parametrize("gate", BUILT, ids=lambda gate: gate.name)
def test_what_is_said_of_it(gate):
    matrices = _matrices(gate)
    d = matrices.shape[-1]
    torch.testing.assert_close(matrices @ matrices.mH, torch.eye(d, dtype=matrices.dtype).expand_as(matrices))
    assert gate.n_wires in (0, d.bit_length() - 1)
    off = matrices - torch.diag_embed(matrices.diagonal(dim1=-2, dim2=-1))
    assert gate.diagonal == bool((off == 0).all())
    assert gate.real == bool((matrices.imag == 0).all())
    ones = (matrices == 1).sum(-1) == 1
    assert gate.permutation == bool(ones.all() and ((matrices == 0) | (matrices == 1)).all())


@pytest.mark.parametrize("gate", [gate for gate in BUILT if gate.n_angles], ids=lambda gate: gate.name)
def test_frequencies(gate):
    """Expectations hold no frequency but those given: least squares on a fine grid leaves nothing over."""
    generator = torch.Generator().manual_seed(1)
    word = WORDS.get(gate.name, "")
    grid = torch.linspace(-6, 6, 60, dtype=torch.float64)
    for place in range(gate.n_angles):
        angles = torch.rand(gate.n_angles, dtype=torch.float64, generator=generator).repeat(60, 1)
        angles[:, place] = grid
        matrices = gate.matrix(angles, word)
        d = matrices.shape[-1]
        start = torch.randn(d, dtype=torch.complex128, generator=generator)
        observable = torch.randn(d, d, dtype=torch.complex128, generator=generator)
        after = matrices @ start
        values = torch.einsum("ti,ij,tj->t", after.conj(), observable + observable.mH, after).real
        waves = [torch.ones_like(grid)]
        for frequency in gate.frequencies:
            waves += [(frequency * grid).cos(), (frequency * grid).sin()]
        basis = torch.stack(waves, dim=-1)
        fit = torch.linalg.lstsq(basis, values[:, None]).solution
        assert (basis @ fit - values[:, None]).abs().max() < 1e-9


@pytest.mark.parametrize("gate", BUILT, ids=lambda gate: gate.name)
def test_inverse(gate):
    generator = torch.Generator().manual_seed(2)
    angles = torch.rand(gate.n_angles, generator=generator, dtype=torch.float64).tolist()
    word = [WORDS["pauli_rot"]] if gate.name == "pauli_rot" else []
    circuit = Circuit(3)
    getattr(circuit, gate.name)(*word, *angles, list(range(gate.n_wires or 3)))
    matrix = circuit.compose(circuit.inverse()).matrix(dtype=torch.float64)
    torch.testing.assert_close(matrix, torch.eye(8, dtype=torch.complex128), atol=1e-12, rtol=0)


@pytest.mark.parametrize("gate", [gate for gate in BUILT if gate.n_angles], ids=lambda gate: gate.name)
def test_gradient(gate):
    angles = torch.rand(2, gate.n_angles, dtype=torch.float64, requires_grad=True)
    word = WORDS.get(gate.name, "")
    assert torch.autograd.gradcheck(lambda a: torch.view_as_real(gate.matrix(a, word)), angles)


def test_square_roots():
    for root, whole in (("sx", "x"), ("siswap", "iswap"), ("t", "s"), ("s", "z")):
        half = _matrices(GATES[root], 1)
        torch.testing.assert_close(half @ half, _matrices(GATES[whole], 1))


def test_names_of_others():
    for name, ours in {"PauliX": "x", "CNOT": "cx", "IsingXX": "rxx", "ControlledPhaseShift": "cphase"}.items():
        assert gate_named(name) is GATES[ours]
    with pytest.raises(ValueError, match="no gate is named 'hadamrd'; did you mean 'hadamard'"):
        gate_named("hadamrd")


def test_one_object_a_kind():
    gate = GATES["rx"]
    assert pickle.loads(pickle.dumps(gate)) is gate
    assert copy.deepcopy(gate) is gate
