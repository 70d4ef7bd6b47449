"""Batches: which images, in which order, each with its own random numbers.

The order is a function of (seed, epoch) and the augmentation of (seed, epoch, index), so a run that was cut off goes on
with the very same batches, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.errors import DataError, MissingExtraError
from zoo.training.data.bags_batch import Bag, Bags, join
from zoo.training.data.image import to_channels
from zoo.training.data.image_set import ImageSet
from zoo.training.data.patch import Patch
from zoo.training.data.token_batch import TokenRow, Tokens, join_tokens
from zoo.training.randomness import derive, order, seed_host

Step = list[list[int]]


class Labelled(NamedTuple):
    """An image that is ready for a model, and its second label, which the preparation may have changed."""

    image: Tensor
    second: int


@dataclass(frozen=True)
class Batch:
    """Images (B, C, H, W), bags or sequences, targets and the indices that they came from.

    Targets are (B,) or (B, K), or (B, 2) of images with a second label; of small images what these are to become,
    (B, C, scale H, scale W).
    """

    images: Tensor | Bags | Tokens
    targets: Tensor
    indices: list[int]

    def __len__(self) -> int:
        return len(self.indices)

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        return Batch(
            self.images.to(device, non_blocking=True), self.targets.to(device, non_blocking=True), self.indices
        )


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Say of which image it is that a transform refuses."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


@dataclass(frozen=True)
class Pipeline:
    """How a stored image becomes the model's input.

    Attributes:
        channels: of the model.
        transform: applied to the converted image; None takes tensors as they come.
        scale: the value of white, for float images.
    """

    channels: int
    transform: Callable[[Any], Any] | None
    scale: float | None = None

    def __call__(self, image: Any, where: str) -> Tensor:
        if self.transform is not None:
            picture = to_channels(image, self.channels, scale=self.scale, where=where)
            with naming(where):
                return self.transform(picture)
        if not isinstance(image, Tensor) or image.ndim != 3:
            raise DataError(
                f"{where}: with transform=None images must be tensors (C, H, W), got {type(image).__name__}"
            )
        return image


class _Items(Dataset):
    """Fetches (transformed image, label) with random numbers that depend on the item alone."""

    def __init__(self, data: ImageSet, pipeline: Callable[[Any, str], Any], seed: int, epoch: int):
        self.data, self.pipeline, self.seed, self.epoch = data, pipeline, seed, epoch

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        seed_host(derive(self.seed, "image", self.epoch, index))
        try:
            return self.pipeline(self.data.image(index), self.data.where(index)), self.data.labels[index], index
        except DataError as error:
            # Raised from a worker process, an error would arrive as the text of a traceback.
            return error
        except MissingExtraError as error:  # whose constructor takes more than its text: it would not arrive at all
            return DataError(str(error))


def _collate(items: list[Any]) -> Batch | DataError:
    for item in items:
        if isinstance(item, DataError):
            return item
    images, labels, indices = zip(*items, strict=True)
    targets = torch.stack([torch.as_tensor(label) for label in labels])
    if isinstance(images[0], Bag):
        return Batch(join(images), targets, list(indices))
    if isinstance(images[0], TokenRow):
        return Batch(join_tokens(images), targets, list(indices))
    if isinstance(images[0], Patch):
        small, large = (torch.stack(parts) for parts in zip(*images, strict=True))
        return Batch(small, large, list(indices))
    if isinstance(images[0], Labelled):
        images, second = zip(*images, strict=True)
        targets = torch.stack([targets, torch.tensor(second)], 1)
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        return DataError(f"images of one batch have different shapes {sorted(shapes)}; pass a transform that resizes")
    return Batch(torch.stack(images), targets, list(indices))


def batches(
    data: ImageSet,
    pipeline: Callable[[Any, str], Any],
    chosen: list[list[int]],
    *,
    seed: int = 0,
    epoch: int = 0,
    workers: int = 0,
    pin: bool = False,
) -> Iterator[Batch]:
    """The batches with the given indices, in that order.

    Raises:
        DataError: an image that cannot be used, by name.
    """
    loader = DataLoader(
        _Items(data, pipeline, seed, epoch),
        batch_sampler=chosen,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin,
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def epoch_plan(
    size: int, *, batch_size: int, accum: int, seed: int, epoch: int, rank: int = 0, world: int = 1, multiple: int = 1
) -> list[Step]:
    """The updates of one epoch: each a list of batches whose gradients are added up.

    Every image is seen once. The last batch may be smaller: it is cut to a multiple of `world * multiple`, and left out
    below two images a process (batch norm needs two).

    Args:
        size: number of images.
        batch_size: images a batch and process.
        accum: batches an update.
        seed: of the run.
        epoch: counted from 0.
        rank: this process.
        world: number of processes; each takes every `world`-th image of a batch.
        multiple: batch lengths must be divisible by this (2 for mixup, which pairs images).
    """
    everything = order(size, seed, epoch)
    whole = batch_size * world
    global_batches = [everything[i : i + whole] for i in range(0, size, whole)]
    grain = world * multiple
    last = global_batches[-1]
    kept = len(last) // grain * grain
    if kept >= 2 * world or (len(global_batches) == 1 and kept > 0):
        global_batches[-1] = last[:kept]
    elif len(global_batches) > 1:
        global_batches.pop()
    else:
        raise DataError(f"{size} training image(s) are too few for {world} process(es) with batches of {multiple}")
    mine = [b[rank::world] for b in global_batches]
    return [mine[i : i + accum] for i in range(0, len(mine), accum)]


def eval_plan(size: int, *, batch_size: int, rank: int = 0, world: int = 1) -> list[list[int]]:
    """Every index once over all processes, in order, in batches."""
    mine = list(range(rank, size, world))
    return [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
