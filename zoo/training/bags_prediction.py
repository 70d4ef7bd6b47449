"""What a model answers to bags, and which instances the answer took."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from zoo.errors import DataError
from zoo.training.data.bags import BagSet, ragged
from zoo.training.data.bags_batch import answer, association, join
from zoo.training.data.bags_files import is_bag_file, load_rows
from zoo.training.data.repertoires import REPERTOIRES, unlabelled_repertoires
from zoo.training.data.source import open_split
from zoo.training.model_source import instance_shape
from zoo.training.preparation import SEQUENCES, pipeline_for


def bag_answers(
    net: nn.Module, bags: Any, batch_size: int, device: torch.device | str, scale: float | None
) -> Iterator[tuple[str, Tensor, list[dict[str, Any]]]]:
    """For each bag its name, the model's scores, and of every instance its name, and its weight in the answer.

    Args:
        net: in evaluation mode, on the device.
        bags: a source of bags as `zoo.finetune` takes it; a file or dictionary of rows and offsets, without labels; an
            array (n, …), a bag; or a list of such. Of sequences: such a source, or files of them.
        batch_size: bags at a time.
        device: where to run.
        scale: value of white in float images.

    Raises:
        DataError: bags that cannot be read, or that are not the model's.
    """
    data = _open_sequences(bags) if instance_shape(net) == SEQUENCES else _open(bags)
    pipeline = pipeline_for(net, data, scale=scale)
    for start in range(0, len(data), batch_size):
        numbers = range(start, min(start + batch_size, len(data)))
        batch = join([pipeline(data.image(i), data.where(i)) for i in numbers]).to(device)  # pyright: ignore
        scores = answer(net, batch)
        # States and heads are equals: an instance's weight is the mean over them.
        by_head = association(net, batch).float().mean(2)
        for i, row, heads in zip(numbers, scores, by_head.cpu(), strict=True):
            names = data.instance_names(i)
            weights, parts = heads.mean(0).tolist(), heads.T.tolist()
            instances = [{"instance": name, "weight": weights[k], "heads": parts[k]} for k, name in enumerate(names)]
            yield str(data.ids[i]), row, instances


def _open_sequences(bags: Any) -> BagSet:
    """Repertoires; files are of one each."""
    paths = [os.fspath(path) for path in (bags if isinstance(bags, list | tuple) else [bags]) if _is_path(path)]
    if not paths or any(path.startswith(REPERTOIRES) for path in paths):
        return _open(bags)
    return unlabelled_repertoires([Path(path).expanduser() for path in paths])


def _is_path(given: Any) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(given, str | os.PathLike)


def _open(bags: Any) -> BagSet:
    """The bags; labels that are there are of no account."""
    if isinstance(bags, BagSet):
        return bags
    if isinstance(bags, dict) and {"rows", "offsets"} <= set(bags):
        return _unlabelled(*ragged(bags["rows"], bags["offsets"], "bags"))
    if _is_path(bags):
        path = Path(bags).expanduser()
        if is_bag_file(path) and (found := load_rows(path)) is not None:
            return _unlabelled(*ragged(*found, str(path)))
        data = open_split(os.fspath(bags)).images
        if not isinstance(data, BagSet):
            raise DataError(f"{bags} holds images, the model takes bags of instances")
        return data
    if isinstance(bags, np.ndarray | Tensor):
        bags = [bags]
    if isinstance(bags, list | tuple) and len(bags) == 1 and _is_path(bags[0]):
        return _open(bags[0])
    if not isinstance(bags, list | tuple) or not all(np.ndim(bag) > 1 for bag in bags) or not bags:
        raise DataError(
            f"cannot read bags from a {type(bags).__name__}; give arrays (instances, …), a file of rows and offsets, a "
            "table with a column 'bag', or bags:FOLDER"
        )
    rows = np.concatenate([np.asarray(bag) for bag in bags])
    return _unlabelled(*ragged(rows, np.cumsum([0, *map(len, bags)]), "bags"))


def _unlabelled(rows: np.ndarray, places: list[np.ndarray]) -> BagSet:
    return BagSet(rows, places, np.zeros(len(places), dtype=np.int64), ["?"], name="bags")
