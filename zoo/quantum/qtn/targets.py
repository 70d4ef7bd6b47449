"""What probabilities of classes are compared with."""

import torch
from torch import Tensor

from zoo.eager import must_compose


def class_shares(target: Tensor, like: Tensor) -> Tensor:
    """The share that each class has of a sample, (B, K).

    Args:
        target: (B,) class numbers, or (B, K) shares already.
        like: (B, K), of whose precision they are.

    Raises:
        ValueError: another shape, class numbers that are not whole, or of no class.
    """
    batch, classes = like.shape
    if target.shape == like.shape:
        return target.to(like.dtype)
    if target.shape != (batch,):
        raise ValueError(
            f"the target of probabilities {tuple(like.shape)} is ({batch},) class numbers or ({batch}, {classes}) "
            f"probabilities, got {tuple(target.shape)}"
        )
    if target.is_floating_point() or target.is_complex() or target.dtype is torch.bool:
        raise ValueError(f"class numbers are whole numbers, got {target.dtype}; target.long()")
    wrong = (target < 0) | (target >= classes)
    if not must_compose(target, like) and bool(wrong.any()):
        k = int(wrong.nonzero()[0])
        raise ValueError(f"class {int(target[k])} of sample {k} is none of 0 to {classes - 1}")
    return torch.nn.functional.one_hot(target.long(), classes).to(like.dtype)
