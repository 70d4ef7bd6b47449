"""The path: each word is merged into the state of all words before it."""

import torch
from jaxtyping import Bool, Inexact, Int
from torch import Tensor

from zoo.quantum.qtn.scan import Rescaler, table_product


def path_state(
    words: Inexact[Tensor, "words dim"],
    boxes: Inexact[Tensor, "rules dim dim dim"],
    tokens: Int[Tensor, "batch length"],
    absent: Bool[Tensor, "batch length"] | None,
    rescale: Rescaler | None,
) -> Inexact[Tensor, "batch dim"]:
    """The last h of h_0 = w_{t_0}, h_i = box_i(h_{i-1}, w_{t_i}) = M_i h_{i-1}.

    All M_i come out of one table, a matrix for every rule and word, and are multiplied in log2(T) rounds.

    Args:
        words: states.
        boxes: (R, D, D, D), as out, left, right; one for all steps, or one a step.
        tokens: at least two a sample.
        absent: where there is no word; the matrix there is the identity.
        rescale: divides M_i and their products by their largest number; None leaves them.
    """
    steps, vocabulary = tokens.shape[1] - 1, words.shape[0]
    # (D, D, rules * vocabulary), of every rule the matrices of the words
    table = (boxes.permute(1, 2, 0, 3) @ words.mT).flatten(2)
    later = tokens[:, 1:].mT
    index = later + torch.arange(steps, device=tokens.device).unsqueeze(1) * vocabulary if len(boxes) > 1 else later
    if absent is not None:
        identity = torch.eye(len(table), dtype=table.dtype, device=table.device)
        index = torch.where(absent[:, 1:].mT, table.shape[2], index)
        table = torch.cat([table, identity.unsqueeze(2)], 2)
    return table_product(table, index, words.mT.index_select(1, tokens[:, 0]), rescale).mT


def gather(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a real or complex table."""
    return table.index_select(0, index.flatten()).view(*index.shape, *table.shape[1:])
