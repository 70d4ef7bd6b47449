"""From what a user passes as `data` to the splits that the loop works on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import DataError
from zoo.naming import did_you_mean
from zoo.training.data import hugging_face, shards, timm_source
from zoo.training.data.bags import bags_of_folders, ragged_bags
from zoo.training.data.bags_files import PARTS, check_parts, is_bag_file, open_bag_file
from zoo.training.data.chromosomes import open_chromosomes
from zoo.training.data.copies import note_copies
from zoo.training.data.digits import open_digits
from zoo.training.data.fashion_mnist import FASHION, open_fashion_mnist
from zoo.training.data.folder import SYNONYMS, open_folder
from zoo.training.data.image_set import ArrayImages, ImageSet, Splits, channels_last
from zoo.training.data.labels import number_labels, some
from zoo.training.data.medmnist import open_npz
from zoo.training.data.mnist_bags import FASHION as FASHION_BAGS
from zoo.training.data.mnist_bags import open_digits_bags, open_fashion_mnist_bags
from zoo.training.data.only_classes import only_classes
from zoo.training.data.options_text import split_options
from zoo.training.data.peptides import open_peptides
from zoo.training.data.repertoires import REPERTOIRES, open_repertoires
from zoo.training.data.sequence_files import FASTA, FILTERS, SEQUENCES, holds_sequences, open_sequences
from zoo.training.data.split import check_classes, hold_out, in_what_parts
from zoo.training.data.table import SUFFIXES, open_frame, open_table
from zoo.training.data.torch_dataset import DatasetImages
from zoo.training.data.unreadable import drop_unreadable

BUILT_IN = {
    "digits": open_digits,
    "fashion_mnist": open_fashion_mnist,
    "digits_bags": open_digits_bags,
    "fashion_mnist_bags": open_fashion_mnist_bags,
    "peptides": open_peptides,
    "chromosomes": open_chromosomes,
}
#: Before a folder: `class/bag/image.png`.
BAGS = "bags:"
DEFAULT_VAL = 0.2
# With more classes than this for every label that occurs, numbers are no class numbers.
_MOST_PER_LABEL = 10
_ON_BAD = ("raise", "skip")


def check_on_bad(on_bad: Any) -> None:
    """Refuse a word that is not known.

    Raises:
        ValueError: naming those that are.
    """
    if on_bad not in _ON_BAD:
        raise ValueError(f"on_bad must be one of {_ON_BAD}, got {on_bad!r}")


def open_splits(data: Any, *, val: Any = None, seed: int = 0, on_bad: str = "raise") -> Splits:
    """Open a data set for training.

    Args:
        data: "digits", "fashion_mnist" or "fashion_mnist:FOLDER", or some of their classes, "digits?classes=3,6"; bags
            of small images, "digits_bags", "fashion_mnist_bags" and "fashion_mnist_bags:FOLDER"; "chromosomes", which
            are rendered, or "chromosomes?size=64&cases=60"; a folder
            `class/image.png` or `train/class/image.png` (also val and test, under any of timm's names); a table
            `labels.csv`, `.tsv` or `.parquet`; a MedMNIST `.npz`; "hf:user/dataset"; WebDataset shards `wds:FOLDER`; a
            torchvision data set by timm's name; a pair of arrays or lists (images, labels), where labels are class
            numbers or texts; a DataFrame; a torch or Hugging Face Dataset; bags: a table with a column `bag`, `.npz` or
            `.safetensors` of rows, offsets and labels, a dictionary of these three, a folder `bags:FOLDER` of
            `class/bag/image.png`, `repertoires:TABLE` of files of sequences; sequences: "peptides", FASTA, a table with
            a column `sequence`, or `sequences:FILE` (see `open_sequences`); a dictionary with the keys train, val and
            test of any of these.
        val: what to validate on. None takes the source's own split, else holds out 20 % of train, class by class, or
            of chromosomes whole cases; a number between 0 and 1 holds out that share; a source is opened; False or "no"
            does without.
        seed: of the split that is made here.
        on_bad: "raise" or "skip" for image files that cannot be read.

    Raises:
        DataError: naming what is wrong and what was found.
    """
    check_on_bad(on_bad)
    splits = _usable(data, on_bad)
    if splits.train is None:
        present = ", ".join(splits.present()) or "none"
        raise DataError(f"{splits.name} has no training split; splits there: {present}")
    _note_absent(splits)
    if val is False or (isinstance(val, str) and val in ("no", "none")):
        splits.val = None
    elif isinstance(val, (int, float)) and not isinstance(val, bool):
        splits.train, splits.val = _held_out(splits.train, splits.name, val, seed)
    elif val is not None:
        other = _usable(val, on_bad)
        splits.val = other.val or other.train or other.test
        splits.notes += [note for note in other.notes if note not in splits.notes]
        _share_classes(splits)
    elif splits.val is None:
        splits.train, splits.val = _held_out(splits.train, splits.name, DEFAULT_VAL, seed)
        splits.notes.append(
            f"no validation split: {len(splits.val)} of {len(splits.train) + len(splits.val)} training "
            f"{splits.train.noun}s are held out, {in_what_parts(splits.train, splits.val)}, by seed {seed}"
        )
    check_classes(splits)
    note_copies(splits)
    return splits


class Opened(NamedTuple):
    """One split of a source.

    Attributes:
        name: of the data set.
        split: its name; "all" for a source without splits.
        images: of the split.
        notes: what was decided on the way.
        facts: what is known of the source.
    """

    name: str
    split: str
    images: ImageSet
    notes: list[str]
    facts: dict[str, Any]


def open_split(data: Any, split: str = "test", *, on_bad: str = "raise") -> Opened:
    """Open one split of a source, to evaluate on; a source without splits is taken whole, as "all".

    Raises:
        DataError: the source has splits, but not this one.
    """
    check_on_bad(on_bad)
    return one_split(_usable(data, on_bad), split)


def one_split(splits: Splits, split: str) -> Opened:
    """One of the splits; of a source without splits all.

    Raises:
        DataError: there are splits, but not this one.
    """
    present = splits.present()
    if splits.whole and list(present) == ["train"]:
        if split not in ("train", "val", "test", "all"):
            raise DataError(f"no split {split!r}; {splits.name} has no splits, and all of it is taken as 'all'")
        everything = present["train"]
        note = f"{splits.name} has no splits: all {len(everything)} {everything.noun}s are taken, learned from or not"
        return Opened(splits.name, "all", everything, [*splits.notes, note], splits.facts)
    if split in present:
        return Opened(splits.name, split, present[split], splits.notes, splits.facts)
    raise DataError(
        f"{splits.name} has no {split!r} split; splits there: {', '.join(present)} (a source without splits is taken "
        f"whole, as 'all'){did_you_mean(split, present)}"
    )


def _held_out(train: ImageSet, name: str, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    return hold_out(train, fraction, seed, (f"train of {name}", f"val of {name}"))


def _usable(data: Any, on_bad: str) -> Splits:
    splits = _open(data)
    if on_bad == "skip":
        drop_unreadable(splits)
    return splits


def _open(data: Any) -> Splits:
    if isinstance(data, ImageSet):
        return Splits(name=data.name, train=data, whole=True)
    if isinstance(data, Splits):
        return replace(data, notes=list(data.notes), facts=dict(data.facts))
    if isinstance(data, (str, os.PathLike)):
        return _open_path(os.fspath(data))
    if hugging_face.is_dataset(data):
        return hugging_face.open_dataset(data)
    if isinstance(data, dict):
        return _open_dictionary(data)
    if type(data).__name__ == "DataFrame" and hasattr(data, "columns"):
        return open_frame(data)
    if _is_images_and_labels(data):
        return Splits(name="arrays", train=_from_arrays(*data), whole=True)
    if hasattr(data, "__getitem__"):
        name = type(data).__name__
        return Splits(name=name.lower(), train=DatasetImages(data, name=name), whole=True)
    raise DataError(
        f"cannot read data from a {type(data).__name__}; give a folder, a table, an .npz file, 'digits', a pair of "
        "arrays, a torch or Hugging Face Dataset, or a dictionary {'train': …, 'val': …, 'test': …} of these"
    )


def _is_images_and_labels(data: Any) -> bool:
    """Whether two things are all images and all labels, not two pairs (image, label)."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        return False
    if not all(isinstance(part, tuple | list) or len(getattr(part, "shape", ())) > 0 for part in data):
        return False
    pairs = all(isinstance(part, tuple | list) and len(part) == 2 and np.ndim(part[1]) == 0 for part in data)
    return not pairs or np.ndim(data[0][0]) == np.ndim(data[0][1])


def _from_arrays(images: Any, labels: Any) -> ImageSet:
    if len(images) == 0 or len(labels) == 0:
        raise DataError("the arrays hold no images")
    if len(images) != len(labels):
        bags = "; bags are given as a dictionary of rows, offsets and labels" if np.ndim(images[0]) == 1 else ""
        raise DataError(f"arrays has {len(images)} images but {len(labels)} labels{bags}")
    if isinstance(images, tuple | list):
        if isinstance(images[0], str | os.PathLike):
            raise DataError(
                "the images are paths; give a table: a .csv, or pandas.DataFrame({'image': paths, 'label': labels})"
            )
        forms = {(np.shape(image), str(getattr(image, "dtype", type(image)))) for image in images}
        if len(forms) > 1 or not hasattr(images[0], "shape"):
            return DatasetImages(list(zip(images, labels, strict=True)), name="arrays")
        images = np.stack([np.asarray(image) for image in images])
    images = channels_last(np.asarray(images))
    numbered = number_labels(labels, "arrays")
    made = ArrayImages(images, numbered.labels, numbered.classes, name="arrays")
    numbered.mark(made)
    return made


def _note_absent(splits: Splits) -> None:
    """Note the classes of which train has no image.

    Raises:
        DataError: so many that the labels are no class numbers.
    """
    train = splits.train
    if train is None or train.multi_label:
        return
    seen, count = np.unique(train.labels), len(train.classes)
    if len(seen) == count:
        return
    if train.counted and count > _MOST_PER_LABEL * len(seen):
        raise DataError(
            f"{train.name} has {len(seen)} different labels ({some(seen.tolist())}), of which the highest would make "
            f"{count} classes: labels are class numbers, from 0 up. As texts (numpy.asarray(labels).astype(str)), the "
            "labels that occur are the classes; zoo.training.data.ArrayImages takes the names of all"
        )
    absent = [train.classes[k] for k in np.setdiff1d(np.arange(count), seen)]
    splits.notes.append(f"{train.name} has no {train.noun} of {len(absent)} of its {count} classes: {some(absent)}")


def _open_path(data: str) -> Splits:
    splits = _open_built_in(data) if data in BUILT_IN or not Path(data).exists() else None
    if splits is not None:
        return splits
    if data.startswith(BAGS) and not Path(data).exists():
        return _open_bag_folder(data.removeprefix(BAGS))
    if data.startswith(REPERTOIRES) and not Path(data).exists():
        return open_repertoires(data.removeprefix(REPERTOIRES))
    if data.startswith(SEQUENCES) and not Path(data).exists():
        return open_sequences(data.removeprefix(SEQUENCES))
    for module in (hugging_face, shards, timm_source):
        if data.startswith(module.PREFIXES) and not Path(data).exists():
            return module.open_text(data)
    path = Path(data).expanduser()
    if path.is_dir():
        return open_folder(path)
    file = path if path.exists() else Path(data.partition("?")[0]).expanduser()
    if is_bag_file(file):
        split_options(data, ())
        splits = open_bag_file(file)
        _share_classes(splits)
        return splits
    if file.suffix == ".npz":
        return open_npz(data)
    if file.is_file() and holds_sequences(data):
        return open_sequences(data)
    if file.is_file():
        if file.suffix.lower() in SUFFIXES:
            return open_table(data)
        raise DataError(
            f"{path} is not a data set that can be read here; expected a folder, a table ({', '.join(SUFFIXES)}) or an "
            f".npz file; of bags also .safetensors, of sequences FASTA ({', '.join(FASTA)})"
        )
    near = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
    hint = did_you_mean(file.name, [*near, *BUILT_IN]) or "."
    raise DataError(
        f"no data at {data!r}{hint} Give a folder, a table ({', '.join(SUFFIXES)}), an .npz file, hf:USER/DATASET, "
        f"wds:SHARDS, or a built-in data set ({', '.join(BUILT_IN)})"
    )


def _open_built_in(data: str) -> Splits | None:
    """A data set that comes with the package, or whose files are of one form; None for any other text."""
    if data in BUILT_IN:
        return BUILT_IN[data]()
    if data.startswith(FASHION_BAGS):
        return open_fashion_mnist_bags(data.removeprefix(FASHION_BAGS))
    source = data.partition("?")[0]
    if source not in BUILT_IN and not source.startswith(FASHION):
        return None
    filters = {"peptides": FILTERS, "chromosomes": ("size", "cases")}.get(source, ())
    source, options = split_options(data, () if source.endswith("_bags") else ("classes", *filters))
    if source == "chromosomes":
        splits = open_chromosomes({key: value for key, value in options.items() if key != "classes"})
        return only_classes(splits, options["classes"]) if "classes" in options else splits
    if source == "peptides":
        splits = open_peptides(options)
        return only_classes(splits, options["classes"]) if "classes" in options else splits
    splits = open_fashion_mnist(source.removeprefix(FASHION)) if source.startswith(FASHION) else BUILT_IN[source]()
    return only_classes(splits, options["classes"]) if options else splits


def _open_bag_folder(text: str) -> Splits:
    return bags_of_folders(open_folder(bag_folder(text)))


def bag_folder(text: str) -> Path:
    """The folder of bags.

    Raises:
        DataError: there is none.
    """
    path = Path(text).expanduser()
    if not path.is_dir():
        raise DataError(f"no folder {text!r}; {BAGS}FOLDER wants one of FOLDER/CLASS/BAG/image.png")
    return path


def _open_dictionary(data: dict[str, Any]) -> Splits:
    if {"rows", "offsets"} & set(data):
        check_parts(data, PARTS)
        return Splits(name="bags", train=ragged_bags(data["rows"], data["offsets"], data["labels"], "bags"), whole=True)
    keys = {name: split for split, names in SYNONYMS.items() for name in names}
    unknown = [key for key in data if str(key).lower() not in keys]
    if unknown:
        raise DataError(f"a dictionary of splits has the keys train, val and test; got {sorted(map(str, unknown))}")
    splits = Splits(name="data")
    given: dict[str, Any] = {}
    for word, value in data.items():
        key = keys[str(word).lower()]
        if key in given:
            raise DataError(f"a dictionary of splits has two for {key!r}: {some(list(data))}; join them")
        given[key] = value
    for key, value in given.items():
        opened = _open(value)
        setattr(splits, key, getattr(opened, key) or opened.train or opened.test)
        splits.notes += opened.notes
        splits.facts |= opened.facts if key == "train" else {}
    _share_classes(splits)
    return splits


def _share_classes(splits: Splits) -> None:
    """Give val and test the classes of train where they have a part of them.

    Numbered classes of a smaller split are those of training, though its highest number may be lower; and what is read
    from a table of its own has the classes that occur in it.
    """
    train = splits.train
    if train is None:
        return
    for split in ("val", "test"):
        other = getattr(splits, split)
        if other is None or other.classes == train.classes:
            continue
        numbered = other.classes == [str(k) for k in range(len(other.classes))]
        if numbered and train.classes[: len(other.classes)] == other.classes and not other.multi_label:
            other.classes = list(train.classes)
        elif other.partial and set(other.classes) <= set(train.classes):
            setattr(splits, split, other.with_classes(train.classes, several=train.multi_label))
