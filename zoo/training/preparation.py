"""How the images or bags of a set are prepared for a model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import DataError
from zoo.models.data_config import data_config, words_of
from zoo.training.data.bags import BagSet
from zoo.training.data.bags_batch import Bag
from zoo.training.data.image_set import ImageSet
from zoo.training.data.labels import some
from zoo.training.data.loader import Pipeline
from zoo.training.data.sequences import SequenceSet
from zoo.training.data.token_batch import TokenRow
from zoo.training.data.transform import eval_transform, train_transform
from zoo.training.model_source import instance_shape, model_name, refuse_tables

#: The `instance_shape` of a model that takes sequences of any length.
SEQUENCES = (None,)
#: How to give bags.
_HOW = "give rows and offsets, a table with a column 'bag', or of images bags:FOLDER"
#: Normalised pixels lie far within it.
_MOST = 100


@dataclass(frozen=True)
class BagPipeline:
    """How a stored bag becomes the model's input.

    Attributes:
        shape: of an instance, as the model takes it; (None,) for sequences of any length.
        images: how an image becomes an instance; None where instances are no images.
        scaling: mean and standard deviation by which features are standardised; None where they are taken as they are.
        columns: which of the stored features the model takes, in its order; None for all as they are.
    """

    shape: tuple[int | None, ...]
    images: Pipeline | None = None
    columns: list[int] | None = None
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
        if self.columns is not None:
            bag = bag[:, self.columns]
        if tuple(bag.shape[1:]) != self.shape:
            raise DataError(f"{where} has instances of {tuple(bag.shape[1:])}, the model takes {self._wanted}")
        if self.scaling is None:
            return Bag(bag)
        mean, std = self.scaling
        return Bag((bag - mean) / std)

    @property
    def _wanted(self) -> str:
        return "sequences of amino acids" if self.shape == SEQUENCES else str(self.shape)


@dataclass(frozen=True)
class WordPipeline:
    """How a sequence of letters becomes the model's input.

    Attributes:
        tokenizer: the model's.
        most: words that are taken, from the start.
    """

    tokenizer: Any
    most: int

    def __call__(self, text: Any, where: str) -> TokenRow:
        try:
            words = self.tokenizer.encode(text)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
        if len(words) < 2:
            raise DataError(f"{where} has {len(words)} word(s) ({text[:20]!r}); the model takes two or more")
        return TokenRow(torch.tensor(words[: self.most]))


def pipeline_for(
    net: nn.Module,
    images: ImageSet,
    *,
    transform: Any = "auto",
    scale: float | None = None,
    aug: str | None = None,
    hflip: float = 0.0,
) -> Pipeline | BagPipeline | WordPipeline:
    """What prepares the images, bags or sequences of a set for a model.

    Args:
        net: the model.
        images: the set.
        transform: "auto", or what is applied instead.
        scale: value of white in float images.
        aug: augmentation in training; None for evaluation.
        hflip: probability of mirroring.

    Raises:
        DataError: images, bags or sequences for a model of another kind; a model of tables.
    """
    refuse_tables(net)
    tokenizer = words_of(net)
    if isinstance(images, SequenceSet) != (tokenizer is not None):
        if tokenizer is None:
            raise DataError(f"{images.name} has sequences, {model_name(net)} takes none; qtn_uptn_aa and its like do")
        raise DataError(
            f"{model_name(net)} takes sequences of letters, {images.name} has {images.noun}s; give FASTA, a table with "
            "a column 'sequence' (or 'TABLE?sequence=COLUMN&label=COLUMN'), or 'peptides'"
        )
    if tokenizer is not None:
        return WordPipeline(tokenizer, net.max_len)  # pyright: ignore - of words
    shape = instance_shape(net)
    if isinstance(images, BagSet) != (shape is not None):
        takes, are = ("images", "bags") if shape is None else ("bags of instances", "images")
        other = "hopfield_mil and its like take bags" if shape is None else _HOW
        raise DataError(f"{model_name(net)} takes {takes}, {images.name} has {are}; {other}")
    config = data_config(net)
    if shape is not None and len(shape) != 3:
        known = config["mean"] is not None
        return BagPipeline(
            shape,
            columns=_columns(net, images),
            scaling=(torch.tensor(config["mean"]), torch.tensor(config["std"])) if known else None,
        )
    made: Callable[[Any], Any] | None = transform
    if transform == "auto":
        made = eval_transform(config) if aug is None else train_transform(config, aug, hflip=hflip)
    pipeline = Pipeline(config["input_size"][0], made, scale)
    return pipeline if shape is None else BagPipeline(shape, pipeline)


def cut_notes(net: nn.Module, parts: Iterable[ImageSet], *, how: str = "") -> list[str]:
    """That sequences have more words than the model takes, if some have.

    Args:
        net: the model.
        parts: what it is given.
        how: what is added, of what can be done.
    """
    tokenizer = words_of(net)
    if tokenizer is None:
        return []
    texts = [text for part in parts if isinstance(part, SequenceSet) for text in part.texts]
    most: int = net.max_len  # pyright: ignore - of words
    longer = sum(_words(tokenizer, text) > most for text in texts)
    if not longer:
        return []
    return [
        f"{longer:,} of {len(texts):,} sequences are longer than the {most} words that the model takes, and are "
        f"cut behind them{how}"
    ]


def _words(tokenizer: Any, text: str) -> int:
    """How many words a sequence has; 0 for one that cannot be read: whoever prepares it says why."""
    try:
        return len(tokenizer.encode(text))
    except ValueError:
        return 0


def feature_names(net: nn.Module) -> tuple[str, ...] | None:
    """What the features are called that a model of bags of vectors was trained on; None where that is not known."""
    names = (getattr(net, "pretrained_cfg", None) or {}).get("feature_names")
    return tuple(names) if names else None


def _columns(net: nn.Module, images: ImageSet) -> list[int] | None:
    """Where the set has the model's features; None where one of them has no names, or all lie in the model's order."""
    wanted, there = feature_names(net), getattr(images, "feature_names", None)
    if wanted is None or there is None or list(wanted) == list(there):
        return None
    missing = [name for name in wanted if name not in there]
    if missing:
        raise DataError(
            f"{images.name} lacks {len(missing)} of the {len(wanted)} features that {model_name(net)} was trained on: "
            f"{some(missing)}; there: {some(there)}"
        )
    return [list(there).index(name) for name in wanted]


def in_order_of(net: nn.Module, bags: BagSet) -> BagSet:
    """The bags with their features in the model's order, from where they are learned from; as they are without names.

    Raises:
        DataError: features of the model's are missing.
    """
    columns = _columns(net, bags)
    if columns is None:
        return bags
    made = copy.copy(bags)
    rows: Any = bags.instances
    made.instances, made.feature_names = rows[:, columns], list(feature_names(net) or ())
    return made
