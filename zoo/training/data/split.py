"""Splitting one set in two, class by class; comparing the classes of splits."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from zoo.errors import DataError
from zoo.training.data.image_set import ImageSet, Splits
from zoo.training.data.labels import some


def stratified_split(labels: np.ndarray, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split indices so that every class is held out in proportion.

    Args:
        labels: (N,) class numbers; (N, K) several-label rows are split without regard to class.
        held_out: how many to hold out; the shares of the classes are rounded by largest remainder.
        seed: the split is a function of the labels and this number.

    Returns:
        Sorted indices kept and held out.
    """
    # RandomState's streams are frozen by NumPy's policy; published metrics depend on them.
    random = np.random.RandomState(seed)
    groups = [np.arange(len(labels))] if labels.ndim == 2 else [np.flatnonzero(labels == k) for k in np.unique(labels)]
    exact = np.array([held_out * len(g) / len(labels) for g in groups])
    # A class with one image stays in training.
    share = np.minimum(np.floor(exact).astype(int), [len(g) - 1 for g in groups])
    for k in np.argsort(share - exact, kind="stable"):
        if share.sum() >= held_out:
            break
        if share[k] < len(groups[k]) - 1:
            share[k] += 1
    chosen = [random.permutation(g)[:n] for g, n in zip(groups, share, strict=True)]
    out = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), out), out


def hold_out(data: ImageSet, fraction: float, seed: int, names: tuple[str, str]) -> tuple[ImageSet, ImageSet]:
    """Hold `fraction` of a set out, class by class; of a set with groups whole groups.

    Raises:
        DataError: a fraction outside (0, 1), or too few images or groups to split.
    """
    if not 0 < fraction < 1:
        raise DataError(
            f"the fraction held out for validation must lie between 0 and 1, got {fraction}; val=False (--val no) goes "
            "without"
        )
    if data.groups is not None:
        kept, out = _whole_groups(data.groups, fraction, seed)
    else:
        kept, out = stratified_split(data.labels, max(1, round(fraction * len(data))), seed)
    if len(out) == 0 or len(kept) == 0:
        has = f"{len(data)} {data.noun}s" + ("" if data.groups is None else f" of one {data.group_noun}")
        raise DataError(
            f"{data.name} has {has}: too few to hold some out; give val= (--val) a source, or pass val=False (--val no)"
        )
    return data.subset(kept, names[0]), data.subset(out, names[1])


def in_what_parts(train: ImageSet, val: ImageSet) -> str:
    """How `hold_out` parted these two, in words."""
    if train.groups is None or val.groups is None:
        return "class by class"
    kept, out = len(set(train.groups)), len(set(val.groups))
    return f"{out} of {kept + out} {train.group_noun}s as a whole"


def _whole_groups(groups: Sequence[Hashable], fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices kept and held out, where no group is parted; none held out if there is one group."""
    names = list(dict.fromkeys(groups))
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    chosen = {names[int(k)] for k in np.random.RandomState(seed).permutation(len(names))[:count]}
    held = np.array([group in chosen for group in groups])
    return np.flatnonzero(~held), np.flatnonzero(held)


def check_classes(splits: Splits) -> None:
    """Compare the classes of the splits.

    Raises:
        DataError: a single class, or class names that differ.
    """
    sets = splits.present()
    if "train" not in sets:
        return
    train = sets.pop("train")
    if len(train.classes) < 2 and not train.multi_label:
        raise DataError(
            f"{train.name} has a single class ({train.classes[0]!r}): there is nothing to tell apart; give "
            + ("the folder above the class folders, or " if train.noun == "image" else "")
            + f"{train.noun}s of a second class"
            + (f" ({'; '.join(splits.notes)})" if train.noun == "sequence" and splits.notes else "")
        )
    for name, other in sets.items():
        if other.classes != train.classes:
            advice = ", or pass another val (--val; a number holds out that share of train)" if name == "val" else ""
            extra = [c for c in other.classes if c not in train.classes]
            missing = [c for c in train.classes if c not in other.classes]
            raise DataError(
                f"{name} and train have different classes"
                + (f"; only in {name}: {some(extra)}" if extra else "")
                + (f"; only in train: {some(missing)}" if missing else "")
                + f". Make them equal{advice}"
            )
        if other.multi_label != train.multi_label:
            raise DataError(f"train and {name} differ: one has several labels {train.a_noun}, the other one")
