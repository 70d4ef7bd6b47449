"""Metrics equal scikit-learn's; what has no value is said to have none."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
import torchmetrics.classification as tm
from sklearn import metrics as sk

from zoo.training.metrics import (
    classification_metrics,
    flat,
    higher_is_better,
    measure_answers,
    metric_names,
    multi_label_metrics,
    own_metrics,
)


def answers(samples: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (samples,), generator=generator)
    logits = torch.randn(samples, classes, generator=generator) + 2 * torch.nn.functional.one_hot(targets, classes)
    return logits, targets


@pytest.mark.parametrize("classes", [2, 3, 7, 10])
@pytest.mark.parametrize("seed", [0, 1])
def test_single_label_metrics_equal_sklearn(classes: int, seed: int) -> None:
    logits, targets = answers(300, classes, seed)
    ours = classification_metrics(logits, targets)
    p = logits.double().softmax(1).numpy()
    y, answered = targets.numpy(), p.argmax(1)
    assert ours["samples"] == 300
    assert ours["loss"] == pytest.approx(sk.log_loss(y, p), rel=1e-9)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(y, answered), abs=1e-12)
    assert ours["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, answered), abs=1e-12)
    assert ours["f1"] == pytest.approx(sk.f1_score(y, answered, average="macro"), abs=1e-12)
    assert ours["confusion"] == sk.confusion_matrix(y, answered).tolist()
    if classes == 2:
        auroc = sk.roc_auc_score(y, p[:, 1])
    else:
        auroc = sk.roc_auc_score(y, p, multi_class="ovr", average="macro")
    assert ours["auroc"] == pytest.approx(auroc, abs=1e-6)
    assert ours["ece"] == pytest.approx(calibration_error(p, y), abs=1e-6)
    if classes > 5:
        assert ours["top5"] == pytest.approx(sk.top_k_accuracy_score(y, p, k=5), abs=1e-12)
    else:
        assert "top5" not in ours


def calibration_error(p: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    """The definition (Guo et al., 2017): |accuracy - confidence| a bin, weighted by the bin's share."""
    confidence, hit = p.max(1), p.argmax(1) == y
    edges = np.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    return total


def test_a_class_that_does_not_occur() -> None:
    logits, targets = answers(200, 4, 0)
    targets[targets == 2] = 1
    ours = classification_metrics(logits, targets)
    answered = logits.argmax(1)
    assert (ours["auroc"], ours["auroc_absent"]) == (None, [2])
    assert "auroc" not in flat(ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ours["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(targets, answered), abs=1e-12)
    assert ours["f1"] == pytest.approx(sk.f1_score(targets, answered, average="macro"), abs=1e-12)


def test_several_labels_equal_sklearn() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(150, 6, generator=generator) < 0.3).float()
    logits = torch.randn(150, 6, generator=generator) + 2 * targets - 1
    ours = multi_label_metrics(logits, targets)
    p, y = logits.double().sigmoid().numpy(), targets.numpy()
    assert ours["accuracy"] == pytest.approx(((p > 0.5) == (y == 1)).mean(), abs=1e-6)
    assert ours["f1"] == pytest.approx(sk.f1_score(y, p > 0.5, average="macro"), abs=1e-6)
    assert ours["auroc"] == pytest.approx(sk.roc_auc_score(y, p, average="macro"), abs=1e-6)
    assert ours["loss"] == pytest.approx(np.mean([sk.log_loss(y[:, k], p[:, k]) for k in range(6)]), rel=1e-9)
    targets[:, 4] = 0
    assert multi_label_metrics(logits, targets)["auroc_absent"] == [4]


def test_perfect_and_useless_answers() -> None:
    targets = torch.arange(12) % 3
    perfect = classification_metrics(30.0 * torch.nn.functional.one_hot(targets, 3), targets)
    assert (perfect["accuracy"], perfect["auroc"], perfect["f1"]) == (1.0, 1.0, 1.0)
    assert perfect["ece"] < 1e-9
    useless: dict[str, Any] = classification_metrics(torch.zeros(12, 3), targets)
    assert useless["auroc"] == pytest.approx(0.5)
    assert useless["loss"] == pytest.approx(np.log(3))


def test_directions() -> None:
    assert not higher_is_better("loss")
    assert not higher_is_better("ece")
    assert higher_is_better("auroc")


def tied_answers(samples: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Answers of which many are equal, where the order of ties would show."""
    logits, targets = answers(samples, classes, seed)
    return logits.round(), targets


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("make", [answers, tied_answers])
def test_areas_equal_sklearn(classes: int, make: Any) -> None:
    logits, targets = make(200, classes, 5)
    ours = classification_metrics(logits, targets)
    p, hot = logits.double().softmax(1).numpy(), np.eye(classes)[targets]
    assert ours["auroc"] == pytest.approx(
        np.mean([sk.roc_auc_score(hot[:, k], p[:, k]) for k in range(classes)]), abs=1e-12
    )
    assert ours["auprc"] == pytest.approx(
        np.mean([sk.average_precision_score(hot[:, k], p[:, k]) for k in range(classes)]), abs=1e-12
    )
    few = classification_metrics(logits[targets > 0], targets[targets > 0])
    assert (few["auprc"], few["auroc"], few["auroc_absent"]) == (None, None, [0])


@pytest.mark.parametrize("samples", [57, 97, 389])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_areas_of_faultless_answers_are_one(samples: int, classes: int) -> None:
    targets = torch.arange(samples) % classes
    hot = torch.nn.functional.one_hot(targets, classes)
    logits = 8.0 * hot + torch.linspace(0, 1, samples)[:, None]
    for ours in (classification_metrics(logits, targets), multi_label_metrics(logits - 4, hot)):
        assert (ours["auroc"], ours["auprc"]) == (1.0, 1.0)
    worst = multi_label_metrics(4 - logits, hot)
    assert worst["auroc"] == 0.0


@pytest.mark.parametrize("seed", [0, 1])
def test_grades_equal_sklearn(seed: int) -> None:
    logits, targets = answers(120, 5, seed)
    targets[:2] = torch.tensor([0, 4])
    ours = classification_metrics(logits, targets, ordinal=True)
    answered = logits.argmax(1).numpy()
    assert ours["mae"] == pytest.approx(sk.mean_absolute_error(targets, answered), abs=1e-12)
    assert ours["quadratic_kappa"] == pytest.approx(
        sk.cohen_kappa_score(targets, answered, weights="quadratic"), abs=1e-12
    )
    assert not higher_is_better("mae")
    assert higher_is_better("quadratic_kappa")
    assert "mae" not in classification_metrics(logits, targets)


def test_grades_by_hand_and_without_a_value() -> None:
    logits = 9.0 * torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 2]), 3)
    ours = classification_metrics(logits, torch.tensor([0, 0, 2, 1]), ordinal=True)
    assert ours["mae"] == 0.5
    # observed: two at distance 1 -> 2; by chance: 2*(0+1+2*4)/4 + (1+0+2)/4 + (4+1+0)/4 = 18/4+3/4+5/4 = 6.5
    assert ours["quadratic_kappa"] == pytest.approx(1 - 2 / 6.5)
    same = classification_metrics(logits[:1].expand(3, -1), torch.zeros(3, dtype=torch.long), ordinal=True)
    assert (same["mae"], same["quadratic_kappa"]) == (0.0, None)


def test_several_labels_tied_and_whole() -> None:
    generator = torch.Generator().manual_seed(3)
    targets = (torch.rand(90, 4, generator=generator) < 0.4).float()
    logits = (torch.randn(90, 4, generator=generator) + targets).round()
    ours = multi_label_metrics(logits, targets)
    p, y = logits.double().sigmoid().numpy(), targets.numpy()
    assert ours["f1_micro"] == pytest.approx(sk.f1_score(y, p > 0.5, average="micro"), abs=1e-6)
    assert ours["exact"] == pytest.approx(sk.accuracy_score(y, p > 0.5), abs=1e-12)
    assert ours["auprc"] == pytest.approx(sk.average_precision_score(y, p, average="macro"), abs=1e-6)
    assert ours["auroc"] == pytest.approx(sk.roc_auc_score(y, p, average="macro"), abs=1e-6)
    assert ours["ece"] == pytest.approx(label_calibration_error(p.ravel(), y.ravel()), abs=1e-6)
    assert multi_label_metrics(logits, torch.ones(90, 4))["auprc"] is None


def label_calibration_error(p: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    """Mean over bins of |mean probability - share of ones|, weighted by how many fall in."""
    place = np.clip(np.ceil(p * bins) - 1, 0, bins - 1)
    parts = [(place == b) for b in range(bins)]
    return float(sum(abs(p[m].mean() - y[m].mean()) * m.mean() for m in parts if m.any()))


@pytest.mark.parametrize(("multi_label", "ordinal"), [(False, False), (False, True), (True, False)])
def test_names_that_a_run_may_be_judged_by_are_measured(multi_label: bool, ordinal: bool) -> None:
    logits, targets = answers(80, 7, 0)
    truth = torch.nn.functional.one_hot(targets, 7) if multi_label else targets
    ours = measure_answers(logits, truth, multi_label=multi_label, ordinal=ordinal)
    names = metric_names(multi_label=multi_label, ordinal=ordinal)
    assert sorted([*names, "samples"]) == sorted(flat(ours))


# ------------------------------------------------------------------------------------------------------- one's own


def test_metrics_of_ones_own_equal_torchmetrics() -> None:
    logits, targets = answers(100, 3, 0)
    p = logits.softmax(1)
    used = tm.MulticlassAccuracy(num_classes=3)
    used.update(p[:5], targets[:5])
    values = own_metrics(
        {
            "kappa": tm.MulticlassCohenKappa(num_classes=3),
            "recall": tm.MulticlassRecall(num_classes=3, average=None),
            "both": torchmetrics.MetricCollection([used, tm.MulticlassMatthewsCorrCoef(num_classes=3)]),
            "sure": lambda p, targets: p.max(1).values.mean(),
        },
        logits,
        targets,
        multi_label=False,
    )
    assert values["kappa"] == pytest.approx(sk.cohen_kappa_score(targets, p.argmax(1)), abs=1e-6)
    assert values["recall"] == pytest.approx(sk.recall_score(targets, p.argmax(1), average=None), abs=1e-6)
    assert values["both_MulticlassAccuracy"] == pytest.approx(sk.balanced_accuracy_score(targets, p.argmax(1)))
    assert values["both_MulticlassMatthewsCorrCoef"] == pytest.approx(sk.matthews_corrcoef(targets, p.argmax(1)))
    assert values["sure"] == pytest.approx(float(p.max(1).values.mean()))
    assert used.update_count == 1  # the caller's own count goes on


def test_binary_and_several_label_metrics_of_ones_own() -> None:
    logits, targets = answers(60, 2, 0)
    values = own_metrics({"specificity": tm.BinarySpecificity()}, logits, targets, multi_label=False)
    assert values["specificity"] == pytest.approx(sk.recall_score(targets, logits.argmax(1), pos_label=0), abs=1e-6)
    several = (torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    logits = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    values = own_metrics({"hamming": tm.MultilabelHammingDistance(num_labels=3)}, logits, several, multi_label=True)
    assert values["hamming"] == pytest.approx(sk.hamming_loss(several, logits > 0), abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "error", "message"),
    [
        (tm.MulticlassAccuracy(num_classes=9), ValueError, r"'mine' failed on \(6, 3\) probabilities"),
        (7, TypeError, "'mine' must be a torchmetrics Metric or a function .* got int"),
        (lambda p, t: "good", ValueError, "'mine' gives str; expected a number"),
    ],
)
def test_metrics_that_cannot_be_used(metric: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        own_metrics({"mine": metric}, torch.zeros(6, 3), torch.arange(6) % 3, multi_label=False)
    with pytest.raises(ValueError, match="'mine' is measured already"):
        own_metrics({"mine": metric}, torch.zeros(6, 3), torch.arange(6) % 3, multi_label=False, taken=["mine"])
