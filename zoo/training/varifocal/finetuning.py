"""`zoo.finetune` of networks that look twice, in stages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from zoo.errors import DataError
from zoo.models.data_config import data_config
from zoo.models.varifocal.network import VarifocalNet
from zoo.models.varifocal.registered import POLARITIES
from zoo.training.conduct import begun, conduct
from zoo.training.data.chromosomes import ChromosomeSet
from zoo.training.data.source import open_splits
from zoo.training.data.transform import CANVAS
from zoo.training.model_source import describe_data, model_for, model_name, set_image_size, starts_from_weights
from zoo.training.preparation import pipeline_for
from zoo.training.progress import Progress
from zoo.training.randomness import derive, kept_random_state, seed_all
from zoo.training.result import Result
from zoo.training.varifocal.loop import VarifocalLoop
from zoo.training.varifocal.options import resolve
from zoo.training.varifocal.task import TwoLabelPipeline, TwoLabels, second_task


def finetune_in_stages(given: Mapping[str, Any], trackers: Any) -> Result:
    """The run that `zoo.finetune` was asked for.

    Args:
        given: every argument of `zoo.finetune`.
        trackers: of the run.

    Raises:
        ValueError, DataError, TrainingError: as `zoo.finetune`.
    """
    model, seed = given["model"], given["seed"]
    show = Progress(given["progress"] and int(os.environ.get("RANK", "0")) == 0, given["epochs"])
    with kept_random_state():
        splits = open_splits(given["data"], val=given["val"], seed=seed, on_bad=given["on_bad"])
        train = splits.present()["train"]
        show.unit = f"{train.noun}s"
        name = model_name(model)
        seed_all(derive(seed, "model"))
        prepared: dict[str, Any] = {"transform": given["transform"], "scale": given["scale"]}
        several = len(train.classes), _second(model, train)
        built = {**(given["model_args"] or {}), **({"img_size": given["img_size"]} if given["img_size"] else {})}
        net, notes = model_for(
            model,
            train,
            pretrained=given["pretrained"],
            model_args=built if not isinstance(model, nn.Module) else given["model_args"],
            num_classes=several if several[1] else None,
            **prepared,
        )
        net = cast(VarifocalNet, net)
        if given["img_size"] is not None:
            set_image_size(net, given["img_size"])
        trained = starts_from_weights(model, given["pretrained"]) is not False
        notes += describe_data(net, train, trained=trained)
        options = resolve(given, splits, name, canvas=data_config(net)["crop_mode"] == CANVAS)
        show.epochs = options.epochs
        pipelines: Any = (
            pipeline_for(net, train, aug=options.aug, hflip=options.hflip, **prepared),
            pipeline_for(net, train, **prepared),
        )
        if second_task(net, train):
            net.polarity_names = POLARITIES
            splits.train = TwoLabels(cast(ChromosomeSet, train))
            pipelines = (TwoLabelPipeline(pipelines[0]), pipelines[1])
        elif net.num_polarities:
            notes.append(f"{train.name} has no polarities: only types are learned")
        for note in [*splits.notes, *notes]:
            show.note(note)
        with begun(net, options, given, name=name, data=splits.name, unused=True) as run:
            stage = net.stage
            loop = VarifocalLoop(net, splits, pipelines, run.options, run.folder, run.accelerator, show)
            try:
                return conduct(loop, name, given, trackers, before_end=run.give_back)
            finally:
                loop.all_learn(stage)


def _second(model: Any, train: Any) -> int:
    """Classes of the second task: those of a module, else 2 where the data knows polarities.

    Raises:
        DataError: a module of another number, and data that knows polarities.
    """
    known = len(POLARITIES) if isinstance(train, ChromosomeSet) and train.knows_polarity else 0
    if not isinstance(model, nn.Module):
        return known
    count = int(getattr(model, "num_polarities", 0))
    if count and known and count != known:
        raise DataError(
            f"{train.name} has {known} polarities ({', '.join(POLARITIES)}), the second task of the model {count} "
            f"classes: build it with num_classes=({getattr(model, 'num_classes', 24)}, {known})"
        )
    return count
