"""Labels of two classes, +1 and -1."""

import torch
from torch import Tensor

from zoo.eager import must_compose


def label_signs(label: Tensor) -> Tensor:
    """+1 and -1, from these or from the classes 1 and 0.

    Raises:
        ValueError: other labels.
    """
    if not must_compose(label) and not bool(((label == 1) | (label == 0) | (label == -1)).all()):
        raise ValueError(f"labels must be +1 and -1, or 1 and 0, got {label.unique().tolist()[:5]}")
    return torch.where(label > 0, 1, -1)
