"""What retrieval promises: limits, descent, exactness, the bound of its error, and how much is recalled."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tests.layers.hopfield.memory.drawing import draw, on_sphere
from zoo.layers.hopfield.memory import (
    SIMILARITIES,
    association,
    beta_for,
    energy,
    learn_feature_map,
    recall,
    retrieve,
    separations,
    uniformity,
)

SPARSE = [
    ("sparsemax", {}, 1.0),
    ("entmax", {"alpha": 1.5}, 2.0),
    ("entmax", {"alpha": 1.25}, 4.0),
    ("normmax", {}, 1.0),
]
CONVEX = [
    ("softmax", {}),
    ("sparsemax", {}),
    ("entmax", {"alpha": 1.5}),
    ("entmax", {"alpha": 1.2}),
    ("normmax", {}),
    ("budget", {"k": 2}),
    ("topk", {"k": 3}),
    ("max", {}),
]


@pytest.mark.parametrize(("name", "options"), CONVEX)
@pytest.mark.parametrize("beta", [0.1, 1.0, 10.0])
def test_energy_never_increases(name, options, beta):
    stored, state = draw(40, 6), 2 * draw(30, 6, seed=1)
    before = energy(state, stored, beta=beta, association=name, **options)
    for _ in range(20):
        state = retrieve(state, stored, beta=beta, association=name, **options)
        after = energy(state, stored, beta=beta, association=name, **options)
        assert bool((after <= before + 1e-12 * before.abs()).all())
        before = after


def test_energy_of_softmax_in_the_hull():
    stored = draw(40, 6)
    state = torch.softmax(draw(100, 40, seed=1), -1) @ stored
    found = energy(state, stored, beta=0.7)
    most = stored.norm(dim=-1).amax() ** 2
    assert 0 <= float(found.amin()) <= float(found.amax()) <= 2 * float(most)
    wanted = (
        -(0.7 * state @ stored.t()).logsumexp(-1) / 0.7 + state.square().sum(-1) / 2 + math.log(40) / 0.7 + most / 2
    )
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("name", "options"), CONVEX[:6])
def test_an_update_follows_the_gradient_of_the_energy(name, options):
    """The state minus the gradient of the energy is the next state."""
    stored, state = draw(40, 6), draw(5, 6, seed=1).requires_grad_()
    (slope,) = torch.autograd.grad(energy(state, stored, beta=0.8, association=name, **options).sum(), state)
    torch.testing.assert_close(state - slope, retrieve(state, stored, beta=0.8, association=name, **options))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_limits_of_beta(similarity):
    stored, state = draw(40, 6), draw(5, 6, seed=1)
    mean = retrieve(state, stored, beta=1e-12, similarity=similarity)
    torch.testing.assert_close(mean, stored.mean(0).expand(5, -1), rtol=0, atol=1e-9)
    nearest = retrieve(state, stored, association="max", similarity=similarity)
    for name in ("softmax", "sparsemax", "entmax", "normmax"):
        got = retrieve(state, stored, beta=1e5, association=name, similarity=similarity)
        torch.testing.assert_close(got, nearest, rtol=0, atol=1e-9)


def test_which_pattern_is_the_most_similar():
    stored = torch.tensor([[1.0, 0.0], [5.0, 5.0], [0.8, 0.3]])
    state = torch.tensor([1.0, 0.1])
    best = {s: recall(state, stored, association="max", similarity=s, top=1).indices for s in SIMILARITIES}
    assert {name: int(index) for name, index in best.items()} == {  # pyright: ignore[reportArgumentType]
        "dot": 1,
        "cosine": 0,
        "neg_sq_l2": 0,
        "neg_l1": 0,
    }


@pytest.mark.parametrize(("name", "options", "margin"), SPARSE)
@pytest.mark.parametrize("excess", [1.001, 0.8])
def test_a_sparse_memory_is_exact_from_its_margin_on(name, options, margin, excess):
    """From anywhere within eps of a pattern one update returns the pattern; short of the margin it does not."""
    stored, eps = on_sphere(50, 32), 0.3
    longest = float(stored.norm(dim=-1).amax())
    lead = separations(stored) - (2 * longest * eps if excess > 1 else 0)
    assert float(lead.amin()) > 0
    beta = excess * margin / float(lead.amin())
    start = stored
    if excess > 1:
        direction = draw(50, 32, seed=1)
        start = stored + eps * direction / direction.norm(dim=-1, keepdim=True)
    found = retrieve(start, stored, beta=beta, association=name, **options)
    weights = association(start, stored, beta=beta, association=name, **options)
    others = weights[~torch.eye(50, dtype=torch.bool)]
    if excess > 1:
        assert not bool(others.any())
        torch.testing.assert_close(found, stored, rtol=0, atol=1e-6)
    else:
        assert bool(others.any())


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("mapped", [False, True])
def test_the_error_stays_below_its_bound(similarity, mapped):
    """1,000 random states within eps of their pattern, with the beta that `beta_for` gives for an error."""
    stored, eps = on_sphere(100, 48), 0.4 if similarity != "neg_l1" else 0.2
    phi = 2 * torch.eye(48, dtype=torch.float64)[:40] + 0.05 * draw(40, 48, seed=3) if mapped else None
    how = {"similarity": similarity, "feature_map": phi}
    direction = draw(1000, 48, seed=1)
    which = torch.arange(1000) % 100
    lengths = eps * torch.rand(1000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    states = stored[which] + lengths * direction / direction.norm(dim=-1, keepdim=True)
    for error in (1.0, 1e-2, 1e-5):
        beta = beta_for(error, stored, eps=eps, **how)
        found = retrieve(states, stored, beta=beta, **how)
        assert float((found - stored[which]).norm(dim=-1).amax()) <= error


@pytest.mark.parametrize(("name", "options"), [*CONVEX, ("identity", {}), ("polynomial", {"degree": 4})])
def test_the_order_of_the_patterns_does_not_matter(name, options):
    stored, values, state = draw(40, 6), draw(40, 3, seed=1), draw(5, 6, seed=2)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    got = retrieve(state, stored[order], values[order], num_updates=2, association=name, **options)
    torch.testing.assert_close(got, retrieve(state, stored, values, num_updates=2, association=name, **options))


@pytest.mark.parametrize(("name", "options"), CONVEX[:5])
def test_gradients(name, options):
    leaves = [t.requires_grad_() for t in (draw(3, 4), draw(6, 4, seed=1), draw(6, 2, seed=2))]
    beta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def run(state, stored, values, beta):
        found = recall(state, stored, values, beta=beta, num_updates=2, association=name, **options)
        return found.result, found.potential, energy(state, stored, beta=beta, association=name, **options)

    assert gradcheck(run, (*leaves, beta), fast_mode=True)
    if name == "softmax":
        assert gradgradcheck(run, (*leaves, beta), fast_mode=True)


def test_identity_is_the_outer_product_memory():
    """Orthonormal keys are recalled exactly, and so is a scaled one: weights are relative."""
    keys = torch.linalg.qr(draw(6, 6)).Q
    values = draw(6, 3, seed=1)
    torch.testing.assert_close(retrieve(3 * keys, keys, values, association="identity"), values)
    state = draw(2, 6, seed=2)
    raw = state @ (keys.t() @ values)
    got = retrieve(state, keys, values, association="identity")
    torch.testing.assert_close(got * (state @ keys.t()).abs().sum(-1, keepdim=True), raw)


def test_a_high_degree_recalls_what_a_low_one_mixes():
    """Patterns of signs with one sign in seven flipped."""
    stored = draw(20, 64).sign()
    state = stored * torch.where(torch.rand(20, 64, generator=torch.Generator().manual_seed(1)) < 0.15, -1, 1)
    errors = [
        float((retrieve(state, stored, association="polynomial", degree=degree) - stored).norm(dim=-1).mean())
        for degree in (1, 3, 9, 31)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05 < 3 < errors[0]


@pytest.mark.parametrize("scale", [100.0, 1e-4])
def test_powers_neither_overflow_nor_vanish(scale):
    stored, state = scale * draw(9000, 6, dtype=torch.float32), scale * draw(5, 6, seed=1, dtype=torch.float32)
    wanted = retrieve(state.double(), stored.double(), association="polynomial", degree=10)
    for composed in (False, True):
        got = retrieve(state.clone().requires_grad_(composed), stored, association="polynomial", degree=10)
        torch.testing.assert_close(got.detach().double(), wanted, rtol=1e-3, atol=1e-3 * scale)


def test_what_is_done_to_every_new_state():
    stored, state = draw(40, 6), draw(5, 6, seed=1)
    twice = retrieve(state, stored, num_updates=2, post="l2")
    once = retrieve(state, stored)
    wanted = retrieve(once / once.norm(dim=-1, keepdim=True), stored)
    torch.testing.assert_close(twice, wanted / wanted.norm(dim=-1, keepdim=True))
    values = draw(40, 3, seed=2)
    assert torch.equal(retrieve(state, stored, values, post="l2"), retrieve(state, stored, values))


def retrieved(count: int, beta: float, num_updates: int, states: int = 200) -> float:
    """Mean relative error of patterns of 64 numbers, recalled from noise of 0.5 a number."""
    stored = on_sphere(count, 64)
    state = stored[:states] + 0.5 * draw(states, 64, seed=1)
    error = retrieve(state, stored, beta=beta, num_updates=num_updates) - stored[:states]
    return float((error.norm(dim=-1) / stored[:states].norm(dim=-1)).mean())


#: beta -> relative errors after one and two updates; 1/sqrt(64) averages.
SMALL = {0.125: (0.36, 0.80), 0.25: (1.4e-3, 7.5e-4), 0.5: (1.1e-7, 1.1e-8), 1.0: (1e-14, 1e-14)}
LARGE = {0.125: (0.87, 0.98), 0.25: (0.13, 0.26), 0.5: (1.7e-5, 5.5e-7), 1.0: (1.4e-10, 1e-14)}


def check_errors(count: int, table: dict[float, tuple[float, float]]) -> None:
    for beta, errors in table.items():
        for updates, wanted in enumerate(errors, 1):
            got = retrieved(count, beta, updates)
            if wanted > 0.1:
                assert got == pytest.approx(wanted, rel=0.2)
            else:
                assert got <= 30 * wanted


def test_how_much_of_a_thousand_patterns_is_recalled():
    check_errors(1000, SMALL)


@pytest.mark.ci_long
def test_how_much_of_a_hundred_thousand_patterns_is_recalled():
    check_errors(100_000, LARGE)


def test_a_feature_map_spreads_patterns_and_recalls_more_of_them():
    """Patterns that share a large part are mistaken for each other; apart from it they are far from each other."""
    stored = draw(60, 16, dtype=torch.float32)
    stored = 0.5 * stored + draw(1, 16, seed=1, dtype=torch.float32)
    torch.manual_seed(0)
    phi = learn_feature_map(stored)
    assert not phi.requires_grad
    assert float(uniformity(stored @ phi.t())) < float(uniformity(stored)) - 1
    state = stored + 0.05 * draw(60, 16, seed=2, dtype=torch.float32)
    errors = {}
    for name, chosen in (("plain", None), ("spread", phi)):
        found = retrieve(state, stored, beta=10.0, similarity="cosine", feature_map=chosen)
        errors[name] = float((found - stored).norm(dim=-1).mean())
    assert errors["spread"] < 0.1 * errors["plain"]
    leaf = state.clone().requires_grad_()
    composed = retrieve(leaf, stored, beta=10.0, similarity="cosine", feature_map=phi)
    torch.testing.assert_close(composed, found)


def test_uniformity_is_the_mean_over_pairs():
    x = draw(9, 4)
    u = x / x.norm(dim=-1, keepdim=True)
    wanted = torch.pdist(u).square().mul(-2).exp().mean().log()
    torch.testing.assert_close(uniformity(x), wanted)
