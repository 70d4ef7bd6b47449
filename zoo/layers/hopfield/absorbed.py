"""Few states and many rows: the association of a Hopfield layer without the projections of the rows.

A score is q . (W x^ + b) = (W^T q) . x^ + q . b, and what an association recalls is a linear map of the mean normed
row, sum_i p_i (W x^_i + b) = W (sum_i p_i x^_i) + b. So neither stored patterns nor values are made: states go
through the projections, to the rows and back, and of the rows only means are needed (`associated_means`).
"""

import torch
from torch import Tensor

from zoo.layers.hopfield.folded import Folded, can_fold, fold_stored, fold_values
from zoo.layers.hopfield.hopfield import Hopfield
from zoo.layers.hopfield.means import Bags, associated_means, squared_change
from zoo.layers.hopfield.normed import NormedRows
from zoo.layers.hopfield.reference import Associated
from zoo.layers.hopfield.updates import Held, moved, settle

#: Operations to be saved; fewer are lost again between the blocks.
_WORTH = 2**24


def can_absorb(layer: Hopfield) -> bool:
    """The layer, on values that are the stored patterns, associates by means of rows alone."""
    drops = layer.training and layer.dropout > 0
    return layer.map.association == "softmax" and not drops and not layer.until_convergence and can_fold(layer)


def absorbing_saves(layer: Hopfield, rows: int, states: int) -> bool:
    """So many rows cost clearly fewer operations absorbed than projected."""
    width, head, read = layer.sizes.stored or 0, layer.sizes.head or 0, layer.sizes.read or 0
    updates = max(layer.num_updates)
    projected = width * (head + read) + states * (2 * head * (updates - 1) + head + read)
    absorbed = 2 * width * states * updates
    return 2 * rows * layer.num_heads * (projected - absorbed) > _WORTH


def absorbed_association(layer: Hopfield, rows: Tensor, bags: Bags, states: Tensor) -> Associated:
    """What the states recall of every bag, as `Hopfield.associate_heads`, never of a matrix.

    Shapes: rows (N, stored_dim), states (1, L, dim) -> result (bags, H, L, value_dim).

    Args:
        layer: one that `can_absorb`.
        rows: of all bags, stored patterns and values, as they came.
        bags: which rows are whose, and masks.
        states: as they came.
    """
    absorbed = _Absorbed(layer, rows, bags)
    return absorbed.associate(layer.project_states(states))


class _Absorbed:
    """One call."""

    def __init__(self, layer: Hopfield, rows: Tensor, bags: Bags) -> None:
        self.layer, self.bags = layer, bags
        self.normed = NormedRows(rows, None if layer.norm_stored is None else layer.norm_stored.eps)
        self.stored = fold_stored(layer)
        self.beta = layer.beta.view(-1, 1, 1)

    def associate(self, q: Tensor) -> Associated:
        """From heads of states (1, H, L, D)."""
        layer = self.layer
        found = self._recall(q)
        held = (q.expand(self.bags.count, -1, -1, -1), *found)
        (q, means, lse), counts = settle(held, self._step, self._changed, layer.num_updates, layer.tol)
        return Associated(self._read(fold_values(layer), layer.bias_value, q, means, lse), None, counts)

    def _recall(self, q: Tensor) -> Held:
        """The mean normed row of each state, (B, H, L, d), and its lse, (B, H, L, 1)."""
        directions = self.stored.scores(self.beta * q)[0].flatten(1, 2)
        means, lse = associated_means(self.normed, directions, self.bags)
        by_head = (self.layer.num_heads, q.shape[2])
        return means.unflatten(1, by_head), lse.unsqueeze(-1).unflatten(1, by_head)

    def _step(self, q: Tensor, means: Tensor, lse: Tensor) -> Held:
        new = self._read(self.stored, self.layer.bias_stored, q, means, lse)
        new = new if self.layer.post is None else self.layer.post(new)
        return (new, *self._recall(new))

    def _read(self, folded: Folded, pattern: Tensor | None, q: Tensor, means: Tensor, lse: Tensor) -> Tensor:
        """What the association takes from the rows, and from the bias pattern."""
        share, extra, _ = self._shares(q, lse)
        read = share.to(q.dtype) * folded.heads(means.to(q.dtype))
        return read if pattern is None else read + extra[..., :1].to(q.dtype) * pattern.to(q.dtype).unsqueeze(1)

    def _shares(self, q: Tensor, lse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the association what all rows have, (B, H, L, 1), what bias and zero pattern have, (B, H, L, 0 to 2), and
        the logarithm of what the exponentials of directions . x^ are divided by."""
        scaled = self.beta * q
        constant = self.stored.scores(scaled)[1].to(lse.dtype)
        others = []
        if self.layer.bias_stored is not None:
            others.append((scaled * self.layer.bias_stored.unsqueeze(1)).sum(-1, keepdim=True).to(lse.dtype))
        if self.layer.zero_pattern:
            others.append(torch.zeros_like(lse))
        # Without others the rows have it all, and the shift of the stored patterns a gradient of 0 instead of none.
        scores = torch.cat([lse + constant, *(other.expand_as(lse) for other in others)], -1)
        nothing = torch.isneginf(scores).all(-1, keepdim=True)
        total = scores.masked_fill(nothing, 0).logsumexp(-1, keepdim=True)
        share, extra = (scores - total).exp().split([1, len(others)], -1)
        return share, extra, total - constant

    @torch.no_grad()
    def _changed(self, old: Held, new: Held, limit: Tensor) -> Tensor:
        if self.layer.stop == "state":
            return moved(old[0], new[0]) > limit
        both, extras = [], []
        for q, _, lse in (old, new):
            _, extra, divisor = self._shares(q, lse)
            directions = self.stored.scores(self.beta * q)[0]
            both.append((directions.flatten(1, 2), divisor.flatten(1)))
            extras.append(extra)
        others = (extras[1] - extras[0]).square().sum(-1)

        def beyond(rows: Tensor) -> Tensor:
            heads = (rows.unflatten(1, others.shape[1:]) + others).sum(-1).sqrt()  # (B, H)
            largest = heads.amax(0) if len(heads) else heads.new_zeros(heads.shape[1])
            return largest.view(-1, 1, 1) > limit

        # Changes only grow from block to block: once all heads are beyond their limit, no more rows are needed.
        before, after = both
        return beyond(squared_change(self.normed, before, after, self.bags, lambda rows: bool(beyond(rows).all())))
