"""The balanced tree: neighbours are merged, level by level."""

import torch
from jaxtyping import Bool, Inexact, Int
from torch import Tensor

from zoo.quantum.qtn.ptn import gather
from zoo.quantum.qtn.scan import Rescaler


def tree_state(
    words: Inexact[Tensor, "words dim"],
    boxes: Inexact[Tensor, "rules dim dim dim"],
    tokens: Int[Tensor, "batch length"],
    absent: Bool[Tensor, "batch length"] | None,
    rescale: Rescaler | None,
) -> Inexact[Tensor, "batch dim"]:
    """The state at the root.

    Args:
        words: states.
        boxes: (R, D, D, D), as out, left, right; one for all levels, or one a level, the leaves' first.
        tokens: a power of two of them a sample.
        absent: where there is no word; what would be merged with nothing stays as it is.
        rescale: divides states by their largest amplitude after every level; None leaves them.
    """
    states, level = gather(words, tokens), 0
    while states.shape[1] > 1:
        left, right = states[:, 0::2], states[:, 1::2]
        box = boxes[level if boxes.shape[0] > 1 else 0].flatten(1)
        states = (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(2) @ box.mT
        if absent is not None:
            states = torch.where(absent[:, 1::2, None], left, states)
            absent = absent[:, 0::2]
        if rescale is not None:
            states = rescale(states, 1)
        level += 1
    return states[:, 0]
