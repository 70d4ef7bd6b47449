"""Bags as a model takes them: all instances of a batch, bag behind bag, or padded to the longest with a mask."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from zoo.training.data.token_batch import Tokens


class Bags(NamedTuple):
    """A batch of bags.

    Attributes:
        instances: (rows, *shape), bag behind bag.
        offsets: where each bag starts and the last one ends, (B + 1,).
        counts: (rows,) how often each instance was seen; None where that is not known.
    """

    instances: Tensor
    offsets: list[int]
    counts: Tensor | None = None

    def to(self, device: torch.device | str, **options: Any) -> Bags:
        """The batch on `device`."""
        counts = None if self.counts is None else self.counts.to(device, **options)
        return Bags(self.instances.to(device, **options), self.offsets, counts)

    def by_bag(self, rows: Tensor) -> list[Tensor]:
        """What there is of every instance, bag by bag."""
        return list(rows.split([stop - start for start, stop in itertools.pairwise(self.offsets)]))


@dataclass(frozen=True)
class Bag:
    """One bag that is ready for a model.

    Attributes:
        instances: (n, *shape).
        counts: (n,) how often each was seen; None where that is not known.
    """

    instances: Tensor
    counts: Tensor | None = None


def join(bags: Sequence[Bag]) -> Bags:
    """A batch."""
    counts = [bag.counts for bag in bags if bag.counts is not None]
    return Bags(
        torch.cat([bag.instances for bag in bags]),
        list(itertools.accumulate((len(bag.instances) for bag in bags), initial=0)),
        torch.cat(counts) if counts else None,
    )


def answer(net: nn.Module, images: Tensor | Bags | Tokens, paths: tuple[int, ...] | None = None) -> Any:
    """What a model answers to a batch of images, of bags, or of sequences; a stitched one by these paths of its own."""
    if isinstance(images, Tokens):
        return net(images.words, images.lengths)
    if isinstance(images, Bags):
        return _call(net, net, images)
    if paths is None:
        return net(images)
    first, *others = paths
    return net(images, stitch=paths if others else first)


def association(net: nn.Module, bags: Bags) -> Tensor:
    """How much the answer took from every instance, (B, heads, states, N), as the model's `association` has it."""
    ask: Any = net.association
    return _call(net, ask, bags)


def _call(net: nn.Module, function: Callable[..., Any], bags: Bags) -> Any:
    """Bags as they are where the model's forward takes `offsets`; padded where it does not."""
    # Of several processes the model is wrapped, and mixed precision puts another function in the place of its forward.
    takes = inspect.signature(type(getattr(net, "module", net)).forward).parameters
    counts = {} if bags.counts is None else {"counts": bags.counts}
    if "offsets" in takes:
        return function(bags.instances, offsets=bags.offsets, **counts)
    padded = pad_sequence(bags.by_bag(bags.instances), batch_first=True)
    sizes = torch.tensor([stop - start for start, stop in itertools.pairwise(bags.offsets)], device=padded.device)
    mask = torch.arange(padded.shape[1], device=padded.device) >= sizes.unsqueeze(1)
    counts = {name: pad_sequence(bags.by_bag(of), batch_first=True) for name, of in counts.items()}
    return function(padded, mask, **counts)
