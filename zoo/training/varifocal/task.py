"""Which models are trained in stages, and two labels an image on their way to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from zoo.models.varifocal.network import VarifocalNet
from zoo.training.data.chromosomes import ChromosomeSet
from zoo.training.data.image import to_channels
from zoo.training.data.image_set import ImageSet
from zoo.training.data.loader import Labelled, Pipeline, naming
from zoo.training.data.transform import OnCanvas
from zoo.training.model_source import model_class, model_name
from zoo.training.varifocal.options import read_recipe


def looks_twice(model: Any) -> bool:
    """Whether a model, itself or by name, is a varifocal network."""
    known = model_class(model)
    return isinstance(known, type) and issubclass(known, VarifocalNet)


def in_stages(model: Any, recipe: Any) -> bool:
    """Whether a run is one in stages: such a model's is, unless another recipe is wanted.

    Raises:
        ValueError: an unknown recipe; the recipe of such models for another.
        TypeError: an unknown option of it.
    """
    name, options = read_recipe(recipe)
    ours = looks_twice(model)
    if not ours and (name == "varifocal" or options):
        raise ValueError(
            f"recipe={recipe!r} trains networks that look twice (varifocal, varifocal_chromosome, …), "
            f"{model_name(model)} is none"
        )
    return ours and name != "plain"


class Picture(NamedTuple):
    """An image, and its second label."""

    image: Any
    polarity: int


class TwoLabels(ImageSet):
    """Chromosomes with both labels; `image(i)` is a `Picture`."""

    noun = ChromosomeSet.noun

    def __init__(self, chromosomes: ChromosomeSet):
        self.chromosomes, self.decodes, self.groups = chromosomes, chromosomes.decodes, chromosomes.groups
        super().__init__(chromosomes.labels, chromosomes.classes, name=chromosomes.name, flip=chromosomes.flip)

    def image(self, index: int) -> Picture:
        return Picture(self.chromosomes.image(index), int(self.chromosomes.polarity[index]))

    def where(self, index: int) -> str:
        return self.chromosomes.where(index)

    def told(self) -> bytes:
        return self.chromosomes.told()


@dataclass(frozen=True)
class TwoLabelPipeline:
    """How a `Picture` becomes the model's input: as `pipeline` does it, and what turns it over turns its polarity.

    Attributes:
        pipeline: of the images; on a canvas its augmentation tells what polarity is left.
    """

    pipeline: Pipeline

    def __call__(self, picture: Picture, where: str) -> Labelled:
        plain = self.pipeline
        if not isinstance(plain.transform, OnCanvas):
            return Labelled(plain(picture.image, where), picture.polarity)
        image = to_channels(picture.image, plain.channels, scale=plain.scale, where=where)
        with naming(where):
            return Labelled(*plain.transform.with_polarity(image, picture.polarity))


def second_task(net: nn.Module, images: ImageSet) -> bool:
    """Whether a model and a set have both labels."""
    return bool(getattr(net, "num_polarities", 0)) and isinstance(images, ChromosomeSet) and images.knows_polarity
