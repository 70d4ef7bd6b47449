"""Bags as a model takes them: padded to the longest of the batch, with a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence


class Bags(NamedTuple):
    """A batch of bags.

    Attributes:
        instances: (B, N, *shape).
        padding_mask: (B, N), True = no instance.
    """

    instances: Tensor
    padding_mask: Tensor

    def to(self, device: torch.device | str, **options: Any) -> Bags:
        """The batch on `device`."""
        return Bags(self.instances.to(device, **options), self.padding_mask.to(device, **options))


@dataclass(frozen=True)
class Bag:
    """One bag that is ready for a model.

    Attributes:
        instances: (n, *shape).
    """

    instances: Tensor


def pad(bags: Sequence[Bag]) -> Bags:
    """A batch."""
    sizes = torch.tensor([len(bag.instances) for bag in bags])
    instances = pad_sequence([bag.instances for bag in bags], batch_first=True)
    return Bags(instances, torch.arange(instances.shape[1]) >= sizes.unsqueeze(1))


def answer(net: nn.Module, images: Tensor | Bags) -> Any:
    """What a model answers to a batch of images, or of bags."""
    return net(*images) if isinstance(images, Bags) else net(images)
