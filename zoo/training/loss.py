"""The training loss, the weights of the classes, and mixing of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor

from zoo.naming import did_you_mean
from zoo.training.data.image_set import ImageSet


def build_loss(*, multi_label: bool, class_weights: Sequence[float] | None, label_smoothing: float) -> Callable:
    """The loss of (logits (B, K), targets): cross-entropy, or binary cross-entropy for several labels an image.

    Targets of cross-entropy are class numbers, or probabilities where images were mixed. With several labels,
    `class_weights` weigh the positive answers and smoothing moves 0 and 1 towards one half.
    """

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        weight = None if class_weights is None else torch.tensor(class_weights, device=logits.device)
        return F.cross_entropy(logits.float(), targets, weight=weight, label_smoothing=label_smoothing)

    def binary(logits: Tensor, targets: Tensor) -> Tensor:
        weight = None if class_weights is None else torch.tensor(class_weights, device=logits.device)
        smooth = targets.float() * (1 - label_smoothing) + label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits.float(), smooth, pos_weight=weight)

    return binary if multi_label else cross_entropy


def resolve_class_weights(spec: Any, train: ImageSet) -> list[float] | None:
    """One weight a class.

    Args:
        spec: None; "balanced" (N / (K * count), scikit-learn's rule; for several labels negatives / positives); a
            sequence of K numbers; a dictionary from class name to number (others 1).
        train: where classes are counted.

    Raises:
        ValueError: wrong length, unknown class names, negative weights, a class that does not occur.
    """
    if spec is None:
        return None
    k = len(train.classes)
    if isinstance(spec, str):
        if spec != "balanced":
            raise ValueError(f"class_weights must be None, 'balanced', {k} numbers or a dictionary, got {spec!r}")
        count = train.labels.sum(0) if train.multi_label else np.bincount(train.labels, minlength=k)
        if (count == 0).any():
            absent = train.classes[int((count == 0).argmax())]
            raise ValueError(f"class_weights='balanced': class {absent!r} does not occur in training")
        weights = (len(train) - count) / count if train.multi_label else len(train) / (k * count)
        return [float(w) for w in weights]
    if isinstance(spec, Mapping):
        for name in spec:
            if name not in train.classes:
                raise ValueError(f"class_weights: no class {name!r}{did_you_mean(str(name), train.classes)}")
        spec = [spec.get(name, 1.0) for name in train.classes]
    weights = [float(w) for w in spec]
    if len(weights) != k:
        raise ValueError(f"class_weights has {len(weights)} numbers, the data has {k} classes")
    if not all(0 <= w < float("inf") for w in weights) or not any(weights):
        raise ValueError(f"class_weights must be finite numbers from 0, not all 0, got {weights}")
    return weights


def build_mixup(mixup: float, cutmix: float, classes: int, *, multi_label: bool) -> Mixup | None:
    """timm's mixup and CutMix (Zhang et al., 2017, arXiv:1710.09412; Yun et al., 2019, arXiv:1905.04899), or None."""
    if not mixup and not cutmix:
        return None
    # Smoothing is the loss's own, for mixed and unmixed targets alike.
    return Mixup(
        mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=0.0, num_classes=classes, multi_label=multi_label
    )
