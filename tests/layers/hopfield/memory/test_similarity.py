"""Squared distances do not depend on where the origin is."""

from __future__ import annotations

import pytest
import torch

from tests.layers.hopfield.memory.drawing import draw
from zoo.layers.hopfield.memory import HopfieldMemory, association, beta_for, retrieve, separations

_HOW = {"similarity": "neg_sq_l2"}


def test_places_far_from_the_origin_are_their_own_nearest():
    places = draw(60, 2, dtype=torch.float32) * 10 + torch.tensor([48000.0, 11000.0])
    memory = HopfieldMemory(2, beta=1.0, **_HOW)
    memory.add(places, labels=range(60))
    assert memory.label(places).tolist() == list(range(60))


@pytest.mark.parametrize("offset", [100.0, 300.0, 1000.0])
@pytest.mark.parametrize("mapped", [False, True])
def test_an_offset_costs_no_more_than_the_rounding_of_the_patterns(offset, mapped):
    unit = torch.nn.functional.normalize(draw(200, 16, dtype=torch.float32), dim=-1)
    stored = unit + offset
    exact = stored.double()
    phi = torch.eye(16)[:12] + 0.1 * draw(12, 16, seed=1, dtype=torch.float32) if mapped else None
    how = {**_HOW, "feature_map": phi}
    twin = {**_HOW, "feature_map": None if phi is None else phi.double()}
    wanted = retrieve(exact, exact, beta=20.0, **twin)
    close = {"rtol": 0, "atol": 3e-7 * offset + 1e-5}
    torch.testing.assert_close(retrieve(stored, stored, beta=20.0, **how).double(), wanted, **close)
    leaf = stored.clone().requires_grad_()
    torch.testing.assert_close(retrieve(leaf, stored, beta=20.0, **how).detach().double(), wanted, **close)
    weights = association(stored, stored, beta=20.0, **how)
    torch.testing.assert_close(weights.double() @ exact, wanted, **close)
    lead = separations(exact, **twin)
    torch.testing.assert_close(separations(stored, **how).double(), lead, rtol=1e-4, atol=1e-5)
    assert beta_for(0.1, stored, **how) == pytest.approx(beta_for(0.1, exact, **twin), rel=1e-3)


def test_a_pattern_that_is_not_finite_spoils_no_other():
    stored = draw(20, 4)
    broken = torch.cat([stored, torch.full((1, 4), torch.inf, dtype=torch.float64)])
    wanted = torch.arange(20)
    memory = HopfieldMemory.over(broken, labels=torch.arange(21), association="max", check_finite=False, **_HOW)
    found = memory.recall(stored, top=1).indices
    assert found is not None
    assert torch.equal(found[:, 0], wanted)
