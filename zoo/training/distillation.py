"""Distillation: a trained model, the teacher, says of every image what the model in training is to answer.

    loss = (1 - alpha) base + alpha distill

of the same logits z, with the teacher's logits t: hard, cross-entropy with the teacher's most probable class ("Training
data-efficient image transformers", Touvron et al., 2021, arXiv:2012.12877); soft, the divergence KL(softmax(t / tau) |
softmax(z / tau)) tau^2 ("Distilling the Knowledge in a Neural Network", Hinton et al., 2015, arXiv:1503.02531), as mean
over images and classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import DataError, TrainingError
from zoo.models.class_scores import as_logits
from zoo.models.data_config import data_config
from zoo.training.data.bags import BagSet
from zoo.training.data.bags_batch import Bag, answer
from zoo.training.data.image import LUMA
from zoo.training.data.image_set import ImageSet
from zoo.training.data.labels import some
from zoo.training.data.loader import Batch
from zoo.training.data.sequences import SequenceSet
from zoo.training.forward import check_logits
from zoo.training.lora import fingerprint
from zoo.training.model_source import model_name, ready_model
from zoo.training.options import Options
from zoo.training.preparation import pipeline_for

#: Bags or sequences on which it is looked whether the teacher takes them as the model does.
_LOOKED_AT = 8


def distillation_loss(logits: Tensor, teacher: Tensor, *, kind: str, tau: float) -> Tensor:
    """How far logits (B, K) are from the teacher's.

    Args:
        logits: of the model in training.
        teacher: of the teacher.
        kind: "hard" or "soft".
        tau: temperature of "soft".
    """
    logits, teacher = logits.float(), teacher.float()
    if kind == "hard":
        return F.cross_entropy(logits, teacher.argmax(1))
    mine, theirs = F.log_softmax(logits / tau, 1), F.log_softmax(teacher / tau, 1)
    return F.kl_div(mine, theirs, reduction="sum", log_target=True) * tau**2 / logits.numel()


class Teacher:
    """A trained model beside the one in training.

    Args:
        model: the trained model, in evaluation mode.
        train: what is learned from.
        prepare: turns images as the model in training takes them into those that the teacher takes.
        order: the place of each class in the teacher's answers; None if it is the same.
        kind, alpha, tau: "hard" or "soft", the share in the loss, the temperature.
    """

    def __init__(
        self,
        model: nn.Module,
        train: ImageSet,
        prepare: Callable[[Any], Any],
        order: list[int] | None,
        *,
        kind: str,
        alpha: float,
        tau: float,
    ):
        self.model, self.train, self.prepare, self.order = model, train, prepare, order
        self.kind, self.alpha, self.tau = kind, alpha, tau

    @torch.no_grad()
    def __call__(self, images: Any, batch: Batch) -> Tensor:
        """The teacher's logits (B, K).

        Args:
            images: as the model in training gets them, perhaps mixed.
            batch: where they come from, for errors.

        Raises:
            TrainingError: answers of another shape, or that are not finite.
        """
        output = as_logits(self.model, answer(self.model, self.prepare(images)))
        try:
            logits = check_logits(output, len(batch), len(self.train.classes), self.train.noun).float()
        except TrainingError as error:
            raise TrainingError(f"teacher: {error}") from error
        finite = torch.isfinite(logits).all(1)
        if not bool(finite.all()):
            where = self.train.where(batch.indices[int((~finite).nonzero()[0])])
            raise TrainingError(f"the teacher's answer to {where} is not finite; with amp='no' (--amp no) it may be")
        return logits if self.order is None else logits[:, self.order]

    def loss(self, base: Tensor, logits: Tensor, taught: Tensor) -> Tensor:
        """The whole loss, of the loss without a teacher and both logits."""
        distilled = distillation_loss(logits, taught, kind=self.kind, tau=self.tau)
        return (1 - self.alpha) * base + self.alpha * distilled

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the teacher's weights, by which a resumed run knows it."""
        return fingerprint(self.model.state_dict())


@contextmanager
def taught_by(
    given: Any, model: nn.Module, train: ImageSet, options: Options, *, transform: Any, scale: float | None
) -> Iterator[Teacher | None]:
    """The teacher of one run; a module of the caller's is afterwards in the mode that it was in.

    Args:
        given: None for no teacher; a module; or what `zoo.create_model` takes, or a run folder.
        model: to be trained.
        train: what it learns from.
        options: of the run.
        transform, scale: how images are prepared.

    Raises:
        DataError: a teacher of other classes, or that takes what the model does not.
        ValueError: the model as its own teacher, or images with several labels.
    """
    if given is None:
        yield None
        return
    if train.multi_label:
        raise ValueError(f"a teacher names one class a {train.noun}, these {train.noun}s have several labels each")
    teacher = ready_model(given)
    if teacher is model:
        raise ValueError("the teacher is the very model that is trained: give a copy of it, or another one")
    kind, alpha, tau = options.distillation, options.distillation_alpha, options.distillation_tau
    assert kind is not None
    assert alpha is not None
    assert tau is not None
    order = _order(teacher, train)
    prepare = _preparation(model, teacher, train, transform, scale)
    training = [m for m in teacher.modules() if m.training]
    try:
        yield Teacher(teacher.eval(), train, prepare, order, kind=kind, alpha=alpha, tau=tau)
    finally:
        for module in training:
            module.training = True


def _order(teacher: nn.Module, train: ImageSet) -> list[int] | None:
    """Where the classes of the data are among those of the teacher; None if in the same places."""
    classes = train.classes
    known: list[str] = list((getattr(teacher, "pretrained_cfg", None) or {}).get("label_names") or ())
    count = getattr(teacher, "num_classes", None)
    if known and known != classes and set(known) == set(classes):
        return [known.index(name) for name in classes]
    unnamed = not known or classes == [str(k) for k in range(len(classes))]
    if known == classes or (unnamed and count in (None, len(classes))):
        return None
    has = some(known) if count == len(classes) else f"{count} classes"
    raise DataError(
        f"the teacher {model_name(teacher)} has {has}, the data have {some(classes)}; train it on these first "
        "(zoo.finetune, zoo train), and give the folder of that run"
    )


def _preparation(
    model: nn.Module, teacher: nn.Module, train: ImageSet, transform: Any, scale: float | None
) -> Callable[[Any], Any]:
    """What turns inputs of the model into inputs of the teacher."""
    own: dict[str, Any] = {"transform": transform, "scale": scale}
    try:
        theirs = pipeline_for(teacher, train, **own)
    except DataError as error:
        raise DataError(f"teacher: {error}") from error
    if isinstance(train, BagSet | SequenceSet):
        mine = pipeline_for(model, train, **own)
        for index in range(min(_LOOKED_AT, len(train))):
            item, where = train.image(index), train.where(index)
            if not _alike(mine(item, where), theirs(item, where)):
                raise DataError(
                    f"the teacher {model_name(teacher)} takes {train.noun}s prepared otherwise than "
                    f"{model_name(model)} (other features, standardisation, words or lengths), and gets the same ones"
                )
        return _as_they_are
    return _as_they_are if transform != "auto" else _Converted(data_config(model), data_config(teacher))


def _as_they_are(images: Any) -> Any:
    return images


def _alike(one: Any, two: Any) -> bool:
    first, second = (item.instances if isinstance(item, Bag) else item.words for item in (one, two))
    return first.shape == second.shape and torch.equal(first, second)


class _Converted:
    """Images normalised for one model, for another: with its channels, its size and its statistics.

    Args:
        mine: data configuration of the model that they are for.
        theirs: of the other.

    Raises:
        DataError: channels that cannot be converted.
    """

    def __init__(self, mine: dict[str, Any], theirs: dict[str, Any]):
        self.mine, self.theirs = mine, theirs
        have, want = mine["input_size"][0], theirs["input_size"][0]
        if have != want and have != 1 and (have, want) != (3, 1):
            raise DataError(f"the teacher takes images of {want} channels, the model of {have}")
        self.channels = want
        self.size: tuple[int, int] = tuple(theirs["input_size"][1:])
        self.same = have == want and all(mine[key] == theirs[key] for key in ("mean", "std"))
        known = theirs["interpolation"] in ("bilinear", "bicubic")
        self.mode: str = theirs["interpolation"] if known else "bicubic"

    def __call__(self, images: Tensor) -> Tensor:
        resize = tuple(images.shape[2:]) != self.size
        if self.same and not resize:
            return images
        pixels = images * _per_channel(self.mine["std"], images) + _per_channel(self.mine["mean"], images)
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, self.channels, -1, -1)
        elif self.channels == 1:
            pixels = (pixels * _per_channel(LUMA, images)).sum(1, keepdim=True)
        if resize:
            pixels = F.interpolate(pixels, self.size, mode=self.mode, antialias=True)
        return (pixels - _per_channel(self.theirs["mean"], images)) / _per_channel(self.theirs["std"], images)


def _per_channel(values: Any, like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None, None]
