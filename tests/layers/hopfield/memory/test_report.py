"""The report tells what a memory does, and its advice works."""

from __future__ import annotations

import json

import pytest
import torch

from tests.layers.hopfield.memory.drawing import draw, on_sphere
from zoo.layers.hopfield.memory import beta_for, retrieval_report, retrieve, separations


@pytest.mark.parametrize(
    ("similarity", "of_pair"),
    [
        ("dot", lambda x, y: x @ y),
        ("cosine", lambda x, y: x @ y / x.norm() / y.norm()),
        ("neg_sq_l2", lambda x, y: -(x - y).square().sum()),
        ("neg_l1", lambda x, y: -(x - y).abs().sum()),
    ],
)
def test_separations_by_their_definition(similarity, of_pair):
    stored = draw(9, 4)
    wanted = [of_pair(x, x) - max(of_pair(x, y) for j, y in enumerate(stored) if j != i) for i, x in enumerate(stored)]
    torch.testing.assert_close(separations(stored, similarity=similarity), torch.stack(wanted))
    rows = torch.tensor([7, 2])
    found = separations(stored, similarity=similarity, rows=rows)
    torch.testing.assert_close(found, torch.stack(wanted)[rows])


def test_separations_of_more_patterns_than_a_chunk():
    stored = draw(9000, 3)
    scores = stored @ stored.t()
    own = scores.diagonal().clone()
    scores.fill_diagonal_(-torch.inf)
    torch.testing.assert_close(separations(stored), own - scores.amax(-1))


def test_beta_is_the_smallest_of_the_bound():
    stored = on_sphere(50, 32)
    longest, lead = float(stored.norm(dim=-1).amax()), float(separations(stored).amin())
    beta = beta_for(0.1, stored, eps=0.2)
    margin = lead - 2 * longest * 0.2
    assert 2 * longest * 49 * torch.tensor(-beta * margin).exp() == pytest.approx(0.1)
    bound = retrieval_report(stored, beta=beta, eps=0.2).bound
    assert float(bound.amax()) == pytest.approx(0.1)


def test_beta_for_a_share_of_the_patterns():
    stored = on_sphere(50, 32)
    stored[1] = stored[0] + 0.01 * draw(32, seed=1)
    assert beta_for(0.1, stored, share=0.96) < beta_for(0.1, stored, similarity="neg_sq_l2") / 100
    with pytest.raises(ValueError, match=r"no beta recalls 100% of the patterns: [12] of 50 .*share=0.9[68] at most"):
        beta_for(0.1, stored, eps=0.1)
    assert beta_for(0.1, stored[:1]) == 1.0


def test_a_memory_that_averages_says_so_and_its_beta_recalls():
    stored = on_sphere(1000, 64)
    report = retrieval_report(stored, beta=0.125)
    assert report.averages
    assert report.kinds["global average"] + report.kinds["large"] == 256
    assert report.needed_beta is not None
    assert f"Raise beta to about {report.needed_beta:.3g}" in str(report)
    better = retrieval_report(stored, beta=report.needed_beta)
    assert better.kinds["one pattern"] == 256
    assert not better.advice()
    assert float(better.error.amax()) < 0.01
    assert bool((better.error * stored[better.rows].norm(dim=-1) <= better.bound).all())


def test_kinds_of_states():
    """Weights that are the same for a known number of patterns: identical ones."""
    groups = torch.eye(5, dtype=torch.float64)
    sizes = (1, 3, 10, 30, 84)
    stored = groups.repeat_interleave(torch.tensor(sizes), 0)
    report = retrieval_report(stored, groups, beta=50.0)
    assert list(report.kinds.values()) == [1, 1, 1, 1, 1]
    assert report.num_weights.tolist() == [1, 3, 9, 27, 76]


def test_a_pattern_that_another_answers_for():
    stored = torch.cat([on_sphere(20, 32), 3 * on_sphere(20, 32)[:1]])
    report = retrieval_report(stored, beta=1.0)
    assert report.mistaken == [0]
    assert report.needed_beta is None
    assert "'cosine'" in report.advice()[0]
    again = retrieval_report(stored[:20], beta=1.0)
    assert again.mistaken == []


def test_a_memory_of_one_pattern():
    stored = draw(1, 4)
    report = retrieval_report(stored)
    assert report.kinds["one pattern"] == 1
    assert float(report.error) == 0
    assert not report.advice()
    torch.testing.assert_close(retrieve(draw(3, 4), stored), stored.expand(3, -1))


def test_a_report_in_numbers():
    found = json.loads(json.dumps(retrieval_report(draw(20, 4), draw(3, 4, seed=1), sample=5).to_dict()))
    assert found["rows"] == [0, 4, 8, 12, 16]
    assert len(found["num_weights"]) == 3
    assert found["averages"] in (True, False)


@pytest.mark.parametrize("association", ["sparsemax", "entmax", "topk", "max", "identity", "polynomial"])
def test_a_report_of_every_map(association):
    assert association in str(retrieval_report(draw(20, 4), association=association))


@pytest.mark.parametrize(
    ("association", "options", "margin"),
    [("sparsemax", {}, 1.0), ("normmax", {}, 1.0), ("entmax", {"alpha": 1.5}, 2.0), ("budget", {"k": 1}, 1.0)],
)
def test_the_beta_of_a_sparse_map_is_its_margin(association, options, margin):
    stored = on_sphere(50, 32)
    report = retrieval_report(stored, beta=1e-3, association=association, **options)
    assert report.needed_beta == pytest.approx(1.0001 * margin / float(report.separation.amin()))
    better = retrieval_report(stored, beta=report.needed_beta, association=association, **options)
    assert float(better.error.amax()) < 1e-12
    assert not better.advice()


@pytest.mark.parametrize(("association", "options"), [("budget", {"k": 3}), ("identity", {}), ("polynomial", {})])
def test_no_beta_is_advised_where_none_helps(association, options):
    report = retrieval_report(on_sphere(50, 32), association=association, **options)
    assert report.needed_beta is None
    assert not any("beta=" in line for line in report.advice())
    assert "mixes several patterns whatever beta is" in report.advice()[0]


def test_a_pattern_of_length_zero_is_measured_by_the_longest():
    stored = torch.cat([on_sphere(20, 32), torch.zeros(1, 32, dtype=torch.float64)])
    assert float(retrieval_report(stored, beta=0.01).error.amax()) < 1.1


def test_any_beta_will_do_for_an_error_as_large_as_two_patterns():
    stored = on_sphere(50, 32)
    assert beta_for(2.1 * float(stored.norm(dim=-1).amax()), stored) == 1.0
