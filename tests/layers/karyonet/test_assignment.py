"""Learned dispatch equals the official code's, for any case, any number of orders, and any padding."""

from __future__ import annotations

import pytest
import torch

from tests.karyotype.goldens import golden, part
from zoo.layers import KaryotypeAssignment
from zoo.layers.karyonet.reference import plain_assignment


def _module(hidden=4, **options):
    torch.manual_seed(0)
    return KaryotypeAssignment(hidden, dtype=torch.float64, head_dim=5, **options)


def _close(found, wanted, tolerance, name=""):
    scale = max(1.0, wanted.abs().max().item())
    assert (found - wanted).abs().max().item() <= tolerance * scale, name


@pytest.mark.parametrize("name", ["karyonet_dam", "karyonet_dam_case46"])
@pytest.mark.parametrize("form", ["fast", "plain"])
def test_goldens(name, form):
    meta, tensors = golden(name)
    module = KaryotypeAssignment(meta["kwargs"]["hidden_dim"], num_layers=meta["kwargs"]["num_layers"])
    module.load_state_dict(part(tensors, "state"))
    logits = tensors["in.logits"].requires_grad_()
    scores = module(logits) if form == "fast" else plain_assignment(module, logits)
    _close(scores, tensors["out.scores"], meta["tolerance"])
    (scores * tensors["in.cotangent"]).sum().backward()
    grads = {name: p.grad for name, p in module.named_parameters()} | {"logits": logits.grad}
    for key, wanted in part(tensors, "grad").items():
        _close(grads[key], wanted, meta["tolerance"], key)


def test_parameters_of_the_paper():
    assert sum(p.numel() for p in KaryotypeAssignment().parameters()) == 555_521


@pytest.mark.parametrize(("count", "classes"), [(1, 24), (7, 3), (5, 1)])
def test_any_number(count, classes):
    module = _module()
    logits = torch.randn(count, classes, dtype=torch.float64)
    torch.testing.assert_close(module(logits), plain_assignment(module, logits), rtol=0, atol=1e-12)


def test_cases_at_once_and_padding():
    """Every case as if alone, wherever its chromosomes stand; scores of padding are 0, and so is its gradient."""
    module = _module()
    logits = torch.randn(3, 6, 4, dtype=torch.float64)
    whole = module(logits)
    for case, scores in zip(logits, whole, strict=True):
        torch.testing.assert_close(module(case), scores, rtol=0, atol=1e-12)
    mask = torch.tensor([[True] * 6, [False, True, True, False, True, False], [True] + [False] * 5])
    given = torch.where(mask[..., None], logits, 1e3).requires_grad_()
    scores = module(given, mask)
    for case, there, found in zip(logits, mask, scores, strict=True):
        torch.testing.assert_close(found[there], module(case[there]), rtol=0, atol=1e-12)
    assert scores[~mask].abs().max() == 0
    scores.square().sum().backward()
    assert given.grad[~mask].abs().max() == 0
    assert given.grad[mask].abs().min() > 0
    torch.testing.assert_close(module(logits[0], torch.ones(6, dtype=torch.bool)), whole[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_orders_are_averaged(masked):
    module = _module(num_orders=5, seed=3)
    single = _module()
    single.load_state_dict(module.state_dict())
    logits = torch.randn(2, 6, 4, dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [True, False, True, True, False, True]]) if masked else None
    found = module(logits, mask)
    for n, case in enumerate(logits):
        there = torch.ones(6, dtype=torch.bool) if mask is None else mask[n]
        alone, wanted = case[there], torch.zeros_like(case[there])
        keys = torch.rand(len(alone), 5, generator=torch.Generator().manual_seed(3)).T
        for order in keys.argsort(-1):
            wanted[order] += single(alone[order]) / 5
        torch.testing.assert_close(found[n][there], wanted, rtol=0, atol=1e-12)
        assert found[n][~there].count_nonzero() == 0


def test_orders_do_not_depend_on_the_batch():
    """A case has the same scores alone, at any place of a batch, and with padding anywhere."""
    module = _module(num_orders=3, seed=0)
    case = torch.randn(20, 2, dtype=torch.float64)
    alone = module(case)
    for scores in module(torch.stack([case.flip(0), case, case]))[1:]:
        torch.testing.assert_close(scores, alone, rtol=0, atol=1e-12)
    mask = torch.ones(2, 30, dtype=torch.bool)
    mask[1, ::3] = False
    padded = torch.randn(2, 30, 2, dtype=torch.float64)
    padded[1, mask[1]] = case
    torch.testing.assert_close(module(padded, mask)[1, mask[1]], alone, rtol=0, atol=1e-12)


def test_random_orders_can_be_repeated():
    logits = torch.randn(6, 4, dtype=torch.float64)
    seeded, free = _module(num_orders=2, seed=1), _module(num_orders=2)
    assert torch.equal(seeded(logits), seeded(logits))
    assert not torch.equal(free(logits), free(logits))
    one, two = (free(logits, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, two)
    torch.testing.assert_close(one, seeded(logits), rtol=0, atol=1e-12)
    torch.manual_seed(5)
    first = free(logits)
    torch.manual_seed(5)
    assert torch.equal(free(logits), first)


def test_more_orders_depend_less_on_the_order():
    module, averaged = _module(), _module(num_orders=64, seed=0)
    module.requires_grad_(False)
    averaged.load_state_dict(module.state_dict())
    logits = 5 * torch.randn(6, 4, dtype=torch.float64)
    flipped = logits.flip(0)
    alone = (module(logits) - module(flipped).flip(0)).abs().mean()
    together = (averaged(logits) - averaged(flipped).flip(0)).abs().mean()
    assert together < alone / 2


def test_new_parameters():
    module = _module()
    before = {name: p.clone() for name, p in module.named_parameters()}
    module.reset_parameters()
    assert all(not torch.equal(p, before[name]) for name, p in module.named_parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 0}, "hidden_dim must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"num_orders": 0}, "num_orders must be at least 1"),
        ({"head_dim": -1}, "head_dim must be at least 1"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        KaryotypeAssignment(**options)


@pytest.mark.parametrize(
    ("shape", "mask", "message"),
    [
        ((4,), None, "logits must be"),
        ((1, 1, 4, 3), None, r"\[N, C\] or \[cases, N, C\] of one chromosome at least, got \[1, 1, 4, 3\]"),
        ((0, 3), None, r"logits must be \[N, C\] .* of one chromosome at least, got \[0, 3\]"),
        ((2, 2, 3), [[True, True], [False, False]], "case 1 has no chromosomes"),
    ],
)
def test_refuses_inputs(shape, mask, message):
    error = ValueError if len(shape) > 1 else Exception  # a vector is refused by its annotation in tests
    with pytest.raises(error, match=message if len(shape) > 1 else None):
        _module()(torch.zeros(shape, dtype=torch.float64), None if mask is None else torch.tensor(mask))
