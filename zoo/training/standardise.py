"""Features of bags of vectors, brought to mean 0 and deviation 1 by the statistics of the training instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from zoo.errors import DataError
from zoo.models.data_config import MAX_STATISTIC, MIN_STD, data_config, set_data_config
from zoo.training.data.bags import BagSet
from zoo.training.model_source import instance_shape

#: Numbers that are converted to float64 at a time.
_BLOCK = 2**22


def check_standardise(wanted: Any) -> None:
    """Refuse another word.

    Raises:
        ValueError: with the value.
    """
    if wanted != "auto" and not isinstance(wanted, bool):
        raise ValueError(f"standardise must be 'auto', True or False, got {wanted!r}")


def standardise(net: nn.Module, train: Any, wanted: bool | str, *, trained: bool) -> list[str]:
    """Record in the model how its features are standardised, as its images' mean and std are; notes for the user.

    Args:
        net: the model.
        train: what it is trained on.
        wanted: True fits the statistics to `train`, False leaves features as they are; "auto" keeps those of a trained
            model, and its doing without, and fits them for a new one.
        trained: the model has been trained before.

    Raises:
        ValueError: True, for data that are no bags of vectors or a model that records nothing.
        DataError: a feature so large, or so small, that it cannot be.
    """
    shape, cfg = instance_shape(net), getattr(net, "pretrained_cfg", None)
    vectors = isinstance(train, BagSet) and train.features is not None and shape == (train.features,)
    if not vectors or not isinstance(cfg, dict):
        if wanted is True:
            raise ValueError(
                "standardise is for bags of vectors, and models made by name; "
                + ("the model has no pretrained_cfg" if vectors else "the data are others")
            )
        return []
    known = data_config(net)["mean"] is not None
    if wanted is False:
        cfg.update(mean=None, std=None)
        return []
    if wanted == "auto" and (known or trained or cfg.get("label_names")):
        how = "as the model was trained" if known else "as they are, for the model was trained so"
        return [f"features are taken {how}; standardise=True (--standardise) fits them to these data"]
    mean, std = statistics(train)
    set_data_config(net, mean=mean.tolist(), std=std.tolist())
    instances = sum(map(len, train.places))
    return [
        f"features are brought to mean 0 and deviation 1 by the {instances:,} training instances; the "
        "model keeps the numbers and takes raw features. standardise=False (--no-standardise) does without"
    ]


def statistics(train: BagSet) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every feature over the instances; the deviation of a constant one is 1.

    Raises:
        DataError: a feature so large, or so small, that numbers of single precision would lose it.
    """
    rows: Any = train.instances
    numbers = np.concatenate(train.places)
    step = max(_BLOCK // rows.shape[1], 1)

    def total(of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        parts = (numbers[i : i + step] for i in range(0, len(numbers), step))
        return np.sum([of(rows[part].astype(np.float64)).sum(0) for part in parts], axis=0)

    mean = total(lambda x: x) / len(numbers)
    std = np.sqrt(total(lambda x: np.square(x - mean)) / len(numbers))
    std[std <= 1e-6 * np.abs(mean)] = 0
    bad = (np.abs(mean) > MAX_STATISTIC) | (std > MAX_STATISTIC) | ((std > 0) & (std < MIN_STD))
    if bad.any():
        k = int(bad.argmax())
        raise DataError(
            f"feature {k} of {train.name} has mean {mean[k]:.3g} and deviation {std[k]:.3g}, which cannot be "
            f"standardised (mean up to {MAX_STATISTIC:g}, deviation {MIN_STD:g} to {MAX_STATISTIC:g}): give it in "
            "another unit, or pass standardise=False (--no-standardise)"
        )
    return mean, np.where(std > 0, std, 1.0)
