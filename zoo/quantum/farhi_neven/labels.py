"""Labels of two classes, +1 and -1."""

from typing import Any

import torch
from torch import Tensor

from zoo.eager import must_compose


def as_labels(label: Any, shape: torch.Size, device: torch.device) -> Tensor:
    """Labels as a tensor: +1 and -1, or the classes 1 and 0.

    Args:
        label: one a prediction or string; a tensor, or what `torch.as_tensor` takes.
        shape: of what they are the labels of, (B,).
        device: where they go.

    Raises:
        ValueError: other labels, -1 and 0 among the same labels, or another number of them.
        TypeError: no numbers.
    """
    try:
        label = torch.as_tensor(label).to(device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"labels are {shape[0]} numbers, +1 and -1, or 1 and 0, got {label!r}: {error}") from error
    if label.is_complex():
        raise TypeError(f"labels are real numbers, +1 and -1, or 1 and 0, got {label.dtype}")
    if label.shape != shape:
        raise ValueError(f"expected labels {tuple(shape)}, got {tuple(label.shape)}")
    if must_compose(label) or label.is_meta:
        return label
    negative, zero = label == -1, label == 0
    if not bool((negative | zero | (label == 1)).all()) or bool(negative.any() and zero.any()):
        raise ValueError(f"labels must be +1 and -1, or 1 and 0, got {label.unique().tolist()[:5]}")
    return label


def label_signs(label: Any, like: Tensor) -> Tensor:
    """+1 and -1 in the shape and on the device of `like`; see `as_labels`."""
    return torch.where(as_labels(label, like.shape, like.device) > 0, 1, -1)
