"""Bags: labelled sets of instances, which are vectors, arrays or images."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import DataError
from zoo.training.data.folder import folders_without_images, image_files, split_folders
from zoo.training.data.image_set import ArrayImages, FileImages, ImageSet, Splits, channels_last
from zoo.training.data.labels import number_labels, some


class BagSet(ImageSet):
    """Labelled bags of one split; `image(i)` is the whole bag.

    Args:
        instances: rows (R, *shape), or images, of all bags. Rows of unsigned integers (R, H, W), with or without
            channels, are images.
        places: for each bag the numbers of its instances.
        labels, classes, name, ordinal: as of `ImageSet`, one label a bag.
        ids: what the bags are called; their numbers if None.

    Raises:
        DataError: a bag without instances; as `ImageSet`.
    """

    noun = "bag"
    #: Of a larger bag, `image` draws so many instances; None takes all.
    most: int | None = None
    #: What the features of vectors are called; None where that is not known.
    feature_names: Sequence[str] | None = None

    def __init__(
        self,
        instances: np.ndarray | ImageSet,
        places: Sequence[np.ndarray],
        labels: np.ndarray,
        classes: Sequence[str],
        *,
        name: str,
        ids: Sequence[Hashable] | None = None,
        ordinal: bool = False,
    ):
        self.instances, self.places = _images_or_rows(instances), list(places)
        self.decodes = isinstance(self.instances, ImageSet) and self.instances.decodes
        self.ids = list(range(len(self.places))) if ids is None else list(ids)
        self.name = name
        empty = next((k for k, place in enumerate(self.places) if not len(place)), None)
        if empty is not None:
            raise DataError(f"{self.where(empty)} has no instances; leave it out")
        super().__init__(labels, classes, name=name, ordinal=ordinal)

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """Of an instance, (None,) of a sequence; None for images, which are made to fit the model."""
        return None if isinstance(self.instances, ImageSet) else self.instances.shape[1:]

    @property
    def features(self) -> int | None:
        """How many an instance has; None where instances are no vectors."""
        return self.shape[0] if self.shape is not None and len(self.shape) == 1 else None

    @property
    def largest(self) -> list[int]:
        """The numbers of the bags, those with most instances first."""
        return sorted(range(len(self)), key=lambda index: -len(self.places[index]))

    def image(self, index: int) -> Any:
        """The bag: (n, *shape) float32, or its images."""
        return self._read(self._drawn(index))

    def _drawn(self, index: int) -> np.ndarray:
        """The numbers of a bag's instances, or of some of them, by NumPy's generator as the loader seeds it."""
        place = self.places[index]
        if self.most is None or len(place) <= self.most:
            return place
        return place[np.sort(np.random.permutation(len(place))[: self.most])]

    def _read(self, place: np.ndarray) -> Tensor | list[Any]:
        if isinstance(self.instances, ImageSet):
            return [self.instances.image(int(i)) for i in place]
        return torch.from_numpy(np.ascontiguousarray(self.instances[place], dtype=np.float32))

    def instance_names(self, index: int) -> list[str]:
        """What the instances of a bag are called: files, or numbers within the bag."""
        place = self.places[index]
        if isinstance(self.instances, FileImages):
            return [self.instances.where(int(i)) for i in place]
        return [str(k) for k in range(len(place))]

    def where(self, index: int) -> str:
        return f"bag {self.ids[index]} of {self.name}"

    def content(self, index: int) -> bytes | None:
        if isinstance(self.instances, ImageSet):
            return None
        return np.ascontiguousarray(self.instances[self.places[index]]).tobytes()

    def size(self, index: int) -> int | None:
        if isinstance(self.instances, ImageSet):
            return None
        return len(self.places[index]) * self.instances[:1].nbytes

    def subset(self, indices: Sequence[int] | np.ndarray, name: str) -> BagSet:
        chosen = [int(i) for i in indices]
        made = copy.copy(self)
        made.places, made.ids = [self.places[i] for i in chosen], [self.ids[i] for i in chosen]
        made.labels, made.name = self.labels[chosen], name
        made._check_labels()
        return made

    def without(self, instances: np.ndarray) -> BagSet:
        """The bags without the instances of these numbers; a bag that has no others is left out."""
        left = [place[~np.isin(place, instances)] for place in self.places]
        made = self.subset([k for k, place in enumerate(left) if len(place)], self.name)
        made.places = [place for place in left if len(place)]
        return made

    def at_most(self, most: int | None) -> BagSet:
        """The same bags, of which `image(i)` draws so many instances at most."""
        made = copy.copy(self)
        made.most = most
        return made


def _images_or_rows(instances: np.ndarray | ImageSet) -> np.ndarray | ImageSet:
    """Pixels as images, which are prepared as the model wants them; all else as it is."""
    if isinstance(instances, ImageSet) or instances.dtype.kind != "u" or instances.ndim not in (3, 4):
        return instances
    return ArrayImages(channels_last(instances), np.zeros(len(instances), dtype=np.int64), ["?"], name="rows")


def ragged(rows: Any, offsets: Any, name: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows of bags that lie one behind the other, and for each bag the numbers of its own.

    Args:
        rows: (R, *shape) numbers.
        offsets: (bags + 1,) where each bag starts and the last one ends.
        name: for messages.

    Raises:
        DataError: rows that are not finite numbers of single precision with a shape, offsets that do not go from 0 up
            to R.
    """
    rows, ends = np.asarray(rows), np.asarray(offsets)
    if rows.ndim < 2 or rows.dtype.kind not in "biuf":
        raise DataError(f"{name}: rows must be numbers (instances, …), got {rows.dtype} {rows.shape}")
    with np.errstate(over="ignore"):
        good = np.isfinite(rows.astype(np.float32, copy=False)) if rows.dtype.kind == "f" else np.ones(1, dtype=bool)
    if not good.all():
        bad = int((~good.reshape(len(rows), -1).all(1)).argmax())
        why = "is too large for single precision" if np.isfinite(rows[bad]).all() else "is not finite"
        raise DataError(f"{name}: row {bad} {why}")
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or len(ends) < 2:
        raise DataError(f"{name}: offsets must be whole numbers (bags + 1,), got {ends.dtype} {ends.shape}")
    ends = ends.astype(np.int64)
    if ends[0] != 0 or ends[-1] != len(rows) or (np.diff(ends) < 0).any():
        raise DataError(f"{name}: offsets must rise from 0 to the {len(rows)} rows, got {some(ends.tolist())}")
    return rows, [np.arange(start, stop) for start, stop in itertools.pairwise(ends)]


def ragged_bags(rows: Any, offsets: Any, labels: Any, name: str) -> BagSet:
    """Labelled bags that lie one behind the other; see `ragged`, and `number_labels` for the labels."""
    rows, places = ragged(rows, offsets, name)
    if len(labels) != len(places):
        raise DataError(f"{name} has {len(places)} bags but {len(labels)} labels")
    numbered = number_labels(labels, name)
    made = BagSet(rows, places, numbered.labels, numbered.classes, name=name)
    numbered.mark(made)
    return made


def group(instances: np.ndarray | ImageSet, ids: Sequence[Hashable], labelled: ImageSet) -> BagSet:
    """Bags of the instances that have one id, in the order in which the ids first occur.

    Args:
        instances: all.
        ids: of the bag of each.
        labelled: whose labels, one for each instance, classes and name the bags get.

    Raises:
        DataError: two labels in one bag.
    """
    places: dict[Hashable, list[int]] = {}
    for k, one in enumerate(ids):
        places.setdefault(one, []).append(k)
    for one, place in places.items():
        if (labelled.labels[place] != labelled.labels[place[0]]).any():
            raise DataError(f"{labelled.name}: the instances of bag {one} have different labels; a bag has one")
    first = [place[0] for place in places.values()]
    return BagSet(
        instances,
        [np.asarray(place) for place in places.values()],
        labelled.labels[first],
        labelled.classes,
        name=labelled.name,
        ids=list(places),
        ordinal=labelled.ordinal,
    )


def check_apart(splits: Splits) -> None:
    """Refuse bags that lie in several splits.

    Raises:
        DataError: naming one.
    """
    seen: dict[Hashable, str] = {}
    for split, bags in splits.present().items():
        for one in bags.ids if isinstance(bags, BagSet) else ():
            if seen.setdefault(one, split) != split:
                raise DataError(f"bag {one} of {splits.name} has instances in {seen[one]} and in {split}")


def bags_of_folders(splits: Splits) -> Splits:
    """Of an image folder, `class/bag/image.png`, the bags.

    Raises:
        DataError: images in the class folders themselves.
    """
    for split, images in splits.present().items():
        if not isinstance(images, FileImages):
            raise DataError(f"{images.name} has no folders of image files")
        root = Path(images.name)
        loose = [file for file in images.files if file.parent.parent == root]
        if loose:
            raise DataError(
                f"{len(loose)} of {len(images)} images of {root} lie in no folder of a bag: "
                f"{some([str(file.relative_to(root)) for file in loose], 3)}; expected CLASS/BAG/image.png. Folders of "
                "bags without labels, BAG/image.png, can be predicted"
            )
        splits.notes += _note_empty(root, images.files)
        setattr(splits, split, group(images, [str(file.parent) for file in images.files], images))
    return splits


def unlabelled_bag_folder(root: Path) -> tuple[BagSet, list[str]]:
    """The bags of a folder, to be answered to: every folder below it that holds images, or it itself; and notes.

    Of a folder with splits, those of its test split.

    Raises:
        DataError: no images, no test split, images beside folders of images.
    """
    parts = split_folders(root)
    if parts and "test" not in parts:
        raise DataError(f"{root} has no test split; splits there: {', '.join(parts)}; give the folder of one")
    root, notes = parts.get("test", root), [f"{root} has splits: the bags of test are answered"] if parts else []
    files = image_files(root)
    if not files:
        raise DataError(f"no images in {root}")
    bags = {file.parent for file in files}
    mixed = next((above for bag in bags for above in bag.parents if above in bags), None)
    if mixed is not None:
        raise DataError(f"{mixed} holds images and folders of images; give each bag a folder of its own")
    labelled = FileImages(files, np.zeros(len(files), dtype=np.int64), ["?"], name=str(root))
    return group(labelled, [str(file.parent) for file in files], labelled), [*notes, *_note_empty(root, files)]


def _note_empty(root: Path, files: Sequence[Path]) -> list[str]:
    empty = [str(folder.relative_to(root)) for folder in folders_without_images(root, files)]
    return [f"left out {len(empty)} folder(s) of {root} without images: {some(empty, 3)}"] if empty else []
