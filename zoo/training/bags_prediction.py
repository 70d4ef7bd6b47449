"""What a model answers to bags, and which instances the answer took."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard, overload

import numpy as np
import torch
from torch import Tensor, nn

from zoo.errors import DataError
from zoo.models.class_scores import as_logits
from zoo.training.data.bags import BagSet, ragged, unlabelled_bag_folder
from zoo.training.data.bags_batch import answer, association, join
from zoo.training.data.bags_files import PARTS, check_parts, is_bag_file, load_rows
from zoo.training.data.decode import EXTENSIONS
from zoo.training.data.image_set import Splits
from zoo.training.data.repertoires import REPERTOIRES, open_repertoires, unlabelled_repertoires
from zoo.training.data.source import BAGS, Opened, bag_folder, one_split, open_split
from zoo.training.data.table import SUFFIXES, open_frame, open_table
from zoo.training.data.unreadable import drop_unreadable
from zoo.training.model_source import instance_shape
from zoo.training.preparation import SEQUENCES, feature_names, pipeline_for


class Instances(Sequence[dict[str, Any]]):
    """The instances of a bag, each a dictionary of `instance`, `weight` and `heads`, which is made when it is read.

    Attributes:
        names: files, sequences, or numbers within the bag.
        heads: (instances, heads) the weight of each in each head.
        weights: (instances,) the means over the heads.
    """

    def __init__(self, names: Sequence[str], heads: np.ndarray):
        self.names, self.heads, self.weights = names, heads, heads.mean(1)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        return {
            "instance": self.names[index],
            "weight": float(self.weights[index]),
            "heads": self.heads[index].tolist(),
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment] - as of lists

    def __repr__(self) -> str:
        return f"<{len(self)} instances>"

    def strongest(self, most: int) -> list[dict[str, Any]]:
        """The instances of the largest weights, these first."""
        return [self[int(k)] for k in np.argsort(-self.weights, kind="stable")[:most]]


def bag_answers(
    net: nn.Module,
    bags: Any,
    batch_size: int,
    device: torch.device | str,
    scale: float | None,
    *,
    on_bad: str = "raise",
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[str, Tensor, Instances]]:
    """For each bag its name, the model's scores, and of every instance its name, and its weight in the answer.

    Args:
        net: in evaluation mode, on the device.
        bags: a source of bags as `zoo.finetune` takes it, with or without labels; a file or dictionary of rows and
            offsets; an array (n, …), a bag; or a list of such. Of sequences: such a source, or files of them.
        batch_size: bags at a time.
        device: where to run.
        scale: value of white in float images.
        on_bad: "raise" or "skip" for image files that cannot be read.
        note: told what was decided on the way.

    Raises:
        DataError: bags that cannot be read, or that are not the model's; an answer that is not finite.
    """
    data, notes = _open(net, bags)
    if on_bad == "skip":
        splits = Splits(name=data.name, train=data)
        drop_unreadable(splits)
        data, notes = splits.present()["train"], [*notes, *splits.notes]
    for text in notes:
        note(text)
    pipeline = pipeline_for(net, data, scale=scale)
    for start in range(0, len(data), batch_size):
        numbers = range(start, min(start + batch_size, len(data)))
        batch = join([pipeline(data.image(i), data.where(i)) for i in numbers]).to(device)  # pyright: ignore
        scores = as_logits(net, answer(net, batch))
        bad = (~torch.isfinite(scores).all(1)).nonzero()
        if len(bad):
            raise DataError(
                f"the model's answer to {data.where(numbers[int(bad[0])])} is not finite: its instances have numbers "
                "too large for the model, or the model has diverged"
            )
        # States and heads are equals: an instance's weight is the mean over them.
        by_head = association(net, batch).float().mean(2)
        for i, row, heads in zip(numbers, scores, by_head.cpu(), strict=True):
            names = data.instance_names(i)  # pyright: ignore - of bags
            kept = np.ascontiguousarray(heads[:, : len(names)].T.numpy())
            yield str(data.ids[i]), row, Instances(names, kept)  # pyright: ignore - of bags


def _open(net: nn.Module, bags: Any) -> tuple[BagSet, list[str]]:
    """The bags, and notes; labels that are there are of no account."""
    if isinstance(bags, list | tuple) and len(bags) == 1 and _is_path(bags[0]):
        bags = bags[0]
    if isinstance(bags, BagSet):
        return bags, []
    if isinstance(bags, dict) and {"rows", "offsets"} & set(bags):
        check_parts(bags, PARTS[:2])
        return _unlabelled(*ragged(bags["rows"], bags["offsets"], "bags")), []
    if type(bags).__name__ == "DataFrame":
        return _bags_of(one_split(open_frame(bags, labelled=False, features=feature_names(net)), "test"))
    if _is_path(bags):
        return _open_path(net, os.fspath(bags))
    if isinstance(bags, np.ndarray | Tensor):
        bags = [bags]
    if isinstance(bags, dict | Splits):
        return _bags_of(open_split(bags))
    if not isinstance(bags, list | tuple):
        raise DataError(f"cannot read bags from a {type(bags).__name__}; {_FORMS}")
    if not bags:
        raise DataError(f"no bags were given; {_FORMS}")
    if all(map(_is_path, bags)):
        paths = [Path(path).expanduser() for path in bags]
        if instance_shape(net) == SEQUENCES:
            return unlabelled_repertoires(paths)
        raise DataError(f"{len(paths)} paths were given, of {paths[0]} and others; give one source{_one_bag(paths[0])}")
    wrong = next((k for k, bag in enumerate(bags) if np.ndim(bag) < 2), None)
    if wrong is not None:
        raise DataError(
            f"bag {wrong} is {np.ndim(bags[wrong])}-dimensional; a bag is an array (instances, …), and several are a "
            f"list of them; {_FORMS}"
        )
    rows = np.concatenate([np.asarray(bag) for bag in bags])
    return _unlabelled(*ragged(rows, np.cumsum([0, *map(len, bags)]), "bags")), []


_FORMS = (
    "give arrays (instances, …), a dictionary or file of rows and offsets, a table with a column 'bag', or bags:FOLDER"
)


def _open_path(net: nn.Module, text: str) -> tuple[BagSet, list[str]]:
    path, there = Path(text).expanduser(), Path(text.partition("?")[0]).expanduser()
    if text.startswith(BAGS) and not path.exists():
        return unlabelled_bag_folder(bag_folder(text.removeprefix(BAGS)))
    if text.startswith(REPERTOIRES) and not path.exists():
        return _bags_of(one_split(open_repertoires(text.removeprefix(REPERTOIRES), labelled=False), "test"))
    if is_bag_file(path):
        rows, offsets, notes = load_rows(path)
        return _unlabelled(*ragged(rows, offsets, str(path))), notes
    if instance_shape(net) == SEQUENCES:
        return unlabelled_repertoires([path])
    if there.suffix.lower() in SUFFIXES and there.is_file():
        return _bags_of(one_split(open_table(text, labelled=False, features=feature_names(net)), "test"))
    if path.is_dir() or path.suffix.lower() in EXTENSIONS:
        raise DataError(f"{text} holds images, the model takes bags of instances{_one_bag(path)}")
    return _bags_of(open_split(text))


def _one_bag(path: Path) -> str:
    """How to give a folder as a bag."""
    return f"; a bag of images is a folder of them, and {BAGS}FOLDER is all bags of a folder: {BAGS}" + str(
        path if path.is_dir() else path.parent
    )


def _bags_of(opened: Opened) -> tuple[BagSet, list[str]]:
    """The bags of a split, and notes; that all of a source without splits is taken needs none here."""
    if not isinstance(opened.images, BagSet):
        raise DataError(f"{opened.name} holds images, the model takes bags of instances; {_FORMS}")
    if opened.split == "all":
        return opened.images, opened.notes[:-1]
    answered = f"{opened.name} has splits: the {len(opened.images)} bags of {opened.split} are answered"
    return opened.images, [*opened.notes, answered]


def _is_path(given: Any) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(given, str | os.PathLike)


def _unlabelled(rows: np.ndarray, places: list[np.ndarray]) -> BagSet:
    return BagSet(rows, places, np.zeros(len(places), dtype=np.int64), ["?"], name="bags")
