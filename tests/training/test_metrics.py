"""Metrics equal scikit-learn's; what has no value is said to have none."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from zoo.training.metrics import classification_metrics, flat, higher_is_better, multi_label_metrics


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
