"""Reading image folders, MedMNIST files, digits, arrays and Datasets; and what is refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import zoo
from tests.training.helpers import tiny_net
from zoo.errors import DataError, MissingExtraError
from zoo.training import open_data
from zoo.training.data import ArrayImages, open_split, open_splits
from zoo.training.data.digits import open_digits
from zoo.training.data.folder import open_folder
from zoo.training.data.medmnist_sets import CLASS_NAMES, SETS
from zoo.training.data.split import stratified_split


def write_images(folder: Path, count: int, shade: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.full((10, 12, 3), shade, np.uint8)
        pixels[0, 0] = i
        Image.fromarray(pixels).save(folder / f"{i}.png")


def write_npz(path: Path, **replace: Any) -> Path:
    random = np.random.RandomState(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 12), ("val", 6), ("test", 6)):
        arrays[f"{split}_images"] = random.randint(0, 256, (count, 28, 28, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 3).reshape(-1, 1).astype(np.uint8)
    arrays.update(replace)
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


# ------------------------------------------------------------------------------------------------------------ digits


def test_digits_are_split_by_class_and_stay_the_same() -> None:
    splits = open_digits()
    sizes = {name: len(split) for name, split in splits.present().items()}
    assert sizes == {"train": 1257, "val": 180, "test": 360}
    assert splits.fingerprint() == open_digits().fingerprint() == "81582b48193b1149"
    for split in splits.present().values():
        assert set(np.unique(split.labels)) == set(range(10))
        counts = np.bincount(split.labels) / len(split)
        assert counts.max() - counts.min() < 0.02
        assert not split.flip
    everything = [split.content(i) for split in splits.present().values() for i in range(len(split))]
    assert len(everything) == 1797
    assert max(splits.present()["train"].image(i).max() for i in range(20)) == 255


# ------------------------------------------------------------------------------------------------------------ folder


def test_folder_without_splits_is_split_by_class_and_says_so(tmp_path: Path) -> None:
    write_images(tmp_path / "class10", 10, 10)
    write_images(tmp_path / "class2", 20, 200)
    splits = open_splits(tmp_path, seed=3)
    train, val = splits.present()["train"], splits.present()["val"]
    assert train.classes == ["class2", "class10"]  # natural order
    assert np.bincount(train.labels).tolist() == [16, 8]
    assert np.bincount(val.labels).tolist() == [4, 2]
    assert len(splits.notes) == 1
    assert "6 of 30 training images" in splits.notes[0]
    assert {train.where(i) for i in range(len(train))}.isdisjoint(val.where(i) for i in range(len(val)))
    assert open_splits(tmp_path, seed=3).fingerprint() == splits.fingerprint()
    assert np.asarray(train.image(0)).shape == (10, 12, 3)
    assert train.where(0).endswith("class2/0.png")


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("training", "validation"), ("train", "eval")])
def test_folder_splits_under_any_of_timms_names(tmp_path: Path, train: str, val: str) -> None:
    for split, count in ((train, 4), (val, 2), ("test", 3)):
        write_images(tmp_path / split / "a", count)
        write_images(tmp_path / split / "b", count, 99 + count)
    splits = open_splits(tmp_path)
    assert {k: len(v) for k, v in splits.present().items()} == {"train": 8, "val": 4, "test": 6}


def test_same_image_in_two_splits_is_noted(tmp_path: Path) -> None:
    for split, shade in (("train", 10), ("val", 100), ("test", 200)):
        write_images(tmp_path / split / "a", 2, shade)
        write_images(tmp_path / split / "b", 2, shade + 20)
    source = tmp_path / "train" / "a" / "0.png"
    (tmp_path / "test" / "a" / "copy.png").write_bytes(source.read_bytes())
    notes = open_splits(tmp_path).notes
    assert len(notes) == 1
    assert re.search(r"1 image\(s\) of test are also in train .*copy\.png", notes[0])


def test_unreadable_file_is_named_or_left_out(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 4)
    write_images(tmp_path / "b", 4, 50)
    bad = tmp_path / "a" / "3.png"
    bad.write_bytes(bad.read_bytes()[:40])
    splits = open_splits(tmp_path, val=False)
    with pytest.raises(DataError, match=r"3\.png.*on_bad='skip'"):
        splits.present()["train"].image(3)
    skipped = open_splits(tmp_path, val=False, on_bad="skip")
    assert len(skipped.present()["train"]) == 7
    assert any("3.png" in note for note in skipped.notes)


def test_a_bad_file_met_by_a_worker_is_still_one_line(tmp_path: Path) -> None:
    from zoo.training.data.loader import Pipeline, batches

    write_images(tmp_path / "a", 4)
    write_images(tmp_path / "b", 4, 50)
    (tmp_path / "a" / "2.png").write_bytes(b"not an image")
    data = open_splits(tmp_path, val=False).present()["train"]
    pipeline = Pipeline(3, lambda image: torch.zeros(3, 2, 2))
    with pytest.raises(DataError) as error:
        list(batches(data, pipeline, [[0, 1], [2, 3]], workers=1))
    assert "\n" not in str(error.value)
    assert "2.png" in str(error.value)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"no class folders.*There: nothing"):
        open_splits(empty)
    (empty / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"There: notes\.txt"):
        open_splits(empty)
    for name, source in (("x.csv", "{}/x.csv"), ("train.tar", "wds:{}"), ("train-0.parquet", "hf:{}")):
        (empty / name).write_text("x")
        with pytest.raises(DataError, match=f"Perhaps '{source.format(empty)}' is meant"):
            open_splits(empty)
    hollow = tmp_path / "hollow"
    write_images(hollow / "a", 2)
    (hollow / "b").mkdir()
    (hollow / "b" / "x.doc").write_text("x")
    with pytest.raises(DataError, match=r"hollow/b holds no images .*there: x\.doc"):
        open_splits(hollow)
    other = tmp_path / "other"
    write_images(other / "train" / "a", 2)
    write_images(other / "train" / "b", 2)
    write_images(other / "val" / "a", 2)
    write_images(other / "val" / "c", 2)
    with pytest.raises(DataError, match="val and train have different classes; only in val: 'c'; only in train: 'b'"):
        open_splits(other)
    with pytest.raises(DataError, match=r"no data at .*othr.*did you mean 'other'"):
        open_splits(str(tmp_path / "othr"))
    with pytest.raises(DataError, match="did you mean 'digits'"):
        open_splits("digit")
    file = tmp_path / "data.doc"
    file.write_text("a,b")
    with pytest.raises(DataError, match=r"expected a folder, a table \(\.csv, \.tsv, \.parquet\) or an \.npz file"):
        open_splits(file)


@pytest.mark.parametrize("names", [("Training", "Testing"), ("Train", "TEST"), ("TRAIN", "Valid"), ("train", "Test")])
def test_split_folders_are_known_in_upper_and_lower_case(tmp_path: Path, names: tuple[str, str]) -> None:
    for number, name in enumerate(names):
        write_images(tmp_path / name / "a", 4 - number, 10 + 80 * number)
        write_images(tmp_path / name / "b", 4 - number, 50 + 80 * number)
    splits = open_splits(tmp_path, val=None if "Valid" in names else False)
    other = "val" if "Valid" in names else "test"
    assert {k: len(v) for k, v in splits.present().items()} == {"train": 8, other: 6}
    assert splits.present()["train"].classes == ["a", "b"]
    assert splits.notes == []


@pytest.mark.parametrize("second", ["training", "Train"])
def test_two_folders_for_one_split_are_refused(tmp_path: Path, second: str) -> None:
    for name in ("train", second):
        write_images(tmp_path / name / "a", 2)
        write_images(tmp_path / name / "b", 2)
    with pytest.raises(DataError, match=rf"2 folders for the split 'train': .*\b{second}/"):
        open_splits(tmp_path)


def test_a_link_to_a_split_folder_is_no_second_one(tmp_path: Path) -> None:
    write_images(tmp_path / "training" / "a", 2)
    write_images(tmp_path / "training" / "b", 2)
    (tmp_path / "train").symlink_to(tmp_path / "training")
    assert len(open_splits(tmp_path, val=False).present()["train"]) == 4


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    for name in ("one", "two", "__MACOSX/one", ".cache"):
        write_images(tmp_path / name, 2)
    write_images(tmp_path / "one" / ".ipynb_checkpoints", 1, 7)
    write_images(tmp_path / "two" / "deep" / ".trash" / "deeper", 1, 7)
    (tmp_path / "one" / "._0.png").write_bytes(b"what macOS writes beside a file")
    (tmp_path / "two" / "Thumbs.db").write_bytes(b"x")
    splits = open_splits(tmp_path, val=False)
    train = splits.present()["train"]
    assert train.classes == ["one", "two"]
    assert [Path(train.where(i)).relative_to(tmp_path).as_posix() for i in range(len(train))] == [
        "one/0.png", "one/1.png", "two/0.png", "two/1.png"
    ]  # fmt: skip
    assert not [note for note in splits.notes if "left out" in note]


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    write_images(tmp_path / ".cache" / "set" / "a", 2)
    write_images(tmp_path / ".cache" / "set" / "b", 2)
    assert len(open_splits(tmp_path / ".cache" / "set", val=False).present()["train"]) == 4


def test_what_a_folder_has_that_is_not_used_is_noted(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 2)
    write_images(tmp_path / "b", 2, 60)
    write_images(tmp_path, 3, 120)
    for name in ("x10.gif", "x2.gif", "y.HEIC"):
        (tmp_path / "b" / name).write_bytes(b"x")
    assert open_splits(tmp_path, val=False).notes == [
        f"left out 3 file(s) in class folders of {tmp_path} by their endings (.gif, .heic): 'b/x2.gif' and 2 more",
        f"left out 3 image(s) beside the class folders of {tmp_path}: '0.png' and 2 more",
    ]


def test_folders_beside_the_splits_are_noted(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "masks", "extra"):
        write_images(tmp_path / name, 2)
    (tmp_path / "train" / "b" / "note.txt").write_text("x")
    assert open_folder(tmp_path).notes == [
        f"left out 2 folder(s) beside the splits of {tmp_path}: 'extra/' and 1 more",
        f"left out 1 file(s) in class folders of {tmp_path / 'train'} by their endings (.txt): 'b/note.txt'",
    ]


# --------------------------------------------------------------------------------------------------------------- npz


def test_npz_splits_and_class_names(tmp_path: Path) -> None:
    splits = open_splits(write_npz(tmp_path / "unknown.npz"))
    assert {k: len(v) for k, v in splits.present().items()} == {"train": 12, "val": 6, "test": 6}
    assert splits.present()["train"].classes == ["0", "1", "2"]
    named = open_splits(write_npz(tmp_path / "bloodmnist_64.npz"))
    assert named.present()["test"].classes == CLASS_NAMES["bloodmnist"]
    assert named.name == "bloodmnist_64"
    assert named.present()["train"].flip
    assert not open_splits(write_npz(tmp_path / "organamnist.npz")).present()["train"].flip


def test_class_names_have_the_published_numbers() -> None:
    counts = {"path": 9, "chest": 14, "derma": 7, "oct": 4, "pneumonia": 2, "retina": 5, "breast": 2, "blood": 8}
    counts |= {"tissue": 8, "organa": 11, "organc": 11, "organs": 11}
    assert {f"{k}mnist": v for k, v in counts.items()} == {k: len(v) for k, v in CLASS_NAMES.items()}


def test_published_facts_and_class_names_agree() -> None:
    assert {flag: found.classes for flag, found in SETS.items() if not found.volumes} == {
        flag: len(names) for flag, names in CLASS_NAMES.items()
    }
    assert [flag for flag, found in SETS.items() if found.licence != "CC BY 4.0"] == ["dermamnist"]


def published(path: Path, flag: str, size: int = 28, **replace: Any) -> Path:
    """A file with the name and the sizes of a published set, and noise in it."""
    random, found = np.random.RandomState(0), SETS[flag]
    arrays: dict[str, Any] = {}
    for split, count in zip(("train", "val", "test"), found.sizes, strict=True):
        shape = (count, size, size, 3) if found.channels == 3 else (count, size, size)
        arrays[f"{split}_images"] = random.randint(0, 256, shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % found.classes).reshape(-1, 1).astype(np.uint8)
    return write_npz(path / f"{flag}{'' if size == 28 else f'_{size}'}.npz", **{**arrays, **replace})


def test_a_published_set_is_known_by_name_and_sizes(tmp_path: Path) -> None:
    splits = open_splits(published(tmp_path, "breastmnist"))
    assert splits.notes == []
    assert splits.facts["licence"] == "CC BY 4.0"
    assert splits.facts["task"] == "binary"
    larger = open_splits(published(tmp_path, "breastmnist", 64))
    assert larger.present()["test"].image(0).shape == (64, 64)
    assert larger.facts["name"] == "breastmnist_64"
    cut = open_splits(published(tmp_path, "breastmnist", train_images=np.zeros((540, 28, 28), np.uint8),
                                train_labels=np.arange(540)[:, None] % 2))  # fmt: skip
    assert "breastmnist has the name but not the sizes of breastmnist: 540 train (published: 546) images" in cut.notes
    assert cut.facts == {}


def test_retina_is_graded(tmp_path: Path) -> None:
    splits = open_splits(published(tmp_path, "retinamnist"))
    assert all(split.ordinal for split in splits.present().values())
    model = tiny_net(num_classes=5, in_chans=3, size=28)
    measured = zoo.evaluate(model, splits, "val", detail=True)
    counts = np.array(measured["confusion"])
    assert measured["mae"] == pytest.approx((counts * np.abs(np.subtract.outer(range(5), range(5)))).sum() / 120)
    assert measured["facts"]["licence"] == "CC BY 4.0"


def test_volumes_are_read_when_it_is_said_how(tmp_path: Path) -> None:
    counts = (("train", 12), ("val", 6), ("test", 6))
    volumes = {
        f"{s}_images": np.random.RandomState(0).randint(0, 256, (n, 10, 8, 9), dtype=np.uint8) for s, n in counts
    }
    path = write_npz(tmp_path / "organmnist3d.npz", **volumes)
    with pytest.raises(DataError, match=r"shape \(12, 10, 8, 9\): volumes are not supported as such.*\?slices=middle"):
        open_splits(path)
    middle = open_splits(f"{path}?slices=middle").present()["test"]
    assert np.array_equal(middle.image(2), volumes["test_images"][2, 5])
    channels = open_splits(f"{path}?slices=channels").present()["train"]
    assert np.array_equal(channels.image(7).transpose(2, 0, 1), volumes["train_images"][7])
    with pytest.raises(DataError, match="slices must be one of middle, channels, got 'all'"):
        open_splits(f"{path}?slices=all")
    with pytest.raises(DataError, match=r"takes no option 'slice'; did you mean 'slices'"):
        open_splits(f"{path}?slice=middle")


def test_npz_with_several_labels_an_image(tmp_path: Path) -> None:
    random = np.random.RandomState(1)
    several = {f"{s}_labels": random.randint(0, 2, (n, 14)) for s, n in (("train", 12), ("val", 6), ("test", 6))}
    splits = open_splits(write_npz(tmp_path / "chestmnist.npz", **several))
    assert splits.present()["train"].multi_label
    assert splits.present()["train"].labels.dtype == np.float32
    assert splits.present()["train"].classes[0] == "atelectasis"


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        ({"train_images": np.zeros((12, 28, 28, 28), np.uint8)}, "volumes are not supported"),
        ({"train_images": np.zeros((12, 28, 28), np.float32)}, "has type float32; expected uint8"),
        ({"train_images": np.zeros((11, 28, 28), np.uint8)}, "11 images but 12 labels"),
        ({"train_images": np.zeros((12, 784), np.uint8)}, "expected \\(N, H, W\\)"),
        ({"train_labels": None}, "lacks train_labels; it holds: test_images"),
        ({"train_images": None, "val_images": None, "test_images": None}, "lacks arrays named train_images"),
        ({"train_labels": np.zeros((12, 1), np.float32)}, "has type float32"),
        ({"train_labels": np.array([{}] * 12)}, "pickled arrays are refused"),
        ({"val_labels": np.full((6, 1), 9)}, "image 0 of val of set.npz has label 9; with 3 classes"),
        ({"train_labels": np.full((12, 2), 3)}, "labels must be 0 or 1"),
        ({"train_labels": np.arange(12)[:, None] // 11 * 10**9}, "image 11 of train of set.npz has the label 10{9}, "),
        ({"train_labels": np.arange(12)[:, None] // 11 * 20}, "2 different labels .* would make 21 classes"),
    ],
)
def test_npz_that_cannot_be_used(tmp_path: Path, replace: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_splits(write_npz(tmp_path / "set.npz", **replace))


def test_damaged_npz(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "set.npz")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"cannot read .*set\.npz"):
        open_splits(path)


# ------------------------------------------------------------------------------------------------- arrays and Datasets


class Pairs(torch.utils.data.Dataset):
    def __init__(self, count: int = 20, **extra: Any):
        self.images = torch.rand(count, 1, 8, 8)
        self.answers = [i % 4 for i in range(count)]
        self.fetched = 0
        self.__dict__.update(extra)

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, index: int) -> Any:
        self.fetched += 1
        return self.images[index], self.answers[index]


def test_torch_dataset_labels_are_found() -> None:
    plain = Pairs()
    splits = open_splits(plain, val=0.25)
    assert plain.fetched == 20
    assert len(splits.present()["val"]) == 5
    assert splits.present()["train"].classes == ["0", "1", "2", "3"]
    known = Pairs(targets=[i % 4 for i in range(20)], classes=["a", "b", "c", "d"])
    assert open_splits(known).present()["train"].classes == ["a", "b", "c", "d"]
    assert known.fetched == 0


def test_dataset_of_dictionaries() -> None:
    rows = [{"image": Image.new("L", (8, 8), i), "label": i % 2} for i in range(6)]
    train = open_splits(rows, val=False).present()["train"]
    assert train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert train.image(3).getpixel((0, 0)) == 3


class Table:
    """Speaks as a Hugging Face data set does: rows by number, columns by name."""

    column_names: ClassVar = ["image", "label"]
    features: ClassVar = {"label": SimpleNamespace(names=["cat", "dog"])}

    def __len__(self) -> int:
        return 6

    def __getitem__(self, key: Any) -> Any:
        if key == "label":
            return [0, 1, 0, 1, 0, 1]
        return {"image": Image.new("L", (8, 8), key), "label": key % 2}


def test_table_of_the_hub() -> None:
    splits = open_splits({"train": Table(), "validation": Table()})
    assert splits.present()["val"].classes == ["cat", "dog"]
    assert splits.present()["train"].image(4).getpixel((0, 0)) == 4


def test_dictionary_of_splits_and_arrays() -> None:
    images, labels = np.zeros((9, 8, 8), np.uint8), np.arange(9) % 3
    images[:, 0, 0] = np.arange(9)
    splits = open_splits({"train": (images, labels), "val": (images[:1], labels[:1])})
    assert splits.present()["val"].classes == ["0", "1", "2"]
    assert any("1 image(s) of val are also in train" in n for n in splits.notes)
    channels_first = torch.zeros(9, 3, 8, 8, dtype=torch.uint8)
    assert open_splits((channels_first, torch.arange(9) % 3), val=False).present()["train"].image(0).shape == (8, 8, 3)


def shades(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((8, 8), np.uint8)


@pytest.mark.parametrize(
    "form",
    [np.array, list, lambda n: np.array(n, dtype=object), lambda n: np.array(n)[:, None], lambda n: np.array(n, "S")],
)
def test_texts_are_class_names(form: Any) -> None:
    names = ["class10", "class2"] * 20
    splits = open_splits((shades(40), form(names)))
    train, val = splits.present()["train"], splits.present()["val"]
    assert train.classes == val.classes == ["class2", "class10"]
    for part in (train, val):
        for i in range(len(part)):
            assert part.classes[part.labels[i]] == names[part.image(i)[0, 0]]


def test_texts_of_a_dataset_are_class_names() -> None:
    answers = [["b", "a", "c"][i % 3] for i in range(20)]
    train = open_splits(Pairs(answers=answers), val=False).present()["train"]
    assert (train.classes, train.labels[:4].tolist()) == (["a", "b", "c"], [1, 0, 2, 1])
    named = open_splits(Pairs(targets=answers, classes=["c", "b", "a", "d"]), val=False)
    assert named.present()["train"].labels[:4].tolist() == [1, 2, 0, 1]
    assert any("no image of 1 of its 4 classes: 'd'" in note for note in named.notes)
    with pytest.raises(DataError, match="labels that train lacks: 'c'"):
        open_splits(Pairs(targets=answers, classes=["b", "a"]))


def test_texts_of_a_smaller_split_are_classes_of_train() -> None:
    splits = open_splits({"train": (shades(4), ["a", "b", "c", "c"]), "test": (shades(2), ["c", "b"])}, val=False)
    assert splits.present()["test"].labels.tolist() == [2, 1]
    several = open_splits((shades(3), ["a|b", "b", "|"]), val=False).present()["train"]
    assert several.labels.tolist() == [[1, 1], [0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1, np.nan, 1]), r"image 2 of arrays has no label \(nan\); give it one"),
        ([0, 1, 0, None], r"image 3 of arrays has no label \(None\)"),
        (["a", float("nan"), "b", "a"], r"image 1 of arrays has no label \(nan\)"),
        (["a", "b", "", "a"], r"image 2 of arrays has no label"),
        (np.array([0, 1, np.inf, 1]), r"image 2 of arrays has no label \(inf\)"),
        (np.array([[0, 1], [1, 0], [1, np.nan], [0, 0]]), r"image 2 of arrays has no label"),
        (np.array([{}, 1, 2, 3]), "image 0 of arrays has a dict as label"),
        (np.zeros((4, 2, 2), int), r"one number or text an image, or columns of 0 and 1; got int64 \(4, 2, 2\)"),
        (np.array([0, 0.5, 1, 1]), "one whole number an image"),
        (np.array([0, 1, 2]), "4 images but 3 labels"),
        (np.array([0, 1, 10**12, 1]), "image 2 of arrays has the label 1000000000000, but .* from 0 to 99,999"),
        (np.array([0, 1, 1, 30]), r"arrays has 3 different labels \(0, 1, 30\), of which .* 31 classes"),
    ],
)
def test_labels_that_cannot_be_used(labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_splits((shades(4), labels))


def test_labels_of_a_dataset_that_cannot_be_used() -> None:
    with pytest.raises(DataError, match=r"image 5 of Pairs has no label \(nan\)"):
        open_splits(Pairs(answers=[0.0] * 5 + [float("nan")] + [1.0] * 4))
    with pytest.raises(DataError, match=r"image 5 of Pairs has no label \(nan\)"):
        open_splits(Pairs(answers=["a"] * 5 + [float("nan")] + ["b"] * 4))
    with pytest.raises(DataError, match=r"image 9 of Pairs has the label 100000"):
        open_splits(Pairs(answers=[0] * 9 + [100_000]))


def test_class_numbers_with_gaps_are_noted() -> None:
    numbers = np.array([0, 5, 10] * 10)
    splits = open_splits((shades(30), numbers), val=False)
    assert len(splits.present()["train"].classes) == 11
    assert "arrays has no image of 8 of its 11 classes: '1', '2', '3', '4', '6' and 3 more" in splits.notes
    assert open_splits((shades(30), numbers % 3), val=False).notes == []
    as_texts = open_splits((shades(30), numbers.astype(str)), val=False)
    assert as_texts.present()["train"].classes == ["0", "5", "10"]
    assert as_texts.notes == []
    # What is evaluated on may be a few images of many classes.
    assert open_split((shades(1), [400])).images.labels.tolist() == [400]
    named = ArrayImages(shades(2), np.array([0, 1]), [str(k) for k in range(100)], name="named")
    assert any("no image of 98 of its 100 classes" in note for note in open_splits(named, val=False).notes)


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("labels", [["a", "b"] * 2, np.array([0, 1, 0, 1]), (0, 1, 0, 1)])
def test_lists_of_images_and_of_labels(kind: Any, labels: Any) -> None:
    images = shades(4)
    for given in (images, list(images), tuple(torch.from_numpy(images)), [Image.fromarray(one) for one in images]):
        train = open_splits(kind((given, labels)), val=False).present()["train"]
        assert train.labels.tolist() == [0, 1, 0, 1]
        assert np.array_equal(np.asarray(train.image(3)), images[3])
    sizes = [np.full((4 + i, 5), i, np.uint8) for i in range(4)]
    train = open_splits(kind((sizes, labels)), val=False).present()["train"]
    assert [train.image(i).shape for i in range(4)] == [(4, 5), (5, 5), (6, 5), (7, 5)]
    with pytest.raises(DataError, match=r"the images are paths; give a table"):
        open_splits(kind((["a.png", "b.png", "c.png", "d.png"], labels)))


def test_two_pairs_are_no_lists_of_images_and_labels() -> None:
    a, b = shades(2)
    for pairs in ([(a, 0), (b, 1)], ((a, 0), (b, 1))):
        train = open_splits(pairs, val=False).present()["train"]
        assert np.array_equal(train.image(1), b)
    train = open_splits(([a, b], [0, 1]), val=False).present()["train"]
    assert np.array_equal(train.image(1), b)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "cannot read data from a int"),
        (Pairs(0), "holds no images"),
        (Pairs(answers=[-1] + [0] * 19), "image 0 of Pairs has label -1"),
        (Pairs(answers=[0.5] * 20), "one whole number an image"),
        ([(1, 2, 3)], "expected a pair"),
        ([{"picture": 1}], "expected keys"),
        ({"holdout": "digits"}, "keys train, val and test"),
        ({"train": "digits", "Training": "digits"}, "two for 'train': 'train', 'Training'"),
        ({"test": "digits"}, "no training split"),
        ((np.zeros((0, 8, 8)), np.zeros(0, int)), "hold no images"),
    ],
)
def test_data_that_cannot_be_used(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_splits(data)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5])
def test_share_held_out_must_be_a_share(fraction: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        open_splits("digits", val=fraction)


def test_evaluating_a_split_that_is_not_there(tmp_path: Path) -> None:
    write_images(tmp_path / "train" / "a", 2)
    write_images(tmp_path / "train" / "b", 2)
    with pytest.raises(DataError, match="no 'test' split; splits there: train"):
        open_split(tmp_path, "test")
    with pytest.raises(
        DataError, match=r"no 'tset' split; splits there: train, val, test .*as 'all'\); did you mean 'test'"
    ):
        open_split("digits", "tset")
    for asked in ("test", "train", "all"):
        opened = open_split(tmp_path / "train", asked)
        assert (opened.name, opened.split, len(opened.images)) == ("train", "all", 4)
        assert "has no splits: all 4 images" in opened.notes[0]
    with pytest.raises(DataError, match="no split 'tset'; train has no splits, and all of it is taken as 'all'"):
        open_split(tmp_path / "train", "tset")


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "images" / "all", 4)
    with pytest.raises(DataError, match=r"images has a single class \('all'\): there is nothing to tell apart"):
        open_splits(tmp_path / "images")


# ------------------------------------------------------------------------------------------------------------- others


@pytest.mark.parametrize(
    ("package", "source", "feature"),
    [
        ("datasets", "hf:user/data", "the data set 'hf:user/data'"),
        ("pyarrow", "x.parquet", "reading Parquet"),
        ("tifffile", "images", "a TIFF of many channels"),
    ],
)
def test_what_the_base_install_lacks_is_named(
    package: str, source: str, feature: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.training.data.loader import Pipeline, batches

    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    many = np.zeros((8, 8, 5), np.uint8)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "images" / name / "x.tif", many, photometric="minisblack", planarconfig="contig")
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    missing = rf"{feature}.* needs the package '{package}'; install it with: pip install 'zoo-layers\[data\]'"
    with pytest.raises(MissingExtraError, match=missing):
        open_splits(source, val=False).present()["train"].image(0)
    if package == "tifffile":  # first met in a worker process
        data = open_folder(tmp_path / source).present()["train"]
        with pytest.raises(DataError, match=missing):
            list(batches(data, Pipeline(5, lambda image: image), [[0, 1]], workers=1))


def test_stratified_split_keeps_shares_and_lone_images() -> None:
    labels = np.repeat([0, 1, 2, 3], [50, 30, 19, 1])
    kept, out = stratified_split(labels, 20, seed=1)
    assert sorted([*kept, *out]) == list(range(100))
    assert np.bincount(labels[out], minlength=4).tolist() == [10, 6, 4, 0]
    again = stratified_split(labels, 20, seed=1)
    assert np.array_equal(again[1], out)
    assert not np.array_equal(stratified_split(labels, 20, seed=2)[1], out)


def test_open_data_gives_what_evaluation_feeds() -> None:
    model = tiny_net()
    ready = open_data("digits", "test", model=model)
    image, label = ready[5]
    raw = open_digits().test
    assert raw is not None
    expected = (torch.from_numpy(raw.image(5)).float() / 255 - 0.5) / 0.5
    assert torch.allclose(image[0], expected, atol=1e-6)
    assert label == raw.labels[5]
    assert len(ready) == 360
    with pytest.raises(IndexError):
        ready[360]


def test_class_names_must_fit_the_labels() -> None:
    with pytest.raises(DataError, match="2 labels an image but 3 class names"):
        ArrayImages(np.zeros((4, 8, 8), np.uint8), np.zeros((4, 2)), ["a", "b", "c"], name="x")


def test_finetune_reports_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data at"):
        zoo.finetune(tiny_net(), str(tmp_path / "nothing"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
