"""What a network that looks twice says of an image, in words."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zoo.models.varifocal.output import VarifocalOutput
from zoo.models.varifocal.registered import POLARITIES


def both_answers(net: Any, said: VarifocalOutput) -> tuple[Tensor, list[dict[str, Any]]]:
    """Probabilities of the types (B, K), by the network's temperature, and for each image what it says besides.

    Returns:
        The probabilities; and dictionaries of `box` and, where there is a second task, `polarity` and
        `polarity_probability`.
    """
    types, polarities = net.log_probabilities(said)
    assert said.box is not None
    besides: list[dict[str, Any]] = [{"box": box} for box in said.box.float().cpu().tolist()]
    if polarities is not None:
        names = net.polarity_names or POLARITIES
        if len(names) != polarities.shape[1]:
            names = tuple(map(str, range(polarities.shape[1])))
        best = polarities.float().exp().cpu().max(1)
        for one, value, index in zip(besides, best.values.tolist(), best.indices.tolist(), strict=True):
            one |= {"polarity": names[index], "polarity_probability": value}
    return types.float().exp(), besides
