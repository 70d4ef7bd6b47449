"""The memory of constant size is the kernel average that it stands for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.layers.hopfield.memory.drawing import draw
from zoo.layers.hopfield.memory import LinearMemory


@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_it_is_a_weighted_mean_of_the_values(beta):
    stored, values, state = draw(30, 6), draw(30, 3, seed=1), draw(5, 6, seed=2)
    memory = LinearMemory(6, value_dim=3, beta=beta, dtype=torch.float64)
    memory.add(stored[:10], values[:10])
    memory.add(stored[10:], values[10:])
    kernel = (F.elu(beta**0.5 * state) + 1) @ (F.elu(beta**0.5 * stored) + 1).t()
    torch.testing.assert_close(memory(state), (kernel / kernel.sum(-1, keepdim=True)) @ values)
    assert int(memory.count) == 30


def test_what_is_removed_leaves_no_trace():
    stored, state = draw(30, 6), draw(5, 6, seed=2)
    memory, wanted = LinearMemory(6, dtype=torch.float64), LinearMemory(6, dtype=torch.float64)
    memory.add(stored)
    memory.remove(stored[20:])
    wanted.add(stored[:20])
    torch.testing.assert_close(memory(state), wanted(state))
    assert int(memory.count) == 20
    memory.reset_parameters()
    assert not bool(memory(state).any())
