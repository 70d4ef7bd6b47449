"""`zoo.finetune` of models that enlarge images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from zoo.training.conduct import begun, conduct
from zoo.training.data.labels import some
from zoo.training.model_source import model_name, refuse_half, resolve_name, starts_from_weights
from zoo.training.progress import Progress
from zoo.training.randomness import derive, kept_random_state, seed_all
from zoo.training.result import Result
from zoo.training.super_resolution.loop import RestorationLoop
from zoo.training.super_resolution.options import resolve
from zoo.training.super_resolution.patches import Patches
from zoo.training.super_resolution.photos import Photos
from zoo.training.super_resolution.source import open_photos
from zoo.training.super_resolution.task import check_scale, refuse_other_channels, takes_any_scale


def finetune_super_resolution(given: Mapping[str, Any], trackers: Any) -> Result:
    """The run that `zoo.finetune` was asked for.

    Args:
        given: every argument of `zoo.finetune`.
        trackers: of the run.

    Raises:
        ValueError, DataError, TrainingError: as `zoo.finetune`.
    """
    seed = given["seed"]
    show = Progress(given["progress"] and int(os.environ.get("RANK", "0")) == 0, given["epochs"])
    show.unit = "patches"
    with kept_random_state():
        seed_all(derive(seed, "model"))
        net = _model_of(given)
        scale = check_scale(net, given["scale"])
        name = model_name(given["model"])
        options = resolve(given, name, scale=scale, phases=2 if hasattr(net, "train_queries") else 1)
        splits = open_photos(given["data"], scale=scale, val=given["val"], seed=seed, on_bad=given["on_bad"])
        photos = splits.train
        assert isinstance(photos, Photos)
        splits.train = Patches(photos, options.patch_size, options.epoch_patches)
        for note in (*splits.notes, *_copies(photos, splits.val)):
            show.note(note)
        several = hasattr(net, "train_queries")
        if note := _learns(net, scale):
            show.note(note)
        with begun(net, options, given, name=name, data=splits.name, unused=several) as run:
            ways = (_as_it_is, _as_it_is)
            loop = RestorationLoop(net, splits, ways, run.options, run.folder, run.accelerator, show)
            show.epochs = loop.options.epochs
            try:
                return conduct(loop, name, given, trackers, before_end=run.give_back)
            finally:
                loop.all_learn()


def _model_of(given: Mapping[str, Any]) -> nn.Module:
    """The module as it is, or built by name."""
    model, pretrained, arguments = given["model"], given["pretrained"], given["model_args"]
    if isinstance(model, nn.Module):
        if arguments or pretrained is not None:
            raise ValueError("pretrained and model_args are for a model given by name; this one is already built")
        net = model
    else:
        from zoo.factory import create_model

        name = resolve_name(model)
        if pretrained is None and ":" not in name:
            pretrained = starts_from_weights(name, None)
        net = create_model(name, pretrained=pretrained, **(arguments or {}))
    refuse_half(net)
    refuse_other_channels(net)
    return net


def _learns(net: nn.Module, scale: int) -> str | None:
    """Tell a model that takes any scale which one it learns; what is to be said of it."""
    if not takes_any_scale(net) or (before := getattr(net, "scale", None)) == scale:
        return None
    net.learns(scale)  # pyright: ignore - not of nn.Module
    made = "was made for none" if before is None else f"was made for {before:g}"
    return f"the network learns to enlarge by {scale}, and does so from now on where no scale is given; it {made}"


def _as_it_is(image: Any, where: str) -> Any:
    return image


def _copies(train: Photos, val: Any) -> list[str]:
    """That photographs of train are in val, too."""
    if not isinstance(val, Photos):
        return []
    known = {file.resolve() for file in train.files} | {_content(file) for file in train.files}
    both = [str(file) for file in val.files if file.resolve() in known or _content(file) in known]
    return [f"{len(both)} image(s) of val are in train, too: {some(both)}"] if both else []


def _content(file: Any) -> tuple[int, bytes]:
    with file.open("rb") as opened:
        return file.stat().st_size, opened.read(4096)
