"""Associations with a store of any size that read it chunk by chunk: no matrix of states and patterns is ever whole.

Extra memory depends on the number of states, not on the number of patterns. There are no gradients.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from zoo.layers.hopfield.memory.candidates import Largest, supported_recall
from zoo.layers.hopfield.memory.composed import Recall
from zoo.layers.hopfield.memory.separation import Separation, largest_size
from zoo.layers.hopfield.memory.similarity import Comparison

#: States that pass over the store together.
STATES = 2048
#: Entries of their scores with a chunk, and limits of a chunk's rows: on a CPU, for its caches, and elsewhere, where
#: starting a kernel costs more.
_CPU = 1 << 18, 1 << 10, 1 << 13
_OTHER = 1 << 26, 1 << 14, 1 << 18


def chunks(stored: Tensor, states: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Rows of a store with the number of the first, in the dtype and on the device of the states."""
    scores, least, most = _CPU if states.device.type == "cpu" else _OTHER
    rows = min(max(scores // max(len(states), 1), least), most)
    for start in range(0, len(stored), rows):
        yield start, stored[start : start + rows].to(device=states.device, dtype=states.dtype)


@torch.no_grad()
def streamed_recall(
    states: Tensor,
    stored: Tensor,
    values: Tensor | None,
    beta: float,
    comparison: Comparison,
    separation: Separation,
    top: int | None = None,
) -> Recall:
    """Associate states with a store and read the values out.

    Args:
        states: (n, dim), float32 or float64; what is computed has their dtype.
        stored: (N, dim), of any dtype, on any device, or mapped from a file.
        values: (N, value_dim), or None for the stored patterns themselves.
        beta: inverse temperature.
        comparison, separation: how similarities are made, and weights of them.
        top: how many of the patterns of largest similarity to tell with their weights.
    """
    if len(states) > STATES:
        parts = [streamed_recall(p, stored, values, beta, comparison, separation, top) for p in states.split(STATES)]
        return Recall(*(None if c[0] is None else torch.cat(c) for c in zip(*parts, strict=True)))  # pyright: ignore
    comparison = comparison.around(stored, states)
    prepared = comparison.prepare(states)
    if comparison.similarity in ("dot", "cosine"):  # linear in the state
        prepared, scale = prepared * beta, 1.0
    else:
        scale = beta

    def scored() -> Iterator[tuple[int, Tensor, Tensor]]:
        for start, chunk in chunks(stored, prepared):
            scores = comparison.scores(prepared, comparison.prepare(chunk))
            yield start, chunk, scores if scale == 1.0 else scores * scale

    if not (separation.is_softmax or separation.is_sum):
        return supported_recall(scored, prepared, stored if values is None else values, separation, top)
    largest = None if top is None else Largest(len(states), top, states)
    width = (stored if values is None else values).shape[1]
    total = _Softmax(states, width) if separation.is_softmax else _Sum(states, width, separation)
    for start, chunk, scores in scored():
        if largest is not None:
            largest.add(start, scores)
        wanted = chunk if values is None else values[start : start + len(chunk)].to(states)
        total.add(scores, wanted)
    if largest is None:
        return Recall(total.result(), total.potential())
    return Recall(total.result(), total.potential(), largest.indices, total.weights(largest.scores))


class _Softmax:
    """Running result and log-sum-exp of a softmax."""

    def __init__(self, states: Tensor, width: int) -> None:
        self.mean = states.new_zeros(len(states), width)
        self.lse = states.new_full((len(states), 1), -torch.inf)

    def add(self, scores: Tensor, values: Tensor) -> None:
        # The softmax of a chunk is one pass over it; its log-sum-exp is told by its largest score and weight.
        highest = scores.amax(-1, keepdim=True)
        weights = torch.softmax(scores, -1)
        lse = highest - weights.amax(-1, keepdim=True).log()
        whole = torch.logaddexp(self.lse, lse)
        self.mean.mul_((self.lse - whole).exp_()).add_((weights @ values).mul_((lse - whole).exp_()))
        self.lse = whole

    def result(self) -> Tensor:
        return self.mean

    def potential(self) -> Tensor:
        return self.lse.squeeze(-1)

    def weights(self, scores: Tensor) -> Tensor:
        return (scores - self.lse).exp()


class _Sum:
    """Running result and sum of weights that are functions of their own score alone, over the largest score so far."""

    def __init__(self, states: Tensor, width: int, separation: Separation) -> None:
        self.separation = separation
        self.values = states.new_zeros(len(states), width)
        self.total = states.new_zeros(len(states), 1)
        self.size = torch.full_like(self.total, torch.finfo(states.dtype).tiny)

    def add(self, scores: Tensor, values: Tensor) -> None:
        size = torch.maximum(self.size, largest_size(scores))
        shrunk = self.separation.unscaled(self.size / size)
        self.values *= shrunk
        self.total *= shrunk
        self.size = size
        raw = self.separation.unscaled(scores / size)
        self.values.addmm_(raw, values)
        self.total += raw.abs().sum(-1, keepdim=True)

    def _divided(self, numbers: Tensor) -> Tensor:
        return numbers / self.total.clamp_min(torch.finfo(numbers.dtype).tiny)

    def result(self) -> Tensor:
        return self._divided(self.values)

    def potential(self) -> Tensor:
        return torch.full_like(self.total[:, 0], torch.nan)

    def weights(self, scores: Tensor) -> Tensor:
        return self._divided(self.separation.unscaled(scores / self.size))
