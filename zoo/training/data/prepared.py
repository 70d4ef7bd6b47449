"""A split as a torch Dataset of tensors that are ready for a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from zoo.training.data.image_set import ImageSet
from zoo.training.data.source import open_split


class Prepared(Dataset):
    """Pairs (image (C, H, W) or bag, label) of a split, as evaluation feeds them to a model.

    Attributes:
        classes: class names.
    """

    def __init__(self, images: ImageSet, pipeline: Callable[[Any, str], Any]):
        self.images, self.pipeline, self.classes = images, pipeline, images.classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} images")
        index %= len(self)
        image = self.pipeline(self.images.image(index), self.images.where(index))
        label = self.images.labels[index]
        return image, (label if self.images.multi_label else int(label))


def open_data(data: Any, split: str = "test", *, model: nn.Module) -> Prepared:
    """Open one split as a torch Dataset of tensors that are ready for `model`.

    Args:
        data: anything that `zoo.finetune` takes.
        split: "train", "val" or "test"; a source without splits is taken whole.
        model: whose `zoo.data_config` says how images are prepared.

    Raises:
        DataError: naming what is wrong and what was found.
    """
    from zoo.training.preparation import pipeline_for

    images = open_split(data, split).images
    return Prepared(images, pipeline_for(model, images))
