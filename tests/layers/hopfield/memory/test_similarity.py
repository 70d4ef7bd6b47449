"""Squared distances do not depend on where the origin is."""

from __future__ import annotations

import pytest
import torch

from tests.layers.hopfield.memory.drawing import draw
from zoo.layers.hopfield.memory import HopfieldMemory, association, beta_for, recall, retrieve, separations

_HOW = {"similarity": "neg_sq_l2"}


def test_places_far_from_the_origin_are_their_own_nearest():
    places = draw(60, 2, dtype=torch.float32) * 10 + torch.tensor([48000.0, 11000.0])
    memory = HopfieldMemory(2, beta=1.0, **_HOW)
    memory.add(places, labels=range(60))
    assert memory.label(places).tolist() == list(range(60))


@pytest.mark.parametrize("offset", [300.0, 1000.0, 3000.0])
@pytest.mark.parametrize("mapped", [False, True])
def test_an_offset_costs_no_more_than_the_rounding_of_the_patterns(offset, mapped):
    unit = torch.nn.functional.normalize(draw(200, 16, dtype=torch.float32), dim=-1)
    stored = unit + offset
    exact = stored.double()
    phi = torch.eye(16)[:12] + 0.1 * draw(12, 16, seed=1, dtype=torch.float32) if mapped else None
    how = {**_HOW, "feature_map": phi}
    twin = {**_HOW, "feature_map": None if phi is None else phi.double()}
    wanted = retrieve(exact, exact, beta=20.0, **twin)
    close = {"rtol": 0, "atol": 1e-6 * offset}
    torch.testing.assert_close(retrieve(stored, stored, beta=20.0, **how).double(), wanted, **close)
    leaf = stored.clone().requires_grad_()
    torch.testing.assert_close(retrieve(leaf, stored, beta=20.0, **how).detach().double(), wanted, **close)
    weights = association(stored, stored, beta=20.0, **how)
    torch.testing.assert_close(weights.double() @ exact, wanted, **close)
    lead = separations(exact, **twin)
    torch.testing.assert_close(separations(stored, **how).double(), lead, rtol=1e-4, atol=1e-4)
    assert beta_for(0.1, stored, **how) == pytest.approx(beta_for(0.1, exact, **twin), rel=1e-3)


def test_a_pattern_infinitely_far_away_is_never_recalled():
    stored = -draw(20, 4).abs()
    broken = torch.cat([stored, torch.full((1, 4), torch.inf, dtype=torch.float64)])
    found = recall(stored, broken, top=1, association="max", **_HOW).indices
    assert found is not None
    assert torch.equal(found[:, 0], torch.arange(20))
