"""What a model's answers are worth, by torchmetrics."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import MissingExtraError

# Lower is better for these; higher for all others.
_LOWER = ("loss", "ece")
_BINS = 15


def higher_is_better(metric: str) -> bool:
    """The direction in which `metric` improves."""
    return metric not in _LOWER


def classification_metrics(logits: Tensor, targets: Tensor) -> dict[str, Any]:
    """Metrics of single-label classification.

    Args:
        logits: (N, K), before softmax.
        targets: (N,) class numbers.

    Returns:
        samples; loss (cross-entropy, unweighted); accuracy; top5 (with more than five classes); balanced_accuracy (mean
        recall of the classes that occur); f1 (macro, over the classes that occur or are answered); auroc (mean over the
        classes of one-vs-rest, None when a class has no sample: `auroc_absent` names its number); ece (expected
        calibration error of the top answer in 15 bins); confusion ([true][answered] counts).
    """
    functional = _functional()
    logits, targets = logits.detach().cpu().double(), targets.detach().cpu()
    k = logits.shape[1]
    probabilities = logits.softmax(1)
    options: dict[str, Any] = {"num_classes": k, "validate_args": False}
    # Counts are exact; torchmetrics' own ratios are rounded to float32.
    confusion = functional.multiclass_confusion_matrix(probabilities, targets, **options)
    hits, support, answered = confusion.diagonal().double(), confusion.sum(1).double(), confusion.sum(0).double()
    present, occurs = support > 0, support + answered > 0
    result: dict[str, Any] = {
        "samples": len(targets),
        "loss": float(F.cross_entropy(logits, targets)),
        "accuracy": float(hits.sum() / support.sum()),
        "balanced_accuracy": float((hits[present] / support[present]).mean()),
        "f1": float((2 * hits / (support + answered))[occurs].mean()),
        "ece": float(functional.multiclass_calibration_error(probabilities, targets, n_bins=_BINS, **options)),
    }
    if k > 5:
        top = functional.multiclass_accuracy(probabilities, targets, average="micro", top_k=5, **options)
        result["top5"] = round(float(top) * len(targets)) / len(targets)
    absent = (support == 0).nonzero().flatten().tolist()
    if k < 2 or absent or not bool(torch.isfinite(logits).all()):
        result["auroc"], result["auroc_absent"] = None, absent
    else:
        result["auroc"] = float(functional.multiclass_auroc(probabilities, targets, average="macro", **options))
    result["confusion"] = confusion.tolist()
    return result


def multi_label_metrics(logits: Tensor, targets: Tensor) -> dict[str, Any]:
    """Metrics of several-label classification, a threshold of one half.

    Args:
        logits: (N, K), before the sigmoid.
        targets: (N, K) zeros and ones.

    Returns:
        samples; loss (binary cross-entropy); accuracy (mean over images and labels, as MedMNIST); f1 (macro); auroc
        (mean over labels, None when a label is always or never present: `auroc_absent`).
    """
    functional = _functional()
    logits, targets = logits.detach().cpu().double(), targets.detach().cpu()
    k = logits.shape[1]
    probabilities, whole = logits.sigmoid(), targets.long()
    options: dict[str, Any] = {"num_labels": k, "validate_args": False}
    positive = whole.sum(0)
    absent = ((positive == 0) | (positive == len(whole))).nonzero().flatten().tolist()
    result: dict[str, Any] = {
        "samples": len(targets),
        "loss": float(F.binary_cross_entropy_with_logits(logits, targets.double())),
        "accuracy": float(functional.multilabel_accuracy(probabilities, whole, average="micro", **options)),
        "f1": float(functional.multilabel_f1_score(probabilities, whole, average="macro", **options)),
    }
    if absent:
        result["auroc"], result["auroc_absent"] = None, absent
    else:
        result["auroc"] = float(functional.multilabel_auroc(probabilities, whole, average="macro", **options))
    return result


def flat(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics that are one number; those without a value are left out."""
    return {k: v for k, v in metrics.items() if isinstance(v, (int, float))}


def _functional() -> Any:
    try:
        from torchmetrics.functional import classification
    except ImportError as error:
        raise MissingExtraError("measuring a model", "torchmetrics", "train") from error
    return classification
