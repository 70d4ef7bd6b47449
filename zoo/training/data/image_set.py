"""The one form in which the loop sees data: labelled images that can be fetched by index."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.training.data.decode import read_image


class ImageSet:
    """Labelled images of one split.

    Args:
        labels: (N,) class numbers, or (N, K) zeros and ones when an image may carry several labels.
        classes: K class names; class number k is `classes[k]`.
        name: what the split is called in messages.
        flip: whether a mirrored image keeps its label.
        ordinal: whether the classes are grades, in order, so that the distance between two of them counts.
    """

    #: What one of them is called in messages.
    noun = "image"
    #: Whether `image` decodes something that may be damaged.
    decodes = False
    #: Whether the classes are the labels that occur here, so that a split of the same data may have more.
    partial = False
    #: Whether the classes are counted from the labels: the numbers from 0 to the highest one.
    counted = False
    #: What each belongs to that no split may part, such as a patient; None where there is no such thing.
    groups: Sequence[Hashable] | None = None
    #: What such a thing is called in messages.
    group_noun = "group"

    def __init__(
        self, labels: np.ndarray, classes: Sequence[str], *, name: str, flip: bool = True, ordinal: bool = False
    ):
        self.labels = np.asarray(labels)
        self.classes = list(classes)
        self.name = name
        self.flip = flip
        self.ordinal = ordinal
        self._check_labels()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def a_noun(self) -> str:
        """`noun` with its article."""
        return f"{'an' if self.noun[0] in 'aeiou' else 'a'} {self.noun}"

    @property
    def multi_label(self) -> bool:
        """True when an image may carry several labels."""
        return self.labels.ndim == 2

    def image(self, index: int) -> Any:
        """The image at `index`: a PIL image, an array (H, W[, C]) or a tensor (C, H, W)."""
        raise NotImplementedError

    def where(self, index: int) -> str:
        """How to find image `index`, for messages."""
        return f"image {index} of {self.name}"

    def content(self, index: int) -> bytes | None:
        """The image's stored bytes, to find the same image in two splits; None where that would cost a decode."""
        return None

    def size(self, index: int) -> int | None:
        """Length of `content(index)`, where it is known without reading it."""
        return None

    def told(self) -> bytes:
        """What is said of the images: another where it has changed."""
        return np.ascontiguousarray(self.labels).tobytes()

    def subset(self, indices: Sequence[int] | np.ndarray, name: str) -> ImageSet:
        """The images at `indices`, in that order, as a set of its own."""
        return Subset(self, np.asarray(indices, dtype=np.int64), name)

    def with_classes(self, classes: Sequence[str], *, several: bool = False) -> ImageSet:
        """The same images, with labels numbered by `classes`, which are those here and perhaps others.

        Args:
            classes: in any order.
            several: whether labels become columns of zeros and ones.
        """
        made = copy.copy(self)
        made.classes = list(classes)
        place: Any = np.array([made.classes.index(name) for name in self.classes])
        if self.multi_label:
            made.labels = np.zeros((len(self), len(classes)), dtype=np.float32)
            made.labels[:, place] = self.labels
        else:
            made.labels = place[self.labels]
            if several:  # no image happened to have two
                made.labels = np.eye(len(classes), dtype=np.float32)[made.labels]
        return made

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The image, or bag, at `index`, and its label."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} {self.noun}s")
        index %= len(self)
        return self.image(index), self.labels[index]

    def _check_labels(self) -> None:
        if len(self.labels) == 0:
            raise DataError(f"{self.name} holds no {self.noun}s")
        k = len(self.classes)
        if self.multi_label:
            if self.labels.shape[1] != k:
                raise DataError(f"{self.name} has {self.labels.shape[1]} labels {self.a_noun} but {k} class names")
            bad = ~np.isin(self.labels, (0, 1)).all(axis=1)
            if bad.any():
                raise DataError(
                    f"{self.name}: labels must be 0 or 1; {self.where(int(bad.argmax()))} has another value"
                )
            self.labels = self.labels.astype(np.float32)
            return
        if self.labels.ndim != 1 or not np.issubdtype(self.labels.dtype, np.integer):
            raise DataError(
                f"{self.name}: labels must be one whole number {self.a_noun}, got {self.labels.dtype} "
                f"{self.labels.shape}"
            )
        self.labels = self.labels.astype(np.int64)
        bad = (self.labels < 0) | (self.labels >= k)
        if bad.any():
            index = int(bad.argmax())
            raise DataError(
                f"{self.where(index)} has label {self.labels[index]}; "
                f"with {k} classes labels go from 0 to {k - 1} ({bad.sum()} such {self.noun}s)"
            )


class Subset(ImageSet):
    """Some images of another set."""

    def __init__(self, parent: ImageSet, indices: np.ndarray, name: str):
        self.parent, self.indices = parent, indices
        self.decodes = parent.decodes
        super().__init__(parent.labels[indices], parent.classes, name=name, flip=parent.flip, ordinal=parent.ordinal)

    def image(self, index: int) -> Any:
        return self.parent.image(int(self.indices[index]))

    def where(self, index: int) -> str:
        return self.parent.where(int(self.indices[index]))

    def content(self, index: int) -> bytes | None:
        return self.parent.content(int(self.indices[index]))

    def size(self, index: int) -> int | None:
        return self.parent.size(int(self.indices[index]))


class FileImages(ImageSet):
    """Image files with a label each."""

    decodes = True

    def __init__(
        self, files: Sequence[Path], labels: np.ndarray, classes: Sequence[str], *, name: str, ordinal: bool = False
    ):
        self.files = list(files)
        super().__init__(labels, classes, name=name, ordinal=ordinal)

    def image(self, index: int) -> Any:
        return read_image(self.files[index])

    def where(self, index: int) -> str:
        return str(self.files[index])

    def content(self, index: int) -> bytes | None:
        return self.files[index].read_bytes()

    def size(self, index: int) -> int | None:
        return self.files[index].stat().st_size


def channels_last(images: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) of one or three channels as (N, H, W, C); others as they are."""
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        return images.transpose(0, 2, 3, 1)
    return images


class ArrayImages(ImageSet):
    """Images held in one array.

    Args:
        images: (N, H, W) or (N, H, W, C).
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        classes: Sequence[str],
        *,
        name: str,
        flip: bool = True,
        ordinal: bool = False,
    ):
        if len(images) != len(labels):
            raise DataError(f"{name} has {len(images)} images but {len(labels)} labels")
        self.images = images
        super().__init__(labels, classes, name=name, flip=flip, ordinal=ordinal)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def content(self, index: int) -> bytes | None:
        return self.images[index].tobytes()

    def size(self, index: int) -> int | None:
        return self.images[index].nbytes


@dataclass
class Splits:
    """The splits of one data set.

    Attributes:
        name: short name, used for the run folder.
        train: what is learned from; None when the source has no such split.
        val: what epochs are compared on; may be missing.
        test: what the final model is measured on once; may be missing.
        notes: what was decided on the way (a split that was made, duplicates that were found).
        facts: what is known of the source, for the run and the model card: `licence`, `url`, `hub_id`, `revision`.
        whole: the source has no splits of its own: all of it is in `train`.
    """

    name: str
    train: ImageSet | None = None
    val: ImageSet | None = None
    test: ImageSet | None = None
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    whole: bool = False

    def present(self) -> dict[str, ImageSet]:
        """The splits that exist, by name."""
        return {k: v for k in ("train", "val", "test") if (v := getattr(self, k)) is not None}

    def fingerprint(self) -> str:
        """Changes when the classes, the sizes or the labels of a split change."""
        digest = hashlib.sha256()
        for key, split in self.present().items():
            digest.update(f"{key}:{len(split)}:{split.classes}".encode())
            digest.update(split.told())
        return digest.hexdigest()[:16]
