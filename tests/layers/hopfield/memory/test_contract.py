"""Memories keep the contract of modules; bad inputs are refused with what is allowed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_STORE = {"dim": 8, "num_patterns": 5, "beta": 0.3}
CONTRACTS = [
    ("HopfieldMemory", _STORE, {}),
    ("HopfieldMemory", {**_STORE, "learnable": True}, {}),
    ("HopfieldMemory", {**_STORE, "learnable": True, "value_dim": 3, "num_updates": 2, "association": "sparsemax"}, {}),
    ("HopfieldMemory", {**_STORE, "similarity": "cosine", "association": "topk", "k": 2, "post": "l2"}, {}),
    ("HopfieldMemory", {**_STORE, "similarity": "neg_l1", "association": "entmax"}, {}),
    ("HopfieldMemory", {**_STORE, "similarity": "neg_sq_l2", "association": "polynomial", "degree": 3}, {}),
    ("LinearMemory", {"dim": 8, "value_dim": 3}, {"gradient": "a new memory is empty and gives 0"}),
]
#: expression -> parts of the message; x is (4, 6), m a memory of it.
REFUSALS = {
    "HopfieldMemory(0)": ["ValueError", "dim must be an integer of at least 1, got 0"],
    "HopfieldMemory(6, value_dim=0)": ["ValueError", "value_dim", "got 0"],
    "HopfieldMemory(6, num_patterns=-1)": ["ValueError", "num_patterns", "got -1"],
    "HopfieldMemory(6, beta=0.0)": ["ValueError", "beta must be a finite number greater than 0, got 0.0"],
    "HopfieldMemory(6, beta=float('nan'))": ["ValueError", "beta", "nan"],
    "HopfieldMemory(6, beta='automatic')": ["ValueError", "a number or 'auto', got 'automatic'"],
    "HopfieldMemory(6, beta='auto', learnable=True)": ["ValueError", "learnable=False"],
    "HopfieldMemory(6, num_updates=0)": ["ValueError", "num_updates", "got 0"],
    "HopfieldMemory(6, similarity='cosin')": ["ValueError", "similarity", "did you mean 'cosine'"],
    "HopfieldMemory(6, association='maxx')": ["ValueError", "association", "'identity'", "did you mean 'max'"],
    "HopfieldMemory(6, association='topk', alpha=2.0)": ["ValueError", "alpha", "'entmax', 'normmax'", "'topk'"],
    "HopfieldMemory(6, degree=3)": ["ValueError", "degree", "'polynomial'", "'softmax'"],
    "HopfieldMemory(6, association='polynomial', degree=0)": ["ValueError", "degree", "got 0"],
    "HopfieldMemory(6, association='entmax', alpha=0.5)": ["ValueError", "entmax must be at least 1, got 0.5"],
    "HopfieldMemory(6, association='normmax', alpha=1.0)": ["ValueError", "normmax must be greater than 1"],
    "HopfieldMemory(6, post='l3')": ["ValueError", "post", "'l3'"],
    "HopfieldMemory(6)(x)": ["ValueError", "the memory is empty: add(patterns) first"],
    "HopfieldMemory(6, beta='auto')(x)": ["ValueError", "the memory is empty"],
    "HopfieldMemory(6).report()": ["ValueError", "the memory is empty"],
    "m(x[:, :5])": ["ValueError", "6 wide", "(4, 5)"],
    "m(x.long())": ["TypeError", "state", "floating", "torch.int64"],
    "m.recall(x, top=5)": ["ValueError", "top must be at most the 4 stored patterns, got 5"],
    "m.add(x[:, :5])": ["ValueError", "patterns must be (n, 6), got (4, 5)"],
    "m.add(x, x)": ["TypeError", "the memory stores no values: got some"],
    "HopfieldMemory(6, value_dim=3).add(x)": ["TypeError", "values 3 wide: got none"],
    "HopfieldMemory(6, value_dim=3).add(x, x)": ["ValueError", "(4, 3)", "(4, 6)"],
    "m.add(x, labels=[1, 2])": ["ValueError", "labels must be 4 integers", "(2,)"],
    "m.add(x, labels=torch.zeros(4))": ["ValueError", "labels must be 4 integers", "torch.float32"],
    "m.add(x / 0)": ["ValueError", "patterns must be finite", "check_finite=False"],
    "HopfieldMemory.over(x / 0)": ["ValueError", "patterns must be finite"],
    "HopfieldMemory.over(x.to(torch.int8)).add(x)": ["TypeError", "torch.int8", "fractions"],
    "m.remove(4)": ["IndexError", "there are 4 stored patterns, got the index 4"],
    "m.remove([True])": ["IndexError", "one boolean for each of 4 patterns, got 1"],
    "m.replace([0, 1], x)": ["ValueError", "one pattern for each of 2 indices, got 4"],
    "HopfieldMemory.over(x, similarity='cosine').energy(x)": ["ValueError", "'dot'", "'cosine'"],
    "HopfieldMemory.over(x, association='identity').energy(x)": ["ValueError", "'identity' has no energy"],
    "HopfieldMemory.over(x, association='topk').forward(x)": ["ValueError", "k of topk", "1 to the 4 patterns, got 8"],
    "retrieve(x, x[:0])": ["ValueError", "no stored pattern"],
    "retrieve(x, x[0])": ["ValueError", "stored must be (patterns, dim), got (6,)"],
    "retrieve(x, x, x[:3])": ["ValueError", "values must be (4, value_dim)", "(3, 6)"],
    "retrieve(x, x, beta=torch.ones(2))": ["ValueError", "beta must be one number", "(2,)"],
    "retrieve(x, x, similarity='l2')": ["ValueError", "similarity", "'neg_sq_l2'", "'l2'"],
    "separations(x[:1])": ["ValueError", "at least two stored patterns, got 1"],
    "beta_for(0.0, x)": ["ValueError", "error must be greater than 0, got 0.0"],
    "beta_for(0.1, x, eps=-1.0)": ["ValueError", "eps must be at least 0"],
    "beta_for(0.1, x, share=0.0)": ["ValueError", "share", "got 0.0"],
    "learn_feature_map(x[:1])": ["ValueError", "at least two patterns", "got 1"],
    "learn_feature_map(x, steps=0)": ["ValueError", "steps", "got 0"],
    "m.remove(torch.tensor([2.9]))": ["TypeError", "indices must be an integer", "torch.float32"],
    "m.remove(1.7)": ["TypeError", "indices", "torch.float32"],
    "m.remove(float('nan'))": ["TypeError", "indices"],
    "m.remove([[0, 1]])": ["TypeError", "indices", "(1, 2)"],
    "m.replace(1.5, x[:1])": ["TypeError", "indices", "torch.float32"],
    "m.replace([3, -1], x[:2])": ["ValueError", "an index must be given once, got [3, 3]"],
    "m.add(x.numpy())": ["TypeError", "patterns must be a tensor, got ndarray; torch.as_tensor"],
    "m(x.numpy())": ["TypeError", "state must be a tensor, got ndarray"],
    "retrieve(x.numpy(), x)": ["TypeError", "state must be a tensor, got ndarray"],
    "retrieve(x, x.numpy())": ["TypeError", "stored must be a tensor, got ndarray"],
    "HopfieldMemory.over(x.numpy())": ["TypeError", "stored must be a tensor, got ndarray"],
    "LinearMemory(6).add(x.numpy())": ["TypeError", "patterns must be a tensor, got ndarray"],
    "separations(x.numpy())": ["TypeError", "stored must be a tensor, got ndarray"],
    "retrieve(x, x, feature_map=torch.ones(3, 5))": ["ValueError", "feature_map must be (features, 6), got (3, 5)"],
    "retrieve(x, x, beta='x')": ["TypeError", "beta must be a number", "'x'"],
    "retrieve(x, x, beta=None)": ["TypeError", "beta must be a number", "None"],
    "learn_feature_map(x.long())": ["TypeError", "floating", "torch.int64"],
    "m.add(x, labels=['a', 'b', 'c', 'd'])": ["ValueError", "labels must be 4 integers", "'a'"],
    "HopfieldMemory(6, beta='auto', association='budget', k=3)": ["ValueError", "'budget' of k=3", "another"],
    "beta_for(0.1, x, association='polynomial')": ["ValueError", "'polynomial'", "no beta recalls"],
    "beta_for(0.1, x / 0)": ["ValueError", "patterns and their lengths must be finite"],
    "retrieval_report(x / 0)": ["ValueError", "patterns and their lengths must be finite"],
    "retrieval_report(x, x / 0)": ["ValueError", "states must be finite"],
    "automatic()(x[:, :5])": ["ValueError", "6 wide", "(4, 5)"],
    "automatic()(x.long())": ["TypeError", "floating", "torch.int64"],
    "automatic().recall(x, top=0)": ["ValueError", "top must be an integer of at least 1, got 0"],
    "HopfieldMemory(6, num_patterns=1, dtype=torch.float16).add(1e6 * x)": [
        "ValueError",
        "patterns must be finite in torch.float16",
    ],
    "m.load_state_dict({**m.state_dict(), 'labels': torch.zeros(3)})": ["RuntimeError", "as many", "'labels': 3"],
    "m.load_state_dict({**m.state_dict(), 'patterns': x / 0})": ["RuntimeError", "patterns: must be finite"],
    "stored_once().remove(1000 * x[:1])": ["ValueError", "were not stored as they are given"],
    "LinearMemory(6, beta=-1.0)": ["ValueError", "beta", "-1.0"],
    "LinearMemory(6).add(x[:, :5])": ["ValueError", "patterns must be (n, 6), got (4, 5)"],
    "LinearMemory(6).add(x, x[:3])": ["ValueError", "values must be (4, 6)", "(3, 6)"],
    "LinearMemory(6).add(x / 0)": ["ValueError", "finite"],
    "LinearMemory(6).remove(x)": ["ValueError", "there are 0 stored patterns to remove, got 4"],
    "LinearMemory(6)(x[:, :5])": ["ValueError", "6 wide", "(4, 5)"],
}
_SCRIPT = """
import json, sys, torch, warnings
warnings.simplefilter("ignore")
import zoo.layers.hopfield.memory as memory
from zoo.layers.hopfield.memory import *
from zoo.testing import check_module

def automatic():
    memory = HopfieldMemory(6, beta="auto")
    memory.add(torch.ones(4, 6))  # no beta tells these apart
    return memory

def stored_once():
    memory = LinearMemory(6)
    memory.add(torch.arange(24.0).view(4, 6))
    return memory

contracts, refusals = json.load(sys.stdin)
x = torch.arange(24.0).view(4, 6)
for name, options, exceptions in contracts:
    example = lambda rows: torch.randn(rows, 8)
    cls = getattr(memory, name)
    try:
        check_module("memory", cls, options=options, example=example, exceptions=exceptions, compiler="aot_eager")
        print(json.dumps([str([name, options]), "holds"]))
    except AssertionError as error:
        print(json.dumps([str([name, options]), str(error)]))
for case in refusals:
    m = HopfieldMemory(6)
    m.add(x)
    try:
        eval(case)
        print(json.dumps([case, "no error"]))
    except Exception as error:
        print(json.dumps([case, f"{type(error).__name__}: {error}"]))
"""


@pytest.fixture(scope="module")
def said():
    """From a process without the session's checks of annotations, which would speak first, and stop compilers."""
    given = json.dumps([CONTRACTS, list(REFUSALS)])
    done = subprocess.run([sys.executable, "-c", _SCRIPT], input=given, capture_output=True, text=True, check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("case", CONTRACTS, ids=lambda case: f"{case[0]}-{case[1]}")
def test_contract(case, said):
    assert said[str([case[0], case[1]])] == "holds"


@pytest.mark.parametrize("case", REFUSALS)
def test_refused(case, said):
    for part in REFUSALS[case]:
        assert part in said[case], said[case]
