"""The instances of a bag that weigh most in its answer, as the report shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from zoo.errors import DataError
from zoo.training.bags_prediction import bag_answers
from zoo.training.data.bags import BagSet
from zoo.training.data.image_set import ImageSet
from zoo.training.reporting.thumbnail import data_uri

#: Instances that are shown of a bag.
SHOWN = 4


@dataclass(frozen=True)
class Instance:
    """An instance in the report.

    Attributes:
        name: its file, sequence, or number in the bag.
        weight: its share in the bag's answer.
        picture: data URI; empty where it is no image.
        width, height: of the picture.
    """

    name: str
    weight: float
    picture: str = ""
    width: int = 0
    height: int = 0


def heaviest(net: nn.Module, bags: BagSet, index: int, scale: float | None) -> list[Instance]:
    """The instances of a bag with the largest weights, falling; none where the model does not tell.

    Args:
        net: in evaluation mode.
        bags: the set.
        index: of the bag.
        scale: value of white in float images.
    """
    if not hasattr(net, "association"):
        return []
    parameter = next(net.parameters(), torch.empty(0))
    with torch.inference_mode():
        ((_, _, found),) = bag_answers(net, bags.subset([index], bags.name), 1, parameter.device, scale)
    order = sorted(range(len(found)), key=lambda k: -found[k]["weight"])[:SHOWN]
    places = bags.places[index]
    return [
        Instance(found[k]["instance"], found[k]["weight"], *_picture_of(bags.instances, int(places[k]))) for k in order
    ]


def _picture_of(instances: Any, place: int) -> tuple[str, int, int]:
    if not isinstance(instances, ImageSet):
        return "", 0, 0
    try:
        return data_uri(instances.image(place))
    except (DataError, OSError, ValueError, TypeError):  # an image of a kind that cannot be drawn
        return "", 0, 0
