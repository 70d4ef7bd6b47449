"""Metrics by chromosome and by case, against scikit-learn and the golden data."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score

from tests.karyotype.cases import noisy
from tests.karyotype.goldens import golden
from zoo.karyotype import HUMAN, case_metrics, dispatch, dispatch_cases
from zoo.karyotype.polarity import polarity_number
from zoo.models.varifocal.registered import POLARITIES

_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro_f1",
    "macro_precision": "macro_precision",
    "macro_recall": "macro_recall",
    "accuracy_per_case_mean": "accuracy_per_case",
    "complete_case_rate": "complete_case_rate",
}


def test_golden():
    meta, tensors = golden("metrics")
    pred, target, cases = (tensors[f"in.{name}"] for name in ("pred", "target", "case_id"))
    found = case_metrics(pred, target, cases, polarity=pred % 2, polarity_labels=target % 2)
    for theirs, ours in _NAMES.items():
        assert getattr(found, ours) == pytest.approx(tensors[f"out.{theirs}"].item(), abs=meta["tolerance"])
    assert found.chromosomes == 231
    assert found.polarity is not None
    assert found.polarity.macro_f1 == pytest.approx(f1_score(target % 2, pred % 2, average="macro"), abs=1e-12)
    told = json.loads(json.dumps(found.to_dict()))
    assert told["polarity_accuracy"] == pytest.approx(((pred % 2) == (target % 2)).double().mean().item())
    assert told["cases"] == len(cases.unique())


def test_order_of_chromosomes_says_nothing():
    _, tensors = golden("metrics")
    given = [tensors[f"in.{name}"].numpy() for name in ("pred", "target", "case_id")]
    order = np.random.default_rng(0).permutation(231)
    straight, mixed = case_metrics(*given), case_metrics(*(part[order] for part in given))
    assert straight.to_dict() == pytest.approx(mixed.to_dict(), abs=1e-12)
    np.testing.assert_allclose(straight.case_accuracy, mixed.case_accuracy)


def test_classes_that_do_not_occur():
    """As scikit-learn counts: a class counts where it is the truth or an answer; of no answers, precision is 0."""
    draw = np.random.default_rng(0)
    for _ in range(50):
        pred, target = draw.integers(0, 9, (2, 12))
        found = case_metrics(pred, target, np.zeros(12, int))
        for ours, theirs in (
            (found.macro_f1, f1_score),
            (found.macro_precision, precision_score),
            (found.macro_recall, recall_score),
        ):
            assert ours == pytest.approx(theirs(target, pred, average="macro", zero_division=0), abs=1e-12)
        assert np.isnan(found.recall[9:]).all()


def test_what_dispatch_returns_is_measured():
    cases = [noisy(seed, 1.5, 5) for seed in range(4)]
    labels = [types for types, _ in cases]
    tables = [table for _, table in cases]
    wanted = case_metrics(
        np.concatenate([dispatch(table).types for table in tables]),
        np.concatenate(labels),
        np.repeat(np.arange(4), 46),
    )
    together = dispatch_cases(tables)
    alone = [dispatch(table) for table in tables]
    order = np.random.default_rng(0).permutation(4 * 46)
    mixed = dispatch_cases(np.concatenate(tables)[order], case_ids=np.repeat(np.arange(4), 46)[order])
    for found in (
        case_metrics(together, labels),
        case_metrics(together, torch.tensor(np.concatenate(labels))),
        case_metrics(alone, labels),
        case_metrics([one.types for one in alone], labels),
        case_metrics(mixed, np.concatenate(labels)[order]),
    ):
        assert found.to_dict() == pytest.approx(wanted.to_dict(), abs=1e-12)


@pytest.mark.parametrize("ids", [["a", "b"] * 46, ["p2"] * 46 + ["p1"] * 46, ["p1"] * 46 + ["p2"] * 46])
def test_labels_by_case_belong_to_the_karyotypes(ids):
    """Entry k of the labels is of the k-th karyotype, however the rows of the cases lay among each other."""
    truth = {name: noisy(seed, 1, 12)[0] for seed, name in enumerate(sorted(set(ids)))}
    ids, rows = np.array(ids), np.empty((92, 24))
    for seed, name in enumerate(truth):
        rows[ids == name] = noisy(seed, 1, 12)[1]
    found = dispatch_cases(rows, case_ids=ids)
    labels = [truth[name] for name in truth]
    polarity = [(types + 1) % 3 - 1 for types in labels]  # a third are not known
    for karyotypes, given, turned in ((found, labels, polarity), (found[::-1], labels[::-1], polarity[::-1])):
        answers = [one % 2 for one in turned]
        measured = case_metrics(karyotypes, given, polarity=answers, polarity_labels=turned)
        assert measured.accuracy == measured.complete_case_rate == 1
        assert measured.polarity is not None
        assert measured.polarity.accuracy == 1
        assert measured.polarity.chromosomes == sum((one >= 0).sum() for one in turned)
    flat = np.empty(92, int)
    for one, types in zip(found, labels, strict=True):
        flat[one.rows] = types
    assert case_metrics(found, flat, ids).accuracy == 1
    wrong = [labels[0], np.where(np.arange(46) < 23, 0, labels[1])]
    assert case_metrics(found, wrong).case_accuracy.tolist() == [1, 25 / 46]
    for given, message in ((labels[:1], "labels are given for 1 cases, and types for 2"), ([*labels[:1], labels[1][:9]],
                           "labels of case 1 are 9, and its types are of 46 chromosomes")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            case_metrics(found, given)


def test_polarity_in_words_and_not_known():
    found = case_metrics(
        [0, 1, 2], [0, 1, 2], [0, 0, 1], polarity=["up", "short arm down", "up"], polarity_labels=["up", "0", "?"]
    ).polarity
    assert found is not None
    assert (found.accuracy, found.chromosomes, found.case_ids.tolist()) == (0.5, 2, [0])
    assert case_metrics([0, 1], [0, 1], [0, 0], polarity=[0, 1], polarity_labels=[-1, -1]).polarity is None
    assert {polarity_number(name, "it") for name in POLARITIES} == {0, 1}


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (([0, 1], [[0], [1]], [0, 0]), {}, "labels are given by case, and types are not: give both in one form"),
        (([0], [0], [0]), {"polarity": [-1], "polarity_labels": [0]}, "polarity must be 0 to 1, got -1 to -1"),
        (([0], [0], [0]), {"polarity": [0], "polarity_labels": [2]}, "must be 0 to 1, or -1 where it is not known"),
        (([0], [0], [0]), {"polarity": ["left"], "polarity_labels": [0]}, "polarity has the polarity 'left'; it is up"),
        (([0, 1], [0, 1]), {}, "cases must say which chromosomes belong together"),
        (([0, 1], [0, 1, 1], [0, 0]), {}, "labels are 3, and types are of 2 chromosomes"),
        (([0, 1], [0, 1], [0]), {}, r"cases must be \[2\], got \[1\]"),
        (([0, 24], [0, 1], [0, 0]), {}, "types must be 0 to 23, got 0 to 24"),
        (([0, 1], [0, -1], [0, 0]), {}, "labels must be 0 to 23, got -1 to 0"),
        (([0, 1], [0, 1], [0, 0]), {"polarity": [0, 1]}, "polarity and polarity_labels, or neither"),
        (([0, 1], [0, 1], [0, 0]), {"polarity": [0, 2], "polarity_labels": [0, 1]}, "polarity must be 0 to 1"),
        ((np.zeros(0, int), np.zeros(0, int), np.zeros(0, int)), {}, "no chromosome"),
        ((np.zeros((2, 24), int), [0, 1], [0, 0]), {}, "types must be a vector"),
    ],
)
def test_refusals(given, options, message):
    with pytest.raises(ValueError, match=message):
        case_metrics(*given, **options)


def test_scores_are_no_classes():
    with pytest.raises(TypeError, match="types must be integers or texts, got float64"):
        case_metrics(np.zeros(3), [0, 1, 2], [0, 0, 0])
    with pytest.raises(TypeError, match="polarity must be integers or texts, got float64"):
        case_metrics([0, 1], [0, 1], [0, 0], polarity=[0.5, 1.0], polarity_labels=[0, 1])


def test_names_of_types_and_cases():
    """Texts are the types by name, of another species by its number of types, and cases by theirs."""
    found = dispatch_cases([noisy(seed, 1.5, 5)[1] for seed in range(2)])
    labels = [noisy(seed, 1.5, 5)[0] for seed in range(2)]
    names = [[HUMAN.names[kind] for kind in one] for one in labels]
    wanted = case_metrics(found, labels)
    assert case_metrics(found, names).to_dict() == wanted.to_dict()
    flat, ids = [name for one in names for name in one], np.repeat(["b", "a"], 46)
    by_name = case_metrics(np.array([name for one in found for name in one.names], object), flat, ids)
    assert by_name.to_dict() == wanted.to_dict()
    assert by_name.case_ids.tolist() == ["a", "b"]
    np.testing.assert_array_equal(by_name.case_accuracy, wanted.case_accuracy[::-1])
    assert case_metrics(["19", "Y"], [18, 20], [0, 0], num_classes=21).accuracy == 1
    with pytest.raises(ValueError, match=r"labels has the unknown type 'x'; did you mean 'X'\? Known: 1, .*, X, Y"):
        case_metrics(["1", "X"], ["1", "x"], [0, 0])
