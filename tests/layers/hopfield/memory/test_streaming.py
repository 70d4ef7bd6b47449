"""A store read chunk by chunk gives what all matrices in memory give."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.layers.hopfield.memory.drawing import draw
from zoo.layers.hopfield.memory import SIMILARITIES, candidates, composed, energy, mapped_patterns, recall, retrieve

MAPS = [
    ("softmax", {}),
    ("sparsemax", {}),
    ("entmax", {}),
    ("entmax", {"alpha": 1.2}),
    ("entmax", {"alpha": 1.0}),
    ("normmax", {}),
    ("normmax", {"alpha": 5.0}),
    ("budget", {"k": 3}),
    ("topk", {}),
    ("identity", {}),
    ("polynomial", {"degree": 3}),
    ("max", {}),
]
STATES, STORED, VALUES = draw(2, 5, 7), draw(2500, 7, seed=1), draw(2500, 3, seed=2)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(("association", "options"), MAPS)
@pytest.mark.parametrize("entries", [1 << 20, 1500])
def test_chunks_and_matrices_agree(similarity, association, options, entries, monkeypatch):
    """With few entries allowed, the states of a block are parted until they fit."""
    monkeypatch.setattr(candidates, "_ENTRIES", entries)
    how = {"similarity": similarity, "association": association, "beta": 0.3, "num_updates": 2, "top": 4, **options}
    streamed = recall(STATES, STORED, VALUES, **how)
    whole = recall(STATES.clone().requires_grad_(), STORED, VALUES, **how)
    for name, got, wanted in zip(streamed._fields, streamed, whole, strict=True):
        torch.testing.assert_close(got, wanted.detach(), rtol=1e-9, atol=1e-10, equal_nan=True, msg=name)


@pytest.mark.parametrize(("association", "options"), MAPS)
def test_gradients_in_parts_are_those_of_the_whole(association, options, monkeypatch):
    def gradients():
        leaves = [t.clone().requires_grad_() for t in (STATES[0], STORED[:50], VALUES[:50])]
        found = recall(*leaves, beta=0.3, num_updates=2, association=association, **options)
        potential = 0 if association in ("identity", "polynomial") else found.potential.sum()
        total = found.result.square().sum() + potential
        return torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)

    wanted = gradients()
    monkeypatch.setattr(composed, "_KEPT", 100)
    for got, value in zip(gradients(), wanted, strict=True):
        torch.testing.assert_close(got, value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8])
def test_a_store_of_any_dtype_is_compared_exactly(dtype):
    stored = (4 * draw(300, 6)).to(dtype)
    got = retrieve(draw(4, 6, seed=1, dtype=torch.float32), stored, beta=0.2)
    wanted = retrieve(draw(4, 6, seed=1, dtype=torch.float32), stored.float(), beta=0.2)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


def test_states_of_half_precision_come_back_as_they_were():
    stored, state = draw(300, 6), draw(4, 6, seed=1)
    got = retrieve(state.bfloat16(), stored)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), retrieve(state.bfloat16().double(), stored), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(("association", "options"), MAPS)
def test_autocast_changes_nothing(association, options):
    """Similarities of many digits decide: half precision would mistake one pattern for another."""
    state, stored = STATES.float(), STORED.float()
    how = {"association": association, "beta": 8.0, "top": 3, **options}
    wanted = recall(state, stored, **how)
    with torch.autocast("cpu", torch.bfloat16):
        for got in (recall(state, stored, **how), recall(state.clone().requires_grad_(), stored, **how)):
            torch.testing.assert_close(got.result, wanted.result, rtol=1e-4, atol=1e-4)
            assert torch.equal(got.indices, wanted.indices)


def test_many_states_pass_in_blocks(monkeypatch):
    from zoo.layers.hopfield.memory import streaming

    state = draw(9, 7, seed=3)
    wanted = recall(state, STORED, top=2)
    monkeypatch.setattr(streaming, "STATES", 4)
    for got, value in zip(recall(state, STORED, top=2), wanted, strict=True):
        torch.testing.assert_close(got, value)


@pytest.mark.parametrize("association", ["softmax", "sparsemax", "topk", "identity"])
def test_no_states(association):
    found = recall(STATES[:0], STORED, association=association, top=2)
    assert [tuple(part.shape) for part in found] == [(0, 5, 7), (0, 5), (0, 5, 2), (0, 5, 2)]


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_large_scores_do_not_overflow(scale):
    state = STORED[:3].float() * scale
    found = recall(state, STORED.float() * scale, beta=1.0, similarity="neg_sq_l2", top=1)
    torch.testing.assert_close(found.result, state)
    assert found.indices is not None
    assert found.indices[:, 0].tolist() == [0, 1, 2]


def test_patterns_of_equal_scores_are_mixed():
    stored = draw(3, 6).repeat(400, 1)
    for association, options in MAPS[:7]:
        got = retrieve(stored[:1], stored, beta=50.0, association=association, **options)
        torch.testing.assert_close(got, stored[:1], rtol=1e-7, atol=1e-7)


def test_a_map_from_a_file(tmp_path):
    stored = draw(500, 6, dtype=torch.float32)
    np.save(tmp_path / "x.npy", stored.numpy())
    save_file({"x": stored, "y": stored.half()}, tmp_path / "x.safetensors")
    state = draw(4, 6, seed=1, dtype=torch.float32)
    wanted = retrieve(state, stored)
    for mapped in (mapped_patterns(tmp_path / "x.npy"), mapped_patterns(tmp_path / "x.safetensors", "x")):
        assert torch.equal(retrieve(state, mapped), wanted)
    half = mapped_patterns(tmp_path / "x.safetensors", "y")
    torch.testing.assert_close(retrieve(state, half), wanted, rtol=1e-2, atol=1e-2)
    mapped = mapped_patterns(tmp_path / "x.npy")
    mapped.zero_()
    assert torch.equal(mapped_patterns(tmp_path / "x.npy"), stored)
    with pytest.raises(ValueError, match=r"key must name a tensor of x.safetensors \(x, y\), got None"):
        mapped_patterns(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"\.npy and \.safetensors files, got 'x.csv'"):
        mapped_patterns(tmp_path / "x.csv")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"must hold a matrix \(patterns, dim\), got \(3,\)"):
        mapped_patterns(tmp_path / "one.npy")


_PEAK = """
import json, resource, sys, torch
from zoo.layers.hopfield.memory import recall

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

states, patterns, width = map(int, sys.argv[1:])
torch.manual_seed(0)
stored = torch.nn.functional.normalize(torch.randn(patterns, width), dim=-1).mul_(width**0.5)
state = stored[-states:] + 0.1 * torch.randn(states, width)
found = {}
for association in ("softmax", "topk", "entmax", "sparsemax"):
    recall(state[:64], stored[:4000], association=association, top=3)
    before = peak()
    got = recall(state, stored, association=association, top=3)
    assert got.indices[:, 0].tolist() == list(range(patterns - states, patterns))
    found[association] = peak() - before
print(json.dumps(found))
"""


def extra_megabytes(states: int, patterns: int, width: int) -> dict[str, float]:
    """Growth of the peak of a process that recalls from a store which it has already, map by map."""
    command = [sys.executable, "-c", _PEAK, *map(str, (states, patterns, width))]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_memory_does_not_depend_on_the_number_of_patterns():
    """A matrix of states and patterns would be 102 MB."""
    found = extra_megabytes(128, 200_000, 16)
    assert max(found.values()) < 20, found


@pytest.mark.ci_long
def test_a_million_patterns_with_less_than_100_megabytes():
    found = extra_megabytes(1024, 1_000_000, 128)
    assert max(found.values()) < 100, found


def test_energy_is_read_in_chunks_as_well():
    for (association, options), dtype in itertools.product(MAPS[:9], (torch.float32, torch.float64)):
        got = energy(STATES.to(dtype), STORED.to(dtype), beta=0.3, association=association, **options)
        leaf = STATES.clone().requires_grad_()
        wanted = energy(leaf, STORED, beta=0.3, association=association, **options)
        limit = 1e-9 if dtype == torch.float64 else 1e-4
        torch.testing.assert_close(got.double(), wanted.detach(), rtol=limit, atol=limit)
