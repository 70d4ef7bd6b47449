"""The digits recipe, as `python -m benchmarks.kan_learning` runs it."""

import statistics

import pytest

from benchmarks.kan_learning import MODELS, SEEDS, accuracy

#: Mean test accuracy of three seeds with the three libraries' code.
REACHED = {"B-splines": 0.958, "Gaussians": 0.970, "switches": 0.965}


@pytest.mark.ci_long
@pytest.mark.parametrize("basis", REACHED)
def test_digits_are_learned_as_with_the_libraries(basis):
    (make,) = (make for name, make in MODELS.items() if basis in name)
    reached = statistics.mean(accuracy(make, seed) for seed in SEEDS)
    assert reached == pytest.approx(REACHED[basis], abs=0.01)
