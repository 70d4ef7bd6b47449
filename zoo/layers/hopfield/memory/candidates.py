"""Sparse maps of a store read chunk by chunk: what can have a weight is collected, the map is solved on it exactly."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from zoo.layers.hopfield.memory.composed import Recall
from zoo.layers.hopfield.memory.separation import Separation

#: Most candidates that all states of a block may have together; of more, the block is halved, to one state at last.
_ENTRIES = 1 << 20
#: Most rows of values that are brought together at once.
_GATHERED = 8192

#: First row, rows, and scores (n, rows) of one chunk after the other.
Scored = Callable[[], Iterator[tuple[int, Tensor, Tensor]]]


class Largest:
    """The k largest scores of every state so far, in falling order, and whose they are."""

    def __init__(self, count: int, k: int, like: Tensor) -> None:
        self.k = k
        self.scores = like.new_full((count, k), -torch.inf)
        self.indices = torch.zeros(count, k, dtype=torch.int64, device=like.device)

    def add(self, start: int, scores: Tensor) -> None:
        found = scores.topk(min(self.k, scores.shape[-1]), -1)
        self.scores, place = torch.cat([self.scores, found.values], -1).topk(self.k, -1)
        self.indices = torch.cat([self.indices, found.indices + start], -1).gather(-1, place)


def supported_recall(
    scored: Scored, states: Tensor, values: Tensor, separation: Separation, top: int | None = None
) -> Recall:
    """The association by a map that gives few patterns a weight.

    Args:
        scored: goes through the store.
        states: (n, d), for number, dtype and device.
        values: (N, value_dim).
        separation: a map with a support: see `Separation.largest` and `Separation.margin`.
        top: as `streamed_recall`.
    """
    rows = slice(0, len(states))
    parts = _block(scored, states, values, separation, top, rows)
    return Recall(*(None if c[0] is None else torch.cat(c) for c in zip(*parts, strict=True)))  # pyright: ignore


def _block(
    scored: Scored, states: Tensor, values: Tensor, separation: Separation, top: int | None, rows: slice
) -> list[Recall]:
    count = rows.stop - rows.start
    limit = None if count <= 1 else _ENTRIES
    if separation.largest is None:
        found = _within_margin(scored, states, separation, top or 1, rows, limit)
    else:
        kept = Largest(count, max(separation.largest, top or 1), states)
        for start, _, scores in scored():
            kept.add(start, scores[rows])
        found = kept.scores, kept.indices
    if found is None:
        middle = rows.start + count // 2
        halves = slice(rows.start, middle), slice(middle, rows.stop)
        return [part for half in halves for part in _block(scored, states, values, separation, top, half)]
    scores, indices = found
    weights = separation.weights(scores)
    recalled = Recall(_read(weights, indices, values), separation.potential(scores, weights))
    if top is None:
        return [recalled]
    best = scores.topk(top, -1).indices
    return [Recall(recalled.result, recalled.potential, indices.gather(-1, best), weights.gather(-1, best))]


def _within_margin(
    scored: Scored, states: Tensor, separation: Separation, least: int, rows: slice, limit: int | None
) -> tuple[Tensor, Tensor] | None:
    """Scores and indices (n, m) of all patterns within the margin of a state, at least `least`, filled up with -inf.

    None if there are more than `limit`.
    """
    count = rows.stop - rows.start
    rank = (separation.k or 1) if separation.association == "budget" else 1
    largest = Largest(count, max(rank, least), states)
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    total = 0

    def inside(row: Tensor, scores: Tensor) -> Tensor:
        floor = largest.scores[:, rank - 1] - separation.margin
        floor = torch.minimum(floor, largest.scores[:, -1])  # those to be told as well, though without weight
        return scores >= floor[row]

    def pruned() -> list[tuple[Tensor, Tensor, Tensor]]:
        row, index, score = (torch.cat(column) for column in zip(*kept, strict=True))
        stays = inside(row, score)
        return [(row[stays], index[stays], score[stays])]

    every = torch.arange(count, device=states.device)[:, None]
    for start, _, scores in scored():
        mine = scores[rows]
        largest.add(start, mine)
        row, column = inside(every, mine).nonzero(as_tuple=True)
        kept.append((row, column + start, mine[row, column]))
        total += len(row)
        if limit is not None and total > limit:
            kept = pruned()
            total = len(kept[0][0])
            if total > limit // 2:
                return None
    [(row, index, score)] = pruned()
    sizes = row.bincount(minlength=count)
    width = max(int(sizes.max()), least) if count else least
    if limit is not None and count * width > 4 * limit:
        return None
    order = row.argsort(stable=True)
    row, index, score = row[order], index[order], score[order]
    place = torch.arange(len(row), device=row.device) - (sizes.cumsum(0) - sizes)[row]
    scores = states.new_full((count, width), -torch.inf)
    indices = torch.zeros(count, width, dtype=torch.int64, device=row.device)
    scores[row, place], indices[row, place] = score, index
    return scores, indices


def _read(weights: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    """Weighted sums of the values of those that have a weight."""
    result = weights.new_zeros(len(weights), values.shape[1])
    row, place = weights.nonzero(as_tuple=True)
    for part in torch.arange(len(row), device=row.device).split(_GATHERED):
        mine, where = row[part], place[part]
        rows = values[indices[mine, where].to(values.device)].to(weights)
        result.index_add_(0, mine, rows * weights[mine, where, None])
    return result
