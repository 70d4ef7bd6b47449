"""Matrices of small circuits that are kept while their weights stay: every change of the weights is seen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from tests.quantum.samples import strongly_entangling
from zoo.quantum.engine import evolve
from zoo.quantum.engine.whole import Whole
from zoo.quantum.reference import reference_state

CIRCUIT = strongly_entangling(3, 4)


def drawn(seed: int, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def inputs() -> Tensor:
    return drawn(0, 20 * CIRCUIT.n_inputs).view(20, -1)


def agrees(weights: Tensor, inputs: Tensor) -> bool:
    wanted = reference_state(CIRCUIT, weights.detach(), inputs)
    return torch.allclose(
        evolve(CIRCUIT, weights, inputs), wanted, atol=1e-5 if weights.dtype == torch.float32 else 1e-9
    )


@torch.no_grad()
def test_they_are_made_once(inputs: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = Whole.make

    def counted(self: Whole, vector: Tensor):
        made.append(1)
        return make(self, vector)

    monkeypatch.setattr(Whole, "make", counted)
    weights = drawn(1, CIRCUIT.n_weights)
    for _ in range(3):
        assert agrees(weights, inputs)
    assert len(made) == 1
    with torch.enable_grad():  # gradients need what was made on the way
        evolve(CIRCUIT, weights.requires_grad_(), inputs).abs().sum().backward()
    assert len(made) == 2
    assert agrees(weights, inputs)
    assert len(made) == 2


@torch.no_grad()
def test_changes_of_the_weights_are_seen(inputs: Tensor) -> None:
    weights = nn.Parameter(drawn(2, CIRCUIT.n_weights))
    assert agrees(weights, inputs)
    weights[3] += 0.5
    assert agrees(weights, inputs)
    weights.data[-1] = 0.1
    assert agrees(weights, inputs)
    optimizer = torch.optim.SGD([weights], lr=0.3, fused=True)
    weights.grad = torch.ones_like(weights)
    optimizer.step()
    assert agrees(weights, inputs)
    weights.data = drawn(3, CIRCUIT.n_weights)
    assert agrees(weights, inputs)
    for seed in range(4):  # tensors of one place in memory, one after the other
        assert agrees(drawn(seed, CIRCUIT.n_weights), inputs)
    assert agrees(weights.double(), inputs.double())
    for _ in range(2):  # two models of one circuit, in turn
        assert agrees(weights, inputs)
        assert agrees(drawn(9, CIRCUIT.n_weights), inputs)
    strided = torch.stack([drawn(5, CIRCUIT.n_weights), drawn(6, CIRCUIT.n_weights)], dim=1)
    assert agrees(strided[:, 0], inputs)
    assert agrees(strided[:, 1], inputs)


def test_weights_of_inference_mode(inputs: Tensor) -> None:
    with torch.inference_mode():
        weights = drawn(4, CIRCUIT.n_weights)
        assert agrees(weights, inputs)
        weights[0] += 1
        assert agrees(weights, inputs)
    plain = drawn(4, CIRCUIT.n_weights)
    with torch.inference_mode():
        assert agrees(plain, inputs)
    assert torch.equal(plain.requires_grad_(), plain)
    evolve(CIRCUIT, plain, inputs).abs().square().sum().backward()
    assert plain.grad is not None


def test_threads_with_weights_of_their_own(inputs: Tensor) -> None:
    def work(seed: int) -> bool:
        weights = drawn(seed, CIRCUIT.n_weights)
        with torch.no_grad():
            return all(agrees(weights, inputs) for _ in range(30))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
