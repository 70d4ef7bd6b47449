"""Interaction of a case equals the official algorithm, without its map of pairs, in training too."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.karyotype.goldens import golden, part
from zoo.layers import CaseInteraction
from zoo.layers.karyonet import pair_map
from zoo.layers.karyonet.reference import plain_interaction, plain_pair_map
from zoo.weights.converters.karyonet import convert_official, infer_variant


def _module(dim=16, seed=0, **options):
    torch.manual_seed(seed)
    module = CaseInteraction(dim, num_heads=4, ff_dim=24, num_layers=2, dtype=torch.float64, **options)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    for name, p in module.named_parameters():
        p.data += 0.1 * torch.randn_like(p) + 0.5 * ("bn" in name)  # so that ReLUs leave something
    return module.eval()


def _golden():
    meta, tensors = golden("karyonet_mfim")
    state, _ = convert_official(part(tensors, "state"))
    module = CaseInteraction(num_heads=meta["kwargs"]["heads"], **infer_variant(state)).eval()
    module.load_state_dict(state)
    return meta, tensors, module


@pytest.mark.parametrize("form", ["fast", "folded", "plain"])
def test_golden(form):
    meta, tensors, module = _golden()
    features = tensors["in.features"].requires_grad_(form != "folded")
    with torch.set_grad_enabled(form != "folded"):
        if form == "plain":
            found, logits = plain_interaction(module, features)
            scores, pair = module.fc_type(found), logits.softmax(-1)
        else:
            out = module(features)
            scores, pair = out.type, out.pair
    assert (scores - tensors["out.scores"]).abs().max() < meta["tolerance"]
    assert (pair - tensors["out.pair"]).abs().max() < meta["tolerance"]
    if form != "folded":
        (scores * tensors["in.cotangent"]).sum().backward()
        assert (features.grad - tensors["grad.features"]).abs().max() < meta["tolerance"]


@pytest.mark.parametrize("training", [False, True])
def test_equals_the_plain_form(training):
    """Outputs, all gradients, and what batch norms learn."""
    fast, plain = _module(dropout=0.0).train(training), _module(dropout=0.0).train(training)
    outputs = []
    for module, run in ((fast, lambda x: tuple(fast(x))[:2]), (plain, lambda x: plain_interaction(plain, x))):
        x = torch.randn(7, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        for _ in range(2):
            features, logits = run(x)
        (features.sin().sum() + logits.square().sum()).backward()
        outputs.append(
            (features, logits, x.grad, {name: p.grad for name, p in module.named_parameters() if p.grad is not None})
        )
    torch.testing.assert_close(*outputs, rtol=1e-7, atol=1e-9)
    for (name, one), other in zip(fast.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10, msg=name)
        if training and name.endswith("num_batches_tracked"):
            assert one == 2


@pytest.mark.parametrize("rows", [1, 7, 20, 10**6])
def test_parts_are_the_whole(rows, monkeypatch):
    monkeypatch.setattr(pair_map, "_PAIRS_CPU", rows)
    module = _module()
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    with torch.no_grad():
        found = module.pair_map(x)
        for case, logits in zip(x, found, strict=True):
            torch.testing.assert_close(logits, plain_pair_map(module.pair_map, case), rtol=0, atol=1e-10)


def test_folded_weights_follow_the_parameters():
    module = _module()
    x = torch.randn(5, 16, dtype=torch.float64)
    with torch.no_grad():
        before = module(x).pair_logits
        assert torch.equal(module(x).pair_logits, before)
        module.pair_map.bn2.running_mean += 0.5
        after = module(x).pair_logits
        assert not torch.allclose(after, before)
        torch.testing.assert_close(after, plain_pair_map(module.pair_map, x), rtol=0, atol=1e-10)
        module.pair_map.conv10.weight.mul_(0.5)
        torch.testing.assert_close(module(x).pair_logits, plain_pair_map(module.pair_map, x), rtol=0, atol=1e-10)
        copied = copy.deepcopy(module)
        torch.testing.assert_close(copied(x), module(x), rtol=0, atol=0)


def test_permutes_with_its_input():
    module = _module()
    x = torch.randn(8, 16, dtype=torch.float64)
    order = torch.randperm(8)
    straight, permuted = module(x), module(x[order])
    torch.testing.assert_close(permuted.features, straight.features[order], rtol=0, atol=1e-10)
    torch.testing.assert_close(permuted.pair_logits, straight.pair_logits[order][:, order], rtol=0, atol=1e-10)


@pytest.mark.parametrize("training", [False, True])
def test_padding_says_nothing(training):
    """Cases of 6, 3 and 1 chromosomes; in training, statistics are of the pairs that there are."""
    module = _module(dropout=0.0, num_classes=(24, 2)).train(training)
    x = torch.randn(3, 6, 16, dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [False, True, True, False, True, False], [True] + [False] * 5])
    one, other = copy.deepcopy(module), copy.deepcopy(module)
    x = torch.where(mask[..., None], x, 50.0).requires_grad_()
    out = one(x, mask)
    changed = other(torch.where(mask[..., None], x, -3.0), mask)
    torch.testing.assert_close(out.features, changed.features, rtol=0, atol=1e-10)
    torch.testing.assert_close(list(one.buffers()), list(other.buffers()), rtol=0, atol=1e-10)
    assert out.features[~mask].abs().max() == 0
    assert out.type.shape == (3, 6, 24)
    assert out.polarity.shape == (3, 6, 2)
    (out.features.sin().sum() + out.pair_logits[mask[:, None] & mask[:, :, None]].sum()).backward()
    assert x.grad[~mask].abs().max() == 0
    if not training:
        for n in range(3):
            alone = module(x[n, mask[n]])
            torch.testing.assert_close(out.features[n, mask[n]], alone.features, rtol=0, atol=1e-10)
            torch.testing.assert_close(out.pair_logits[n][mask[n]][:, mask[n]], alone.pair_logits, rtol=0, atol=1e-10)


def test_statistics_of_cases_at_once():
    """Batch norms over the pairs of all cases: the same as over the rows of all maps together, in one process or more.

    A norm of another class, as of several processes, is given the pairs themselves.
    """

    class Norm(torch.nn.BatchNorm2d):
        pass

    direct = _module(dropout=0.0).train()
    given = copy.deepcopy(direct)
    norm = Norm(32, dtype=torch.float64)
    norm.load_state_dict(given.pair_map.bn0.state_dict())
    given.pair_map.bn0 = norm
    x = torch.randn(3, 5, 16, dtype=torch.float64)
    mask = torch.rand(3, 5) < 0.7
    mask[:, 0] = True
    for masked in (None, mask):
        torch.testing.assert_close(direct(x, masked), given(x, masked), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(list(direct.buffers()), list(given.buffers()), rtol=1e-10, atol=1e-10)


def test_momentum_none_is_a_running_mean():
    fast, plain = _module(dropout=0.0).train(), _module(dropout=0.0).train()
    fast.pair_map.bn0.momentum = plain.pair_map.bn0.momentum = None
    for _ in range(3):
        x = torch.randn(4, 16, dtype=torch.float64)
        fast.pair_map(x[None])
        plain_pair_map(plain.pair_map, x)
    torch.testing.assert_close(fast.pair_map.bn0.running_var, plain.pair_map.bn0.running_var, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 12}, "dim must be a multiple of 8, at least 8, got 12"),
        ({"dim": 0}, "dim must be a multiple of 8"),
        ({"dim": 16, "num_heads": 3}, "dim must be a multiple of num_heads, got 16 and 3"),
        ({"num_classes": (0, 2)}, r"num_classes must be a number of types, or \(types, polarities\)"),
        ({"num_classes": -1}, "num_classes must be"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        CaseInteraction(**options)


@pytest.mark.parametrize("shape", [(3, 8), (1, 1, 3, 16), (0, 16)])
def test_refuses_features(shape):
    with pytest.raises(ValueError, match=r"features must be \[N, 16\] or \[cases, N, 16\] of one chromosome at least"):
        _module()(torch.zeros(shape, dtype=torch.float64))


def test_refuses_cases_without_chromosomes():
    with pytest.raises(ValueError, match="case 0 has no chromosomes"):
        _module()(torch.zeros(2, 3, 16, dtype=torch.float64), torch.tensor([[False] * 3, [True] * 3]))
