"""What a model's answers are worth, mostly by torchmetrics."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import MissingExtraError

# Lower is better for these; higher for all others.
_LOWER = ("loss", "ece", "mae")
_BINS = 15


def higher_is_better(metric: str) -> bool:
    """The direction in which `metric` improves."""
    return metric not in _LOWER


def metric_names(*, multi_label: bool = False, ordinal: bool = False) -> list[str]:
    """The names of the metrics that a run on such labels can be judged by."""
    both = ["accuracy", "auprc", "auroc", "ece", "f1", "loss"]
    if multi_label:
        return sorted([*both, "exact", "f1_micro"])
    return sorted([*both, "balanced_accuracy", "top5", *(("mae", "quadratic_kappa") if ordinal else ())])


def measure_answers(logits: Tensor, targets: Tensor, *, multi_label: bool, ordinal: bool = False) -> dict[str, Any]:
    """`multi_label_metrics` or `classification_metrics`, whichever the labels call for."""
    if multi_label:
        return multi_label_metrics(logits, targets)
    return classification_metrics(logits, targets, ordinal=ordinal)


def classification_metrics(logits: Tensor, targets: Tensor, *, ordinal: bool = False) -> dict[str, Any]:
    """Metrics of single-label classification.

    Args:
        logits: (N, K), before softmax.
        targets: (N,) class numbers.
        ordinal: whether the classes are grades, in order.

    Returns:
        samples; loss (cross-entropy, unweighted); accuracy (micro F1 is the same); top5 (with more than five classes);
        balanced_accuracy (mean recall of the classes that occur); f1 (macro, over the classes that occur or are
        answered); auroc (mean over the classes of one-vs-rest, as MedMNIST's, None when a class has no sample:
        `auroc_absent` names its number); auprc (mean over the classes of average precision; None likewise); ece
        (expected calibration error of the top answer in 15 bins); confusion ([true][answered] counts). With `ordinal`
        also mae (mean distance of the answered grade from the true one) and quadratic_kappa (Cohen's, quadratic
        weights; None when all answers and targets are one class).
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
        result["auroc"], result["auprc"], result["auroc_absent"] = None, None, absent
    else:
        result["auroc"], result["auprc"] = _areas(probabilities, targets[:, None] == torch.arange(k))
    if ordinal:
        result |= _grades(confusion.double())
    result["confusion"] = confusion.tolist()
    return result


def _areas(scores: Tensor, truth: Tensor) -> tuple[float, float]:
    """AUROC and average precision, mean over the classes.

    torchmetrics has them in float32, in which a faultless answer may get more than 1.

    Args:
        scores: (N, K).
        truth: (N, K) zeros and ones, both of which occur in every column.
    """
    found = []
    for score, hit in zip(scores.T, truth.T, strict=True):
        order = score.argsort(descending=True)
        ranked = score[order]
        last = torch.ones(len(ranked), dtype=torch.bool)  # of those with equal scores
        last[:-1] = ranked[1:] != ranked[:-1]
        answered = (last.nonzero().flatten() + 1).double()
        hits = hit[order].cumsum(0)[last].double()
        misses = answered - hits
        gained = torch.cat([hits[:1], hits.diff()])
        under = (torch.cat([misses[:1], misses.diff()]) * (hits - gained / 2)).sum()
        found.append((under / (hits[-1] * misses[-1]), (gained * hits / answered).sum() / hits[-1]))
    auroc, auprc = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
    return auroc, auprc


def _grades(confusion: Tensor) -> dict[str, float | None]:
    """Metrics of grades out of their counts (K, K)."""
    grade = torch.arange(len(confusion), dtype=torch.float64)
    distance = (grade[:, None] - grade).abs()
    total = confusion.sum()
    by_chance = confusion.sum(1)[:, None] * confusion.sum(0) / total
    expected = float((distance**2 * by_chance).sum())
    return {
        "mae": float((distance * confusion).sum() / total),
        "quadratic_kappa": 1 - float((distance**2 * confusion).sum()) / expected if expected else None,
    }


def multi_label_metrics(logits: Tensor, targets: Tensor) -> dict[str, Any]:
    """Metrics of several-label classification, a threshold of one half.

    Args:
        logits: (N, K), before the sigmoid.
        targets: (N, K) zeros and ones.

    Returns:
        samples; loss (binary cross-entropy); accuracy (mean over images and labels, as MedMNIST); exact (share of
        images with all labels right); f1 (macro); f1_micro; auroc and auprc (mean over labels, None when a label is
        always or never present: `auroc_absent`); ece (of all labels together, 15 bins).
    """
    functional = _functional()
    logits, targets = logits.detach().cpu().double(), targets.detach().cpu()
    k = logits.shape[1]
    probabilities, whole = logits.sigmoid(), targets.long()
    options: dict[str, Any] = {"num_labels": k, "validate_args": False}
    right = (probabilities > 0.5) == (whole == 1)
    positive = whole.sum(0)
    absent = ((positive == 0) | (positive == len(whole))).nonzero().flatten().tolist()
    result: dict[str, Any] = {
        "samples": len(targets),
        "loss": float(F.binary_cross_entropy_with_logits(logits, targets.double())),
        "accuracy": float(right.double().mean()),
        "exact": float(right.all(1).double().mean()),
        "f1": float(functional.multilabel_f1_score(probabilities, whole, average="macro", **options)),
        "f1_micro": float(functional.multilabel_f1_score(probabilities, whole, average="micro", **options)),
        "ece": float(functional.binary_calibration_error(probabilities.flatten(), whole.flatten(), n_bins=_BINS)),
    }
    if absent or not bool(torch.isfinite(logits).all()):
        result["auroc"], result["auprc"], result["auroc_absent"] = None, None, absent
    else:
        result["auroc"], result["auprc"] = _areas(probabilities, whole)
    return result


def own_metrics(
    metrics: Mapping[str, Callable[..., Any]], logits: Tensor, targets: Tensor, *, multi_label: bool, taken: Any = ()
) -> dict[str, Any]:
    """Values of a user's metrics.

    Args:
        metrics: name -> a torchmetrics `Metric` or `MetricCollection`, or a function; called once with probabilities
            and targets, as torchmetrics has it: (N, K) after softmax and (N,) class numbers, or (N, K) after the
            sigmoid and (N, K) zeros and ones. A `Binary…` metric of two classes gets the probability of the second,
            (N,). What is called is a copy: the user's object keeps its state.
        logits: (N, K).
        targets: as of the data.
        multi_label: whether there may be several labels.
        taken: names that are in use.

    Returns:
        name -> a number, or a list where the metric gives one value a class. What a collection gives is named
        `NAME_KEY`.

    Raises:
        ValueError: a name in use, a metric that fails, a value that is not finite numbers.
        TypeError: something that cannot be called.
    """
    values: dict[str, Any] = {}
    logits, targets = logits.detach().cpu().float(), targets.detach().cpu()
    probabilities, whole = (logits.sigmoid() if multi_label else logits.softmax(1)), targets.long()
    for name, metric in metrics.items():
        if name in taken:
            raise ValueError(f"metrics: {name!r} is measured already; choose another name")
        if not callable(metric):
            raise TypeError(
                f"metrics: {name!r} must be a torchmetrics Metric or a function of (probabilities, targets), got "
                f"{type(metric).__name__}"
            )
        binary = type(metric).__name__.startswith("Binary") and not multi_label and logits.shape[1] == 2
        try:
            value = _fresh(metric)(probabilities[:, 1] if binary else probabilities, whole)
        except Exception as error:
            raise ValueError(f"metrics: {name!r} failed on {tuple(probabilities.shape)} probabilities: {error}") from (
                error
            )
        found = {f"{name}_{key}": v for key, v in value.items()} if isinstance(value, Mapping) else {name: value}
        values |= {key: _plain(key, v) for key, v in found.items()}
    return values


def _fresh(metric: Any) -> Any:
    """A copy of a metric that has seen nothing, where the user's may have."""
    if not hasattr(metric, "reset"):
        return metric
    copied = copy.deepcopy(metric).cpu()
    copied.reset()
    return copied


def _plain(name: str, value: Any) -> Any:
    try:
        found = torch.as_tensor(value).double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"metrics: {name!r} gives {type(value).__name__}; expected a number, or one a class"
        ) from error
    return float(found) if found.numel() == 1 else found.tolist()


def numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics that are one number, or None where they have no value."""
    return {k: v for k, v in metrics.items() if v is None or isinstance(v, (int, float))}


def flat(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics that are one number; those without a value are left out."""
    return {k: v for k, v in metrics.items() if isinstance(v, (int, float))}


def _functional() -> Any:
    try:
        from torchmetrics.functional import classification
    except ImportError as error:
        raise MissingExtraError("measuring a model", "torchmetrics", "train") from error
    return classification
