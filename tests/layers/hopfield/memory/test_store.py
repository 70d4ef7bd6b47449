"""A memory keeps what is put into it, and forgets what is taken out."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tests.layers.hopfield.memory.drawing import draw, on_sphere
from zoo.layers.hopfield.memory import HopfieldMemory, beta_for, energy, mapped_patterns, retrieve, separations


def filled(count: int = 6, **options) -> tuple[HopfieldMemory, torch.Tensor]:
    stored = on_sphere(count, 16)
    memory = HopfieldMemory(16, dtype=torch.float64, **options)
    memory.add(stored, labels=list(range(10, 10 + count)))
    return memory, stored


def test_what_is_added_is_recalled():
    memory, stored = filled(beta=2.0, num_updates=3)
    assert len(memory) == 6
    state = stored + 0.1 * draw(6, 16, seed=1)
    torch.testing.assert_close(memory(state), retrieve(state, stored, beta=2.0, num_updates=3))
    assert memory.label(state).tolist() == list(range(10, 16))
    torch.testing.assert_close(memory.energy(state), energy(state, stored, beta=2.0))
    assert memory.association(state).shape == (6, 6)
    found = memory.recall(state, top=2)
    assert found.indices is not None
    assert found.indices[:, 0].tolist() == list(range(6))
    more = on_sphere(2, 16, seed=5)
    memory.add(more)
    assert memory.label(more).tolist() == [-1, -1]
    torch.testing.assert_close(memory(state), retrieve(state, torch.cat([stored, more]), beta=2.0, num_updates=3))


@pytest.mark.parametrize(
    ("indices", "left"),
    [
        (0, [1, 2, 3, 4, 5]),
        ([1, -1], [0, 2, 3, 4]),
        (torch.tensor([2, 2]), [0, 1, 3, 4, 5]),
        ([True, False, True, False, False, False], [1, 3, 4, 5]),
        ([], list(range(6))),
    ],
)
def test_what_is_removed_is_forgotten(indices, left):
    memory, stored = filled()
    memory.remove(indices)
    assert torch.equal(memory.patterns, stored[left])
    assert memory.labels.tolist() == [10 + i for i in left]


def test_replaced():
    memory, stored = filled()
    other = on_sphere(2, 16, seed=3)
    memory.replace([4, 0], other, labels=[7, 8])
    assert torch.equal(memory.patterns, torch.stack([other[1], *stored[1:4], other[0], stored[5]]))
    assert memory.labels.tolist() == [8, 11, 12, 13, 7, 15]


def test_values_go_with_their_patterns():
    memory, stored = HopfieldMemory(16, value_dim=3, beta=8.0, dtype=torch.float64), on_sphere(6, 16)
    values = draw(6, 3, seed=1)
    memory.add(stored, values)
    torch.testing.assert_close(memory(stored), values, rtol=0, atol=1e-6)
    memory.remove(2)
    memory.replace(0, stored[2:3], values[2:3])
    torch.testing.assert_close(memory(stored[2:]), values[2:], rtol=0, atol=1e-6)


def test_an_automatic_beta_follows_the_store():
    memory, stored = filled(beta="auto", error=0.001)
    longest = float(stored.norm(dim=-1).amax())
    assert memory.inverse_temperature() == beta_for(0.001 * longest, stored)
    first = memory.inverse_temperature()
    memory.add(on_sphere(40, 16, seed=7))
    assert memory.inverse_temperature() > first
    memory.remove(range(6, 46))
    assert memory.inverse_temperature() == first
    memory.replace(0, stored[1:2] * 2)
    with pytest.raises(ValueError, match="no beta recalls"):
        memory(stored)


def test_a_state_dict_of_another_size_loads():
    memory, stored = filled(beta=2.0)
    for options in ({}, {"num_patterns": 3}, {"num_patterns": 9}):
        other = HopfieldMemory(16, beta=2.0, dtype=torch.float64, **options)
        other.load_state_dict(memory.state_dict())
        assert torch.equal(other(stored), memory(stored))
        assert torch.equal(other.labels, memory.labels)
        assert other.patterns.data_ptr() != memory.patterns.data_ptr()
    memory.learn_feature_map(5)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other(stored), memory(stored))
    with pytest.raises(RuntimeError, match="size mismatch for patterns"):
        HopfieldMemory(8).load_state_dict({k: v for k, v in memory.state_dict().items() if k != "feature_map"})
    learned = HopfieldMemory(16, learnable=True, dtype=torch.float64)
    learned.load_state_dict(filled()[0].state_dict())
    assert isinstance(learned.patterns, torch.nn.Parameter)
    assert torch.equal(learned.patterns, stored)


def test_copies_have_their_own_store():
    memory, stored = filled()
    other = copy.deepcopy(memory)
    other.add(stored)
    assert (len(memory), len(other)) == (6, 12)
    saved = io.BytesIO()
    torch.save(memory.state_dict(), saved)
    saved.seek(0)
    assert torch.equal(torch.load(saved)["patterns"], stored)


def test_a_store_of_its_own_is_not_copied(tmp_path):
    stored = on_sphere(300, 16, dtype=torch.float32)
    np.save(tmp_path / "x.npy", stored.numpy())
    mapped = mapped_patterns(tmp_path / "x.npy")
    memory = HopfieldMemory.over(mapped, labels=torch.arange(300), beta=2.0)
    assert memory.patterns.data_ptr() == mapped.data_ptr()
    assert not memory.state_dict()
    assert torch.equal(memory(stored[:5]), retrieve(stored[:5], stored, beta=2.0))
    assert memory.label(stored[7:9]).tolist() == [7, 8]
    memory.remove(range(0, 300, 2))
    assert torch.equal(memory.patterns, stored[1::2])
    small = HopfieldMemory.over((stored * 10).to(torch.int8), beta=0.05)
    assert small.patterns.dtype == torch.int8
    assert torch.equal(small(stored[:5] * 10), retrieve(stored[:5] * 10, (stored * 10).to(torch.int8), beta=0.05))


def test_no_gradient_reaches_the_store_unless_it_is_to_learn():
    state = on_sphere(3, 16, seed=4).requires_grad_()
    memory, _ = filled()
    memory(state).sum().backward()
    assert state.grad is not None
    assert not list(memory.parameters())
    learned, _ = filled(learnable=True)
    learned(state).square().sum().backward()
    assert learned.patterns.grad is not None
    assert bool(learned.patterns.grad.any())


def test_a_learned_memory_learns_to_recall():
    torch.manual_seed(0)
    wanted = on_sphere(4, 8, dtype=torch.float32)
    memory = HopfieldMemory(8, num_patterns=4, beta=2.0, learnable=True)
    optimizer = torch.optim.Adam(memory.parameters(), lr=0.05)
    losses = []
    for _ in range(200):
        loss = (memory(wanted + 0.3 * torch.randn(4, 8)) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]


def test_forgetting_everything():
    memory, _ = filled()
    memory.reset_parameters()
    assert len(memory) == 0
    memory.add(on_sphere(3, 16, seed=1))
    assert len(memory) == 3


def test_half_hidden_digits_are_recalled():
    """1,000 digits from their upper halves: what hides is taken for the mean."""
    digits = torch.tensor(load_digits().data[:1000], dtype=torch.float32)
    mean = digits.mean(0)
    memory = HopfieldMemory(64, similarity="neg_l1", beta=1.0)
    memory.add(digits - mean, labels=torch.tensor(load_digits().target[:1000]))
    cue = (digits - mean).clone()
    cue[:, 32:] = 0
    assert float((memory.label(cue) == memory.labels).float().mean()) > 0.9
    whole, hidden = digits - mean, slice(32, 64)
    error = (memory(cue) - whole)[:, hidden].norm(dim=-1).mean()
    assert float(error) < 0.5 * float(whole[:, hidden].norm(dim=-1).mean())


def test_report_and_text_of_a_memory():
    memory, _ = filled(beta=1e-3)
    assert memory.report().averages
    assert "6 patterns, beta=0.001, num_updates=1, dot, softmax" in repr(memory)


def test_what_is_compared_through_a_feature_map_is_reported_so():
    shared = 4 * draw(1, 16, seed=3)
    memory = HopfieldMemory(16, similarity="cosine", beta="auto", dtype=torch.float64)
    memory.add(draw(40, 16) + shared)
    plain = memory.inverse_temperature()
    before = memory.report()
    memory.learn_feature_map()
    assert memory.inverse_temperature() < plain / 2
    assert float(memory.report().separation.amin()) > 2 * float(before.separation.amin())
    assert float(memory.report().error.amax()) < 0.01


def test_a_borrowed_store_is_never_written_to():
    stored, labels = on_sphere(6, 16), torch.arange(6)
    kept = stored.clone()
    memory = HopfieldMemory.over(stored, labels=labels, persistent=True, dtype=torch.float64)
    memory.replace(0, torch.zeros(1, 16, dtype=torch.float64), labels=[9])
    assert torch.equal(stored, kept)
    assert labels.tolist() == list(range(6))
    assert not bool(memory.patterns[0].any())
    other = HopfieldMemory.over(stored, persistent=True, dtype=torch.float64)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(stored, kept)
    assert torch.equal(other.patterns, memory.patterns)


def test_an_automatic_beta_follows_edits_in_place():
    memory, stored = filled(beta="auto", error=0.001)
    first = memory.inverse_temperature()
    memory.patterns.mul_(0.2)
    assert memory.inverse_temperature() == pytest.approx(25 * first)
    memory.patterns.copy_(stored)
    assert memory.inverse_temperature() == first
    assert memory.half().inverse_temperature() != first


def test_an_automatic_beta_of_a_sparse_map_is_its_margin():
    memory, stored = filled(beta="auto", association="sparsemax")
    assert memory.inverse_temperature() == pytest.approx(1.0001 / float(separations(stored).amin()))
    assert torch.equal(memory(stored), stored)


def test_a_state_that_is_not_finite_has_no_label():
    memory, stored = filled(beta=2.0)
    states = stored.clone()
    states[1, 3], states[2, 0] = torch.nan, torch.inf
    assert memory.label(states).tolist() == [10, -1, -1, 13, 14, 15]


def test_a_file_in_another_byte_order_says_so(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 2), ">f4"))
    with pytest.raises(ValueError, match="byte order of this machine"):
        mapped_patterns(tmp_path / "x.npy")
