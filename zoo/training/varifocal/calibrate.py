"""The temperature of a network that looks twice, found on the validation split when it has been trained."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from zoo.karyotype import fit_temperature
from zoo.models.varifocal.network import VarifocalNet
from zoo.training.data.image_set import ImageSet
from zoo.training.varifocal.task import second_task


def calibrate(model: VarifocalNet, data: ImageSet, answers: Tensor, targets: Tensor) -> str:
    """Give a network the temperatures that make its probabilities mean most; where there are none, they stay 1.

    Args:
        model: the network.
        data: images that it did not learn from.
        answers: (N, types + polarities) logits of the last decision, or more columns behind these.
        targets: (N,) types.

    Returns:
        What was found, in words.
    """
    types = model.num_classes
    tasks = {"types": (answers[:, :types].numpy(), targets.numpy())}
    if second_task(model, data):
        polarity = data.polarity  # pyright: ignore - of chromosomes
        known = polarity >= 0
        logits = answers[:, types : types + model.num_polarities].numpy()
        tasks["polarities"] = logits[known], polarity[known]
    found, fitted, left = [], [], []
    for what, (logits, labels) in tasks.items():
        value, why = _fitted(logits, labels)
        found.append(value)
        if why:
            left.append(f"temperature of {what} not fitted, stays 1: {why}")
        else:
            fitted.append(f"{value:.4g} of {what}")
    model.temperature = (*found, 1.0)[:2]
    by = f"fitted on {len(data)} val {data.noun}s, which the epoch was chosen by, too"
    return "; ".join([*([f"temperature {', '.join(fitted)}, {by}"] if fitted else []), *left])


def _fitted(logits: np.ndarray, labels: np.ndarray) -> tuple[float, str]:
    """The temperature of one task; 1 and why, where there is no best one."""
    try:
        return float(f"{fit_temperature(logits, labels).temperature:.4g}"), ""
    except ValueError as error:
        return 1.0, str(error)
