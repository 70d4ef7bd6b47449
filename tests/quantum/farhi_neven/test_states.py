"""Superpositions of whole classes, states that are no bits, and distinct strings."""

import numpy as np
import pytest
import torch

from zoo import quantum as zq


def test_one_basis_state_is_a_string_of_bits():
    qnn = zq.QNN(4, ["ZX", "YY", "XZ"], init=(-1.0, 1.0), dtype=torch.float64)
    bits = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 1]])
    psi = torch.eye(16, dtype=torch.complex128)[[0b0110, 0b1001]]
    torch.testing.assert_close(qnn.forward_state(psi), qnn(bits))


def _strings(n, count):
    strings = torch.cartesian_prod(*[torch.arange(2)] * n)[torch.randperm(2**n)[:count]]
    return strings, torch.tensor([1, -1]).repeat(count)[:count]


def test_with_diagonal_data_operators_the_loss_is_that_of_the_means():
    torch.manual_seed(0)
    bits, labels = _strings(5, 11)
    qnn = zq.QNN(5, ["ZX", "ZY"], init=(-1.0, 1.0), dtype=torch.float64)
    y = qnn(bits)
    means = 1 - (y[labels > 0].mean() - y[labels < 0].mean()) / 2
    for generator in (None, torch.Generator().manual_seed(1)):
        torch.testing.assert_close(qnn.superposition_loss(bits, labels, generator=generator), means)
    slow = [qnn.forward_state(zq.superposition(bits[labels == s], dtype=torch.complex128)[None])[0] for s in (1, -1)]
    torch.testing.assert_close(1 - (slow[0] - slow[1]) / 2, means)


def test_otherwise_cross_terms_and_phases_count():
    torch.manual_seed(0)
    bits, labels = _strings(4, 9)
    qnn = zq.QNN(4, ["ZX", "XX", "YX"], init=(-1.0, 1.0), dtype=torch.float64)
    losses = [qnn.superposition_loss(bits, labels)]
    losses += [qnn.superposition_loss(bits, labels, generator=torch.Generator().manual_seed(k)) for k in (1, 1, 2)]
    assert losses[1] == losses[2]
    assert len({round(float(loss.detach()), 6) for loss in losses}) == 3
    # The expectation in the superposition, from the matrix of the observable between the strings.
    basis = torch.eye(16, dtype=torch.complex128)
    readout = torch.tensor([1, 0], dtype=torch.complex128)
    after = zq.state(qnn.circuit(), qnn.theta.flatten(), state=torch.kron(basis, readout[None]))
    y = torch.tensor([[0, -1j], [1j, 0]], dtype=torch.complex128)
    between = torch.einsum("adr,rs,bds->ab", after.reshape(16, 16, 2).conj(), y, after.reshape(16, 16, 2))
    index = (bits << torch.arange(3, -1, -1)).sum(1)
    of_class = [between[index[labels == s]][:, index[labels == s]].sum().real / (labels == s).sum() for s in (1, -1)]
    torch.testing.assert_close(losses[0], 1 - (of_class[0] - of_class[1]) / 2)
    losses[0].backward()
    assert qnn.theta.grad.abs().min() > 0


def test_distinct_strings_leave_out_those_with_both_labels():
    bits = torch.tensor([[0, 1], [0, 1], [1, 1], [1, 1], [1, 1], [0, 0]])
    labels = torch.tensor([1, 1, 0, 1, 1, 0])
    strings, kept, counts = zq.distinct_strings(bits, labels)
    assert strings.tolist() == [[0, 0], [0, 1]]
    assert kept.tolist() == [0, 1]
    assert counts == {"strings": 6, "distinct": 3, "ambiguous": 1, "images": 3}


def test_losses_and_accuracy():
    qnn = zq.QNN(2)
    y = torch.tensor([0.5, -0.25, 0.0])
    for labels in (torch.tensor([1, 1, -1]), torch.tensor([1, 1, 0]), torch.tensor([True, True, False])):
        assert qnn.loss(y, labels, "none").tolist() == [0.5, 1.25, 1.0]
        assert qnn.loss(y, labels).item() == pytest.approx(2.75 / 3)
        assert qnn.loss(y, labels, "sum").item() == pytest.approx(2.75)
        assert qnn.accuracy(y, labels) == pytest.approx(1 / 3)
    hinge = zq.QNN(2, loss="hinge")
    assert hinge.loss(torch.tensor([1.0, -1.0]), torch.tensor([1, 1]), "none").tolist() == [0, 2]


@pytest.mark.parametrize("method", ["auto", "statevector"])
def test_real_states_are_states_and_transforms_go_through(method: str) -> None:
    torch.manual_seed(0)
    bits = torch.randint(0, 2, (5, 3))
    qnn = zq.QNN(3, method=method)
    product = torch.nn.functional.one_hot(bits, 2)
    for kind in (torch.float32, torch.float64, torch.complex64):
        assert torch.allclose(qnn.forward_product(product.to(kind)), qnn(bits), atol=1e-6)
    assert torch.allclose(torch.func.vmap(qnn)(bits), qnn(bits), atol=1e-6)


@pytest.mark.parametrize("given", [list, tuple, np.array, lambda signs: [s > 0 for s in signs]])
def test_labels_are_what_becomes_a_tensor(given):
    torch.manual_seed(0)
    bits, labels = _strings(3, 7)
    qnn = zq.QNN(3, loss="hinge", init=(-1.0, 1.0))
    y, plain = qnn(bits), given(labels.tolist())
    assert qnn.loss(y, plain) == qnn.loss(y, labels)
    assert qnn.accuracy(y, plain) == qnn.accuracy(y, labels)
    assert qnn.superposition_loss(bits, plain) == qnn.superposition_loss(bits, labels)
    strings, kept, _ = zq.distinct_strings(bits, plain)
    wanted, signs, _ = zq.distinct_strings(bits, labels)
    assert torch.equal(strings, wanted)
    assert torch.equal(kept > 0, signs > 0)
