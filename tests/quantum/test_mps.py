"""Matrix product states: golden cases of 40 and 31 qubits, equality with the vector of amplitudes, truncation."""

import math

import pytest
import torch
from torch import Tensor

from tests.quantum.goldens import DTYPES, golden
from tests.quantum.samples import random_circuit, random_unitary
from zoo.errors import PostSelectionError
from zoo.quantum.ansatze import ansatz
from zoo.quantum.circuit import Circuit, feature, weight
from zoo.quantum.expectation import expectations
from zoo.quantum.mps import MPS
from zoo.quantum.mps.measure import Measured
from zoo.quantum.mps.narrowing import narrow
from zoo.quantum.mps.shots import estimate
from zoo.quantum.noise import ReadoutError
from zoo.quantum.observables import Hermitian, parse_observables
from zoo.quantum.reference import reference_state
from zoo.quantum.shots import Reading

MIXED = ["0.5 Z0 Z2 - 1.25 X1 + 2", "Y0 X1 Z2", "|01> 2, 0", "Z1"]


def brickwork(n: int, layers: int) -> Circuit:
    circuit = Circuit(n)
    for wire in range(n):
        circuit.ry(feature(wire), wire)
    for layer in range(layers):
        for wire in range(layer % 2, n - 1, 2):
            circuit.cx(wire, wire + 1)
        for wire in range(n):
            circuit.rx(weight(layer * n + wire), wire)
    return circuit


def farhi_neven(n: int, layers: list[str]) -> Circuit:
    """Data bits as inputs, then exp(i theta P_j Q_readout)."""
    circuit = Circuit(n + 1)
    for wire in range(n):
        circuit.rx(math.pi * feature(wire), wire)
    for layer, letters in enumerate(layers):
        for wire in range(n):
            circuit.pauli_rot(letters.lower(), -2 * weight(layer * n + wire), [wire, n])
    return circuit


def values(n: int, dtype: torch.dtype, batch: int = 2, weights: int = 4, inputs: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    w = torch.randn(weights, dtype=dtype, generator=generator)
    return w, torch.randn(batch, inputs, dtype=dtype, generator=generator)


@pytest.mark.parametrize("dtype", DTYPES)
def test_40_qubits(dtype):
    case = golden("mps_n40_L4", dtype)
    mps = MPS.run(brickwork(40, 4), case["state.weights"].flatten(), case["in.x"])
    neighbours = [f"Z{i} Z{i + 1}" for i in range(39)]
    found = mps.expectations(parse_observables([*(f"Z{i}" for i in range(40)), *neighbours], 40))[0]
    limit = case.meta["tolerance"]["complex64" if dtype == torch.float32 else "complex128"]
    torch.testing.assert_close(found[:40], case["out.expval_z"], rtol=0, atol=limit)
    torch.testing.assert_close(found[40:], case["out.expval_zz"], rtol=0, atol=limit)
    assert max(mps.bonds) == case.kwargs["max_bond_seen"]
    assert float(mps.truncation_error) == 0


@pytest.mark.parametrize("max_bond", [2, 8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_31_qubits_and_gates_at_any_distance(dtype, max_bond):
    case = golden("fn_wide_n30", dtype)
    circuit = farhi_neven(30, case.kwargs["layers"])
    mps = MPS.run(circuit, case["state.theta"].flatten(), case["in.bits"].to(dtype), max_bond=max_bond)
    limit = case.meta["tolerance"]["complex64" if dtype == torch.float32 else "complex128"]
    found = mps.expectations(parse_observables("Y30", 31))[:, 0]
    torch.testing.assert_close(found, case["out.expval"], rtol=0, atol=limit)
    assert max(mps.bonds) <= max_bond
    assert float(mps.truncation_error.max()) < 1e-10


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 10])
def test_equals_the_vector_of_amplitudes(n, dtype):
    circuit = random_circuit(n, 25, seed=n)
    w, x = values(n, dtype)
    mps = MPS.run(circuit, w, x, max_bond=32)
    state = reference_state(circuit, w, x)
    limit = 2e-5 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(mps.state(), state.expand_as(mps.state()), rtol=0, atol=limit)
    observables = parse_observables(MIXED if n > 2 else ["X0", "|1> 0", "Y0 + 2"], n)
    found = mps.expectations(observables)
    torch.testing.assert_close(found, expectations(state, observables, n).expand_as(found), rtol=0, atol=limit)


def test_hermitian_matrices():
    circuit = random_circuit(5, 20, seed=3)
    w, x = values(5, torch.float64)
    turned = random_unitary(3, seed=1)
    observables = [Hermitian(turned + turned.mH, [4, 0, 2]), Hermitian(torch.diag(torch.tensor([0.5, -2.0])), [1])]
    wanted = expectations(reference_state(circuit, w, x), observables, 5)
    torch.testing.assert_close(MPS.run(circuit, w, x).expectations(observables), wanted, rtol=0, atol=1e-10)


def test_post_selection_is_normalised():
    circuit = Circuit(3).ry(weight(0), 0).cx(0, 1).ry(feature(0), 2).cx(1, 2).post_select(1, 1).rx(weight(1), 2)
    w, x = values(3, torch.float64, weights=2, inputs=1)
    mps = MPS.run(circuit, w, x)
    torch.testing.assert_close(mps.state(), reference_state(circuit, w, x), rtol=0, atol=1e-12)
    with pytest.raises(PostSelectionError, match="wire 1 is never 0 in sample 0"):
        MPS.run(Circuit(2).x(1).post_select(1, 0), w, x)


def test_many_unlikely_post_selections_stay_finite():
    """Each keeps a ten-thousandth; their product is below what float32 holds."""
    circuit = Circuit(20)
    for wire in range(19):
        circuit.ry(0.02, wire).rx(weight(0), wire + 1).cx(wire, wire + 1).post_select(wire, 1)
    mps = MPS.run(circuit, torch.tensor([0.3]), torch.empty(0))
    found = mps.expectations(parse_observables(["Z19"], 20))
    torch.testing.assert_close(found, torch.tensor([[-math.cos(0.3)]]))


@pytest.mark.parametrize("max_bond", [2, 4, 64])
def test_gradients_through_narrowed_bonds(max_bond):
    """The exact bond is 2; the gates without narrowing would make it 2^21."""
    circuit = farhi_neven(6, ["ZX", "XX", "YX", "XX"])
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(24, dtype=torch.float64, generator=generator).requires_grad_()
    x = torch.rand(3, 6, dtype=torch.float64, generator=generator).requires_grad_()
    observables = parse_observables(["Y6", "Z0 Z3", "X2 - Z5"], 7)
    out = MPS.run(circuit, w, x, max_bond=max_bond).expectations(observables)
    wanted = expectations(reference_state(circuit, w, x), observables, 7)
    cotangent = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    found = torch.autograd.grad(out, (w, x), cotangent)
    for mine, its in zip(found, torch.autograd.grad(wanted, (w, x), cotangent), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-10)


def test_second_derivatives_through_narrowed_bonds():
    circuit = farhi_neven(4, ["ZX", "XX", "YX"])
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(12, dtype=torch.float64, generator=generator)
    x = torch.rand(2, 4, dtype=torch.float64, generator=generator)
    observables = parse_observables(["Y4", "Z0 Z3"], 5)

    def narrowed(w: Tensor) -> Tensor:
        return MPS.run(circuit, w, x, max_bond=2).expectations(observables).sum()

    def exact(w: Tensor) -> Tensor:
        return expectations(reference_state(circuit, w, x), observables, 5).sum()

    hessian = torch.autograd.functional.hessian
    torch.testing.assert_close(hessian(narrowed, w), hessian(exact, w), rtol=0, atol=1e-9)


def test_gradcheck_to_second_order():
    circuit = (
        Circuit(3).ry(feature(0), 0).crx(weight(0), 0, 2).rxx(weight(1), 2, 1).swap(0, 1).rot(weight(2), 0.3, 0.1, 1)
    )
    observables = parse_observables(["Z0 X2", "Y1"], 3)
    w, x = values(3, torch.float64, weights=3, inputs=1)

    def run(w: Tensor, x: Tensor) -> Tensor:
        return MPS.run(circuit, w, x).expectations(observables)

    assert torch.autograd.gradcheck(run, (w.requires_grad_(), x.requires_grad_()))
    assert torch.autograd.gradgradcheck(run, (w, x))


def test_truncation_is_reported_and_optimal():
    """Random states of 8 qubits: what is lost in one cut is what the Schmidt coefficients say."""
    state = random_unitary(4, seed=5)
    circuit = Circuit(4).unitary(state, [0, 1, 2, 3])
    nothing = torch.empty(0, dtype=torch.float64)
    with pytest.warns(UserWarning, match=r"discarded 0\.\d+ of its squared norm \(max_bond=3\)"):
        mps = MPS.run(circuit, nothing, nothing, max_bond=3)
    schmidt = torch.linalg.svdvals(state[:, 0].reshape(4, 4))
    torch.testing.assert_close(mps.truncation_error[0], schmidt[3] ** 2)
    fidelity = (mps.state()[0].conj() @ state[:, 0]).abs() ** 2
    torch.testing.assert_close(fidelity, 1 - schmidt[3] ** 2)


def test_what_is_lost_is_a_part_of_the_whole():
    """However many cuts lose something, the error is what is missing from the squared norm."""
    torch.manual_seed(0)
    circuit, nothing = ansatz("strongly_entangling", 12, 4), torch.empty(0, dtype=torch.float64)
    weights = 6 * torch.rand(circuit.n_weights, dtype=torch.float64)
    with pytest.warns(UserWarning, match=r"discarded (0\.9\d*|1) of its squared norm"):
        mps = MPS.run(circuit, weights, nothing, max_bond=2)
    torch.testing.assert_close(mps.truncation_error, 1 - Measured(mps.chain).norm, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_narrowing_any_chain(dtype):
    """Sites of four states, real or complex, with a bond of 9 where 3 do; the others keep what they need."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 4, 5), (5, 4, 3), (9, 4, 3), (3, 4, 1)]
    chain = [torch.randn(3, *shape, dtype=dtype, generator=generator) for shape in shapes]
    chain[1] = chain[1] @ torch.randn(3, 1, 3, 9, dtype=dtype, generator=generator)
    whole = torch.einsum("zaxb,zbyc,zcwd,zdve->zxywv", *chain)
    lost = narrow(chain, above=2, max_bond=5)
    assert [site.shape[-1] for site in chain] == [4, 3, 3, 1]
    torch.testing.assert_close(torch.einsum("zaxb,zbyc,zcwd,zdve->zxywv", *chain), whole)
    assert (lost < 1e-20).all()


def test_samples_follow_the_probabilities():
    circuit = random_circuit(4, 15, seed=11)
    w, x = values(4, torch.float64)
    mps = MPS.run(circuit, w, x)
    bits = mps.sample(20000, torch.Generator().manual_seed(0))
    assert bits.shape == (2, 20000, 4)
    index = (bits * torch.tensor([8, 4, 2, 1])).sum(-1)
    found = torch.stack([torch.bincount(row, minlength=16) / 20000 for row in index])
    chances = reference_state(circuit, w, x).abs() ** 2
    assert ((found - chances).abs() <= 4 * (chances * (1 - chances) / 20000).sqrt() + 1e-12).all()
    again = mps.sample(20000, torch.Generator().manual_seed(0))
    assert torch.equal(bits, again)


def test_estimates_from_shots_and_misread_bits():
    """Within 4 sigma of the expectations; a readout that flips every bit with p scales Z by 1 - 2 p."""
    circuit = random_circuit(5, 20, seed=4)
    w, x = values(5, torch.float64)
    mps, shots = MPS.run(circuit, w, x), 4000
    observables = parse_observables(["Z0", "X1 Y2", "0.5 Z3 + 1", "|1> 4", "Y0"], 5)
    found = estimate(mps, observables, Reading(shots, generator=torch.Generator().manual_seed(0)))
    error = found - mps.expectations(observables)
    assert (error.abs() < 4 / shots**0.5).all()
    misread = Reading(shots, ReadoutError(0.1), torch.Generator().manual_seed(0))
    noisy = estimate(mps, observables[:2], misread)
    assert ((noisy - mps.expectations(observables[:2]) * torch.tensor([0.8, 0.64])).abs() < 4 / shots**0.5).all()


@pytest.mark.parametrize("batch", [0, 1])
def test_empty_and_single_batches(batch):
    circuit = farhi_neven(4, ["ZX", "XX", "ZX"])
    w = torch.randn(12)
    out = MPS.run(circuit, w, torch.zeros(batch, 4), max_bond=2).expectations(parse_observables("z", 5))
    assert out.shape == (batch, 5)


def test_refusals():
    nothing = torch.empty(0)
    with pytest.raises(ValueError, match="max_bond must be an integer of at least 1, got 0"):
        MPS.run(Circuit(2), nothing, nothing, max_bond=0)
    with pytest.raises(ValueError, match="at most 4 wires, got one on 5"):
        MPS.run(Circuit(5).unitary(torch.eye(32), range(5)), nothing, nothing)
    with pytest.raises(ValueError, match="'density' or 'trajectories'"):
        MPS.run(Circuit(2).channel("bit_flip", 0.1, 0), nothing, nothing)
