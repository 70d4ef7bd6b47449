"""The learning rule of Farhi and Neven."""

import itertools

import pytest
import torch

from zoo import quantum as zq


def test_a_step_is_the_loss_over_the_squared_gradient():
    qnn = zq.QNN(3, dtype=torch.float64, init=(-1.0, 1.0))
    bits, label = torch.tensor([[0, 1, 1]]), torch.tensor([-1])
    before = qnn.theta.detach().clone()
    optimizer = zq.FarhiNevenSGD(qnn.parameters(), rate=0.1)

    def closure():
        optimizer.zero_grad()
        loss = qnn.loss(qnn(bits), label)
        loss.backward()
        return loss

    loss = optimizer.step(closure).detach()
    gradient = qnn.theta.grad
    torch.testing.assert_close(qnn.theta.detach(), before - 0.1 * loss / gradient.square().sum() * gradient)
    # To first order a tenth of the loss is gone.
    after = qnn.loss(qnn(bits), label).detach()
    assert float(after) == pytest.approx(0.9 * float(loss), rel=0.2)


def test_a_gradient_of_nothing_changes_nothing():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = zq.FarhiNevenSGD([weight])

    def closure():
        optimizer.zero_grad()
        loss = (0 * weight).sum() + 1
        loss.backward()
        return loss

    assert optimizer.step(closure) == 1
    assert weight.tolist() == [1, 1, 1]


def test_it_learns_a_majority_one_sample_at_a_time():
    torch.manual_seed(0)
    bits = torch.tensor(list(itertools.product((0, 1), repeat=5)))
    labels = (1 - 2 * bits).sum(1).sign()
    qnn = zq.QNN(5, ["ZX"])
    optimizer = zq.FarhiNevenSGD(qnn.parameters(), rate=0.05)
    for i in torch.randint(0, 32, (400,)).tolist():

        def closure(i=i):
            optimizer.zero_grad()
            loss = qnn.loss(qnn(bits[i : i + 1]), labels[i : i + 1])
            loss.backward()
            return loss

        optimizer.step(closure)
    assert qnn.accuracy(qnn(bits), labels) == 1
