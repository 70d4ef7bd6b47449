"""How the images or bags of a set are prepared for a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import DataError
from zoo.models.data_config import data_config
from zoo.training.data.bags import BagSet
from zoo.training.data.bags_batch import Bag
from zoo.training.data.image_set import ImageSet
from zoo.training.data.loader import Pipeline
from zoo.training.data.transform import eval_transform, train_transform
from zoo.training.model_source import instance_shape, model_name

#: The `instance_shape` of a model that takes sequences of any length.
SEQUENCES = (None,)
#: Normalised pixels lie far within it.
_MOST = 100


@dataclass(frozen=True)
class BagPipeline:
    """How a stored bag becomes the model's input.

    Attributes:
        shape: of an instance, as the model takes it; (None,) for sequences of any length.
        images: how an image becomes an instance; None where instances are no images.
        scaling: mean and standard deviation by which features are standardised; None where they are taken as they are.
    """

    shape: tuple[int | None, ...]
    images: Pipeline | None = None
    scaling: tuple[Tensor, Tensor] | None = None

    def __call__(self, bag: Any, where: str) -> Bag:
        if isinstance(bag, Bag):  # of sequences, which are ready
            if self.shape != SEQUENCES:
                raise DataError(f"{where} has sequences as instances, the model takes {self._wanted}")
            return bag
        if not isinstance(bag, Tensor):
            if self.images is None:
                raise DataError(f"{where} has images as instances, the model takes {self._wanted}")
            bag = torch.stack([self.images(image, f"image {k} of {where}") for k, image in enumerate(bag)])
        elif self.images is not None and bag.numel() and float(bag.abs().max()) > _MOST:
            raise DataError(
                f"{where} has images with values up to {float(bag.abs().max()):g}, and numbers that are no unsigned "
                "integers are taken as normalised already; give pixels as uint8 or uint16, which are prepared by the "
                "model's mean and std"
            )
        if tuple(bag.shape[1:]) != self.shape:
            raise DataError(f"{where} has instances of {tuple(bag.shape[1:])}, the model takes {self._wanted}")
        if self.scaling is None:
            return Bag(bag)
        mean, std = self.scaling
        return Bag((bag - mean) / std)

    @property
    def _wanted(self) -> str:
        return "sequences of amino acids" if self.shape == SEQUENCES else str(self.shape)


def pipeline_for(
    net: nn.Module,
    images: ImageSet,
    *,
    transform: Any = "auto",
    scale: float | None = None,
    aug: str | None = None,
    hflip: float = 0.0,
) -> Pipeline | BagPipeline:
    """What prepares the images, or bags, of a set for a model.

    Args:
        net: the model.
        images: the set.
        transform: "auto", or what is applied instead.
        scale: value of white in float images.
        aug: augmentation in training; None for evaluation.
        hflip: probability of mirroring.

    Raises:
        DataError: bags for a model of images, or images for one of bags.
    """
    shape = instance_shape(net)
    if isinstance(images, BagSet) != (shape is not None):
        takes, are = ("images", "bags") if shape is None else ("bags of instances", "images")
        other = "; hopfield_mil and its like take bags" if shape is None else ""
        raise DataError(f"{model_name(net)} takes {takes}, {images.name} has {are}{other}")
    config = data_config(net)
    if shape is not None and len(shape) != 3:
        known = config["mean"] is not None
        return BagPipeline(
            shape, scaling=(torch.tensor(config["mean"]), torch.tensor(config["std"])) if known else None
        )
    made: Callable[[Any], Any] | None = transform
    if transform == "auto":
        made = eval_transform(config) if aug is None else train_transform(config, aug, hflip=hflip)
    pipeline = Pipeline(config["input_size"][0], made, scale)
    return pipeline if shape is None else BagPipeline(shape, pipeline)
