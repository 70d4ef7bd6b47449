"""KaryoNet's modules compiled, exported, copied, and in other precisions: the values stay the same."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch

from zoo.layers import CaseInteraction, KaryotypeAssignment

_HEAD = """
import torch
from zoo.layers import CaseInteraction, KaryotypeAssignment

torch.manual_seed(0)
interact = CaseInteraction(16, num_heads=2, ff_dim=8, num_layers=1, num_classes=(24, 2)).eval()
x = torch.randn(2, 7, 16)
mask = torch.tensor([[True] * 7, [True, False, True, True, False, True, False]])


def same(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)

"""
_CASES = {
    "compiled": """
with torch.no_grad():
    compiled = torch.compile(interact, fullgraph=True)
    same(tuple(compiled(x)), tuple(interact(x)))
    same(tuple(compiled(x, mask)), tuple(interact(x, mask)))
    refine = KaryotypeAssignment(4)
    logits = torch.randn(5, 3)
    same(torch.compile(refine)(logits), refine(logits))
""",
    "exported": """
count = torch.export.Dim("count", min=2, max=99)
program = torch.export.export(interact, (x,), dynamic_shapes={"features": {1: count}}).module()
with torch.no_grad():
    more = torch.randn(2, 11, 16)
    same(tuple(program(more)), tuple(interact(more)))
""",
}


@pytest.mark.parametrize("case", _CASES)
def test_in_a_process_of_its_own(case):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _HEAD + _CASES[case]], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-4000:]


def _modules():
    torch.manual_seed(0)
    interact = CaseInteraction(16, num_heads=2, ff_dim=8, num_layers=1).eval()
    return [
        (interact, torch.randn(6, 16), lambda m, x: m(x).features),
        (KaryotypeAssignment(4), torch.randn(6, 3), None),
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_copies_and_pickles(number):
    module, x, run = _modules()[number]
    run = run or (lambda m, x: m(x))
    with torch.no_grad():
        wanted = run(module, x)
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(run(other, x), wanted)
            for p in other.parameters():
                p.mul_(1.1)
            assert not torch.equal(run(other, x), wanted)
            assert torch.equal(run(module, x), wanted)


@pytest.mark.parametrize("number", [0, 1])
def test_bfloat16(number):
    module, x, run = _modules()[number]
    run = run or (lambda m, x: m(x))
    wanted = run(module, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(run(module, x).float(), wanted, rtol=0.05, atol=0.05)
    half = run(copy.deepcopy(module).bfloat16(), x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), wanted, rtol=0.05, atol=0.05)


def test_gradients_by_transforms():
    """`torch.func` takes torch's own recurrence, and gives what autograd gives."""
    module = KaryotypeAssignment(3, dtype=torch.float64)
    x = torch.randn(4, 3, dtype=torch.float64)
    found = torch.func.grad(lambda x: module(x).square().sum())(x)
    given = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(module(given).square().sum(), given)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_inference_mode():
    for module, x, run in _modules():
        run = run or (lambda m, x: m(x))
        with torch.inference_mode():
            found = run(module, x)
        torch.testing.assert_close(found, run(module, x), rtol=1e-5, atol=1e-5)
