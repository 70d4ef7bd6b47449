"""What the model of a run answers to every image of the split that the run was measured on."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import nn

from zoo.errors import DataError
from zoo.training.data.bags import BagSet
from zoo.training.data.image_set import ImageSet, Splits
from zoo.training.data.sequences import SequenceSet
from zoo.training.data.source import open_splits
from zoo.training.progress import Progress
from zoo.training.reporting.bags import Instance, heaviest
from zoo.training.reporting.facts import RunFacts
from zoo.training.reporting.thumbnail import data_uri


@dataclass(frozen=True)
class Answers:
    """The model's answers.

    Attributes:
        images: N images of the split.
        root: folder that the images lie in, if they are files.
        probabilities: (N, K).
        targets: (N,) class numbers, or (N, K) zeros and ones.
        losses: (N,), with several labels the mean over them.
        counts: split -> images of every class there.
        net: the model, in evaluation mode.
        scale: value of white in float images.
    """

    images: ImageSet
    root: Path | None
    probabilities: np.ndarray
    targets: np.ndarray
    losses: np.ndarray
    counts: dict[str, list[int]]
    net: nn.Module
    scale: float | None

    @property
    def right(self) -> np.ndarray:
        """(N,) whether the answer is right; with several labels, all of them."""
        if self.targets.ndim == 1:
            return self.probabilities.argmax(1) == self.targets
        return ((self.probabilities > 0.5) == (self.targets > 0.5)).all(1)


@dataclass(frozen=True)
class Shown:
    """An image in the report.

    Attributes:
        picture: data URI; empty when the image cannot be shown.
        width, height: of the picture.
        answered: (label, probability, whether it is right) of the model's labels.
        missed: (label, probability) of labels that it has and was not given; for a single label, the true one.
        loss: of the image.
        where: file below the data's folder, or number.
        instances: of a bag, those that weigh most in the answer.
        size: of a bag, how many instances it has.
    """

    picture: str
    width: int
    height: int
    answered: list[tuple[str, float, bool]]
    missed: list[tuple[str, float]]
    loss: float
    where: str
    instances: list[Instance]
    size: int


def open_run_data(run: RunFacts, data: Any, val: Any) -> Splits:
    """The data of a run, the same as then.

    Args:
        run: of which `given` says where the data was and how it was split.
        data: the source; `None` for what the run says.
        val: as `zoo.finetune` was given it; `None` for what the run says.

    Raises:
        DataError: it cannot be read, is not known, or is not what the run learned from.
    """
    source = run.source if data is None else data
    if source is None:
        raise DataError("the run does not say where its data is; give it: zoo.report(run, data=…), --data")
    fingerprint = run.args["data"]["fingerprint"]
    if isinstance(source, Splits) and source.fingerprint() == fingerprint:
        return source  # as they were split
    given = run.given.get("val") if val is None else val
    if val is None and isinstance(given, dict):
        raise DataError(
            f"the run was validated on a {given['object']}, which its folder does not hold; give it: "
            "zoo.report(run, val=…)"
        )
    splits = open_splits(
        source,
        val=given,
        seed=run.options["seed"],
        on_bad=run.given.get("on_bad") or "raise",
    )
    if splits.fingerprint() != fingerprint:
        sizes = ", ".join(f"{len(split):,} {name}" for name, split in splits.present().items())
        then = ", ".join(f"{n:,} {name}" for name, n in run.args["data"]["images"].items())
        raise DataError(
            f"{splits.name} is not the data of this run, or has changed since: {run.noun}s, labels or the split differ "
            f"(then {then} {run.noun}s; now {sizes})"
        )
    return splits


def answers_of(
    run: RunFacts, splits: Splits, source: Any, model: nn.Module | None, *, batch_size: int, device: str | None
) -> Answers:
    """Run the best model over the split that the run was measured on.

    Args:
        run: whose best/ has the weights.
        splits: its data.
        source: where they came from, to name files shortly.
        model: takes the weights where best/ has no config.json; it is not changed.
        batch_size: images at a time.
        device: None for the best there is.

    Raises:
        TrainingError: best/ holds the weights alone and there is no model.
        MissingExtraError: without the extra `train`.
    """
    from zoo.training.evaluation import run_model
    from zoo.training.model_source import ready_model
    from zoo.training.run_folder import load_best

    images = splits.present()[run.split or ""]
    if model is None:
        net = ready_model(run.folder)
    else:
        net = copy.deepcopy(model)
        load_best(net, run.folder)
    logits, targets = run_model(
        net,
        images,
        scale=run.options.get("scale"),
        transform=run.options.get("transform"),
        batch_size=batch_size,
        workers=0,
        device=device,
        amp="bf16" if run.options.get("amp") == "bf16" else "no",
        progress=Progress(False, 1),
    )
    logits = logits.double()
    several = images.multi_label
    losses = (
        F.binary_cross_entropy_with_logits(logits, targets.double(), reduction="none").mean(1)
        if several
        else F.cross_entropy(logits, targets, reduction="none")
    )
    return Answers(
        images=images,
        root=_root(source),
        probabilities=(logits.sigmoid() if several else logits.softmax(1)).numpy(),
        targets=targets.numpy(),
        losses=losses.numpy(),
        counts={name: _count(split) for name, split in splits.present().items()},
        net=net.eval(),
        scale=run.options.get("scale"),
    )


def show(answers: Answers, index: int) -> Shown:
    """An image or a bag, its labels and the model's."""
    images, scores, target = answers.images, answers.probabilities[index], answers.targets[index]
    classes = images.classes
    if target.ndim:
        true = np.flatnonzero(target > 0.5).tolist()
        answered = [k for k in np.argsort(-scores) if scores[k] > 0.5]
    else:
        true, answered = [int(target)], [int(scores.argmax())]
    of_bag = isinstance(images, BagSet)
    try:
        drawn = None if of_bag else data_uri(images.image(index))
    except (DataError, OSError, ValueError, TypeError):  # an image of a kind that cannot be drawn
        drawn = None
    picture, width, height = drawn or ("", 0, 0)
    return Shown(
        picture=picture,
        width=width,
        height=height,
        answered=[(classes[k], float(scores[k]), k in true) for k in answered],
        missed=[(classes[k], float(scores[k])) for k in true if k not in answered],
        loss=float(answers.losses[index]),
        where=_where(answers, index),
        instances=heaviest(answers.net, images, index, answers.scale) if of_bag else [],
        size=len(images.places[index]) if of_bag else 0,
    )


def _where(answers: Answers, index: int) -> str:
    where = answers.images.where(index)
    if isinstance(answers.images, SequenceSet):
        return f"{where}: {answers.images.image(index)}"
    if answers.root is not None and Path(where).is_relative_to(answers.root):
        return Path(where).relative_to(answers.root).as_posix()
    return where


def _root(source: Any) -> Path | None:
    if isinstance(source, str | os.PathLike) and Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    if isinstance(source, Mapping):
        folders = [str(folder) for part in source.values() if (folder := _root(part)) is not None]
        return Path(os.path.commonpath(folders)) if folders and len(folders) == len(source) else None
    return None


def _count(split: ImageSet) -> list[int]:
    if split.multi_label:
        return split.labels.sum(0).astype(int).tolist()
    return np.bincount(split.labels, minlength=len(split.classes)).tolist()
