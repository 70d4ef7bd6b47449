"""The path: each word is merged into the state of all words before it."""

import torch
from jaxtyping import Bool, Inexact, Int
from torch import Tensor

from zoo.quantum.qtn.scan import Rescaler, ordered_product, rescaled


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
    table = torch.einsum("rolk,vk->rvol", boxes, words).flatten(0, 1)
    rule = torch.arange(steps, device=tokens.device) * vocabulary if boxes.shape[0] > 1 else 0
    index = tokens[:, 1:] + rule
    if absent is not None:
        identity = torch.eye(table.shape[-1], dtype=table.dtype, device=table.device)
        index = torch.where(absent[:, 1:], table.shape[0], index)
        table = torch.cat([table, identity[None]])
    if rescale is not None:
        table, logs = rescaled(table, 2)
        rescale.note(gather(logs, index))
    product = ordered_product(gather(table, index), rescale)
    return (product @ gather(words, tokens[:, 0]).unsqueeze(-1)).squeeze(-1)


def gather(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a real or complex table."""
    return table.index_select(0, index.flatten()).view(*index.shape, *table.shape[1:])
