"""Labels of two classes, +1 and -1."""

import torch
from torch import Tensor

from zoo.eager import must_compose


def label_signs(label: Tensor, shape: torch.Size) -> Tensor:
    """+1 and -1, from these or from the classes 1 and 0.

    Args:
        label: one a prediction or string.
        shape: of what they are the labels of, (B,).

    Raises:
        ValueError: other labels, or of another shape.
    """
    if label.shape != shape:
        raise ValueError(f"expected labels {tuple(shape)}, got {tuple(label.shape)}")
    if not must_compose(label) and not bool(((label == 1) | (label == 0) | (label == -1)).all()):
        raise ValueError(f"labels must be +1 and -1, or 1 and 0, got {label.unique().tolist()[:5]}")
    return torch.where(label > 0, 1, -1)
