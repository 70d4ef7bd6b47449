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
    kept = _Kept(states)

    def floors() -> Tensor:
        """Least score of each state that may have a weight, or is to be told without one."""
        return torch.minimum(largest.scores[:, rank - 1] - separation.margin, largest.scores[:, -1])

    for start, _, scores in scored():
        mine = scores[rows]
        largest.add(start, mine)
        row, column = (mine >= floors()[:, None]).nonzero(as_tuple=True)
        kept.add(row, column + start, mine[row, column])
        if limit is not None and kept.count > limit:
            kept.prune(floors())
            if kept.count > limit // 2:
                return None
    kept.prune(floors())
    row, index, score = kept.rows, kept.indices, kept.scores
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


class _Kept:
    """Candidates in three arrays that grow by doubling.

    Many small tensors between the large ones of each chunk would leave the allocator with holes that no large one fits
    in: gigabytes after a million patterns.
    """

    def __init__(self, like: Tensor) -> None:
        self.count = 0
        whole = torch.zeros(1 << 12, dtype=torch.int64, device=like.device)
        self._columns = [whole, whole.clone(), like.new_zeros(len(whole))]

    def add(self, *columns: Tensor) -> None:
        end = self.count + len(columns[0])
        for place, column in enumerate(columns):
            room = self._columns[place]
            if end > len(room):
                room = self._columns[place] = torch.cat([room, room.new_zeros(max(end, 2 * len(room)) - len(room))])
            room[self.count : end] = column
        self.count = end

    def prune(self, floors: Tensor) -> None:
        stays = self.scores >= floors[self.rows]
        columns = [column[: self.count][stays] for column in self._columns]
        self.count = 0
        self.add(*columns)

    @property
    def rows(self) -> Tensor:
        return self._columns[0][: self.count]

    @property
    def indices(self) -> Tensor:
        return self._columns[1][: self.count]

    @property
    def scores(self) -> Tensor:
        return self._columns[2][: self.count]


def _read(weights: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    """Weighted sums of the values of those that have a weight."""
    result = weights.new_zeros(len(weights), values.shape[1])
    row, place = weights.nonzero(as_tuple=True)
    for part in torch.arange(len(row), device=row.device).split(_GATHERED):
        mine, where = row[part], place[part]
        rows = values[indices[mine, where].to(values.device)].to(weights)
        result.index_add_(0, mine, rows * weights[mine, where, None])
    return result
