"""One association of states with a store: the way in to whatever computes it with the least memory."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from zoo.eager import must_compose
from zoo.layers.hopfield.memory.separation import Separation
from zoo.layers.hopfield.memory.similarity import Comparison

#: Entries of a matrix of states and patterns that is kept for a backward pass; of a larger one, parts are made again.
_KEPT = 1 << 24


class Recall(NamedTuple):
    """What an association with a store gives.

    Attributes:
        result: weighted sum of the values, (*states, value_dim).
        potential: the map's potential of the scaled similarities, for softmax their log-sum-exp, (*states).
        indices: the patterns of the largest similarities, in falling order, (*states, top), if they were asked for.
        weights: their weights, (*states, top).
    """

    result: Tensor
    potential: Tensor
    indices: Tensor | None = None
    weights: Tensor | None = None


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if a state or a parameter is, else float32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def needs_graph(*tensors: Tensor | None) -> bool:
    """A gradient, or something that follows operations one by one, will ask for composed operations."""
    given = [tensor for tensor in tensors if tensor is not None]
    return must_compose(*given) or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given))


def composed_recall(
    states: Tensor,
    stored: Tensor,
    values: Tensor,
    beta: Tensor | float,
    comparison: Comparison,
    separation: Separation,
    top: int | None = None,
) -> Recall:
    """The association in torch operations, with all weights in memory.

    Arguments as `zoo.layers.hopfield.memory.streaming.streamed_recall`; states, stored and values in one dtype.
    """
    comparison = comparison.around(stored, states)
    patterns = comparison.prepare(stored)

    def associate_block(block: Tensor) -> Recall:
        scores = beta * comparison.scores(comparison.prepare(block), patterns)
        weights = separation.weights(scores)
        found = Recall(weights @ values, separation.potential(scores, weights))
        if top is None:
            return found
        indices = scores.topk(top, -1).indices
        return Recall(found.result, found.potential, indices, weights.gather(-1, indices))

    if must_compose(states, stored, values) or states.shape[0] * len(stored) <= _KEPT:
        return associate_block(states)
    blocks = states.split(max(_KEPT // 4 // len(stored), 1))
    parts = [checkpoint(associate_block, block, use_reentrant=False) for block in blocks]
    return Recall(*(None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True)))  # pyright: ignore
