"""What stitched paths learn: from nothing, from least squares, and in a few epochs of training together."""

from __future__ import annotations

from statistics import mean

import pytest

from benchmarks.stitch_learning import STAGES, learn

ANCHORS = 3


@pytest.mark.slow
def test_least_squares_and_five_epochs_are_worth_something():
    with pytest.warns(UserWarning, match="the stitching layers of this path are random"):
        found = learn(0)
    drawn, fitted, trained = (mean(found[stage][ANCHORS:]) for stage in STAGES)
    assert fitted >= 2 * drawn
    assert trained >= 0.58
    for alone, then in zip(found["as drawn"][:ANCHORS], found["5 epochs"][:ANCHORS], strict=True):
        assert then >= alone - 0.03
