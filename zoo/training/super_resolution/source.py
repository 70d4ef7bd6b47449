"""From what a user passes as `data` to the photographs of a run."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.training.data.folder import SYNONYMS, image_files, split_folders, what_is_there
from zoo.training.data.image_set import ImageSet, Splits
from zoo.training.data.labels import some
from zoo.training.data.source import DEFAULT_VAL
from zoo.training.data.unreadable import drop_unreadable
from zoo.training.super_resolution.photos import Photos

_FORMS = (
    "expected photographs in a folder, or in its folder HR/ with the small ones of the same names in LR/, and perhaps "
    "train/, val/ and test/ above these"
)


def open_photos(data: Any, *, scale: int, val: Any = None, seed: int = 0, on_bad: str = "raise") -> Splits:
    """Open photographs for training.

    Args:
        data: a folder of photographs, at any depth; a folder with HR/ and LR/; one with train/ and perhaps val/ and
            test/, each one of these two; a list of files, or a pattern of them; or a dictionary of these with the keys
            train, val and test.
        scale: how much larger the photographs are than the small images.
        val: None takes the source's own split, else holds out 20 %; a number between 0 and 1 holds out that share; a
            source is opened; False or "no" does without.
        seed: of the split that is made here.
        on_bad: "raise", or "skip" for image files that cannot be read.

    Raises:
        DataError: naming what is wrong and what was found.
    """
    splits = _open(data, scale)
    if splits.train is None:
        raise DataError(f"{splits.name} has no training split; splits there: {', '.join(splits.present()) or 'none'}")
    if on_bad == "skip":  # before some of those that are left are held out
        drop_unreadable(splits)
    if isinstance(val, float | int) and not isinstance(val, bool):
        _hold_out(splits, val, seed)
    elif val is False or (isinstance(val, str) and val in ("no", "none")):
        splits.val = None
    elif val is not None:
        splits.val = _validation(_open(val, scale), on_bad, splits.notes)
    elif splits.val is None and len(splits.train) > 1:
        _hold_out(splits, DEFAULT_VAL, seed)
        splits.notes.append(f"no validation split: {len(splits.val or ())} images are held out, by seed {seed}")
    elif splits.val is None:
        splits.notes.append(
            "one photograph, none to validate on: the last epoch counts as the best, and the metrics are those of this "
            "photograph, from which is learned; val= (--val) takes others"
        )
    return splits


def _validation(source: Splits, on_bad: str, notes: list[str]) -> ImageSet | None:
    """The photographs of a source to validate on."""
    alone = Splits(source.name, val=source.val or source.train or source.test)
    if on_bad == "skip":
        drop_unreadable(alone)
        notes += alone.notes
    return alone.val


def open_photos_of(data: Any, split: str, *, scale: int, on_bad: str = "raise") -> tuple[str, str, Photos]:
    """One split of a source, with the names of the source and of the split: "all" for one without splits.

    Raises:
        DataError: no such split.
    """
    splits = _open(data, scale)
    if on_bad == "skip":
        drop_unreadable(splits)
    name = "train" if splits.whole else split
    found = splits.present().get(name)
    if not isinstance(found, Photos):
        raise DataError(f"{splits.name} has no split {split!r}; splits there: {', '.join(splits.present()) or 'none'}")
    return splits.name, "all" if splits.whole else split, found


def _open(data: Any, scale: int) -> Splits:
    if isinstance(data, Mapping):
        unknown = [key for key in data if key not in SYNONYMS]
        if unknown or not data:
            raise DataError(f"a dictionary of photographs has the keys train, val and test, got {some(list(data))}")
        splits = Splits(name="photographs")
        for key, source in data.items():
            setattr(splits, key, _whole(source, scale, key))
        return splits
    if isinstance(data, str | os.PathLike):
        root = Path(data).expanduser()
        if root.is_dir() and (parts := split_folders(root)):
            splits = Splits(name=root.resolve().name)
            for key, folder in parts.items():
                setattr(splits, key, _whole(folder, scale, key))
            return splits
        named = root if root.exists() else root.parent  # of a pattern
        return Splits(name=named.resolve().stem, train=_whole(root, scale, "all"), whole=True)
    return Splits(name="photographs", train=_whole(data, scale, "all"), whole=True)


def _whole(source: Any, scale: int, split: str) -> Photos:
    """The photographs of a source without splits."""
    if isinstance(source, str | os.PathLike):
        root = Path(source).expanduser()
        if not root.exists() and (matched := _matching(root)):
            return _whole(matched, scale, split)
        if root.is_file():
            return Photos([root], None, name=str(root), scale=scale)
        if not root.is_dir():
            raise DataError(f"there is no folder {str(root)!r}; {_FORMS}")
        named = {folder.name.upper(): folder for folder in root.iterdir() if folder.is_dir()}
        if "HR" in named and "LR" in named:
            return _paired(named["HR"], named["LR"], scale)
        if "HR" in named or "LR" in named:
            there, missing = ("HR", "LR") if "HR" in named else ("LR", "HR")
            raise DataError(f"{root} has a folder {there}/ but no {missing}/; {_FORMS}")
        if large_and_small := _large_and_small(named):
            raise DataError(
                f"{root} holds {' and '.join(large_and_small)}, whose images would all be taken for photographs: give "
                "the photographs alone, or call the two HR/ and LR/"
            )
        found = image_files(root)
        if not found:
            raise DataError(f"{root} holds no images; {_FORMS}. There: {what_is_there(root)}")
        return Photos(found, None, name=str(root), scale=scale)
    if isinstance(source, Photos):
        return source
    if isinstance(source, list | tuple) and source and all(isinstance(one, str | os.PathLike) for one in source):
        files = [Path(one).expanduser() for one in source]
        missing = [str(file) for file in files if not file.is_file()]
        if missing:
            raise DataError(f"no such image: {some(missing)}")
        return Photos(files, None, name=f"{split} ({len(files)} files)", scale=scale)
    raise DataError(f"cannot take photographs from {type(source).__name__}; {_FORMS}, or a list of files")


def _large_and_small(named: Mapping[str, Path]) -> list[str]:
    """The first of each of two kinds of folders, as DIV2K_train_HR and DIV2K_train_LR_bicubic; empty without both."""
    found = [next((f.name for n, f in sorted(named.items()) if kind in n.split("_")), "") for kind in ("HR", "LR")]
    return found if all(found) else []


def _matching(pattern: Path) -> list[str]:
    """The files of a pattern, "scans/*.tif"."""
    return [file for file in sorted(glob.glob(str(pattern), recursive=True)) if os.path.isfile(file)]


def _paired(high: Path, low: Path, scale: int) -> Photos:
    """HR/ and LR/: by the same names, whatever the endings; DIV2K's LR names end in x4."""
    large = {str(file.relative_to(high).with_suffix("")): file for file in image_files(high)}
    small = {str(file.relative_to(low).with_suffix("")): file for file in image_files(low)}
    small = {name if name in large else name.removesuffix(f"x{scale}"): file for name, file in small.items()}
    alone = [str(large[name]) for name in large.keys() - small.keys()]
    alone += [str(small[name]) for name in small.keys() - large.keys()]
    if alone:
        raise DataError(
            f"{len(alone)} image(s) of {high} and {low} have no partner of the same name (with x{scale} at its end, of "
            f"the small ones, if you like): {some(sorted(alone))}"
        )
    if not large:
        raise DataError(f"{high} and {low} hold no images; {_FORMS}")
    names = list(large)
    pairs = Photos([large[n] for n in names], [small[n] for n in names], name=str(high.parent), scale=scale)
    pairs.check_pairs()
    return pairs


def _hold_out(splits: Splits, fraction: float, seed: int) -> None:
    """Move a share of the photographs from train to val."""
    train = splits.train
    if not 0 < fraction < 1:
        raise DataError(
            f"the fraction held out for validation must lie between 0 and 1, got {fraction}; val=False (--val no) goes "
            "without"
        )
    if train is None or len(train) < 2:
        raise DataError(f"{splits.name} has one image: too few to hold some out; pass val=False (--val no)")
    count = min(max(1, round(fraction * len(train))), len(train) - 1)
    # RandomState's streams are frozen by NumPy's policy.
    out = np.sort(np.random.RandomState(seed).permutation(len(train))[:count])
    kept = np.setdiff1d(np.arange(len(train)), out)
    splits.train, splits.val = train.subset(kept, train.name), train.subset(out, train.name)
