"""Data sets of the Hugging Face library: objects, folders; columns, labels, splits; and what is refused."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

import zoo
from tests.training.helpers import QUICK, tiny_net
from tests.training.test_decode import DEEP, png
from zoo.errors import DataError
from zoo.training.data import open_split, open_splits
from zoo.training.data.image import to_channels

NAMES = ["cat", "dog", "owl"]


def shade(value: int) -> Image.Image:
    return Image.fromarray(np.full((8, 8), value, np.uint8))


def rows(count: int = 6, **features: Any) -> Dataset:
    values = {"image": [shade(20 * i) for i in range(count)], "label": [i % 3 for i in range(count)]}
    kinds = {"image": ImageFeature(), "label": ClassLabel(names=NAMES)}
    return Dataset.from_dict(values, features=Features({**kinds, **features}))


def fine_and_coarse() -> Dataset:
    both = rows().rename_column("label", "fine").add_column("coarse", [0, 1] * 3)
    return both.cast_column("coarse", ClassLabel(names=["x", "y"]))


def shades(data: Any) -> list[int]:
    return [data.image(i).getpixel((0, 0)) for i in range(len(data))]


# ------------------------------------------------------------------------------------------------------------ objects


def test_a_dataset_in_memory() -> None:
    train = open_splits(rows(), val=False).present()["train"]
    assert train.classes == NAMES
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert shades(train) == [0, 20, 40, 60, 80, 100]
    assert open_split(rows(), "test").split == "all"


def test_splits_of_a_dictionary() -> None:
    whole = DatasetDict(train=rows(), validation=rows(3), test=rows(4), unsupervised=rows(2))
    splits = open_splits(whole)
    assert {k: len(v) for k, v in splits.present().items()} == {"train": 6, "val": 3, "test": 4}
    assert splits.notes[0] == "splits that are not used: 'unsupervised'"
    assert open_split(whole, "val").images.where(2) == "row 2 of val of dataset"
    assert open_splits(DatasetDict(Train=rows(), TEST=rows(4)), val=False).present().keys() == {"train", "test"}
    with pytest.raises(DataError, match="two splits for 'val': 'train', 'val', 'validation'"):
        open_splits(DatasetDict(train=rows(), val=rows(3), validation=rows(4)))
    with pytest.raises(DataError, match="no split is called train, val or test; splits there: 'fold1', 'fold2'"):
        open_splits(DatasetDict(fold1=rows(), fold2=rows()))
    separate = open_splits({"train": whole["train"], "test": whole["test"]}, val=False)
    assert len(separate.present()["test"]) == 4


def test_selected_and_shuffled_rows_stay_with_their_images() -> None:
    some = rows().shuffle(seed=3).select([5, 0, 2])
    train = open_splits(some, val=False).present()["train"]
    for i in range(3):
        original = shades(train)[i] // 20
        assert train.labels[i] == original % 3


def test_names_of_columns() -> None:
    renamed = rows().rename_columns({"image": "picture of it", "label": "kind"})
    train = open_splits(renamed, val=False).present()["train"]  # the only image, the only ClassLabel
    assert (train.classes, shades(train)[1]) == (NAMES, 20)
    texts = Dataset.from_dict({"img": [shade(i) for i in range(4)], "class": ["b", "a", "b", "a"]})
    texts = texts.cast_column("img", ImageFeature())
    assert open_splits(texts, val=False).present()["train"].classes == ["a", "b"]


def test_an_untouched_image_feature_is_not_decoded_to_8_bits() -> None:
    contents = [png(DEEP[:, :, :3]), png(DEEP[:, :, 1:4])]
    data = Dataset.from_dict({"image": [{"bytes": c, "path": None} for c in contents], "label": [0, 1]})
    train = open_splits(data.cast_column("image", ImageFeature()), val=False).present()["train"]
    tensor = to_channels(train.image(1), 3)
    assert isinstance(tensor, torch.Tensor)
    assert np.allclose(tensor.numpy().transpose(1, 2, 0), DEEP[:, :, 1:4] / 65535, atol=1e-7)


def test_arrays_in_columns() -> None:
    arrays = DEEP.transpose(2, 0, 1)
    features = Features({"image": datasets.Array2D((9, 7), "uint16"), "label": Value("int64")})
    data = Dataset.from_dict({"image": list(arrays), "label": [0, 1, 0, 1, 0]}, features=features)
    train = open_splits(data, val=False).present()["train"]
    assert train.image(3).dtype == np.uint16
    assert np.array_equal(train.image(3), arrays[3])


def test_several_labels() -> None:
    features = {"label": datasets.List(ClassLabel(names=NAMES))}
    values = {"image": [shade(i) for i in range(4)], "label": [[0, 2], [], [1], [0]]}
    data = Dataset.from_dict(values, features=Features({"image": ImageFeature(), **features}))
    train = open_splits(data, val=False).present()["train"]
    assert train.classes == NAMES
    assert train.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_a_test_split_without_labels_is_left_out() -> None:
    hidden = rows(3).map(lambda row: {"label": -1})
    splits = open_splits(DatasetDict(train=rows(), test=hidden), val=False)
    assert list(splits.present()) == ["train"]
    assert splits.notes == ["test of dataset has no labels and is left out"]
    half = rows(3).map(lambda row, i: {"label": -1 if i else 0}, with_indices=True)
    with pytest.raises(DataError, match="test has labels that train lacks: '-1'"):
        open_splits(DatasetDict(train=rows(), test=half), val=False)


def test_a_transform_of_ones_own_is_kept() -> None:
    def grow(batch: dict[str, Any]) -> dict[str, Any]:
        return {"image": [np.asarray(i) + np.uint8(1) for i in batch["image"]], "label": batch["label"]}

    train = open_splits(rows().with_transform(grow), val=False).present()["train"]
    assert [int(train.image(i)[0, 0]) for i in range(3)] == [1, 21, 41]


def test_a_bad_row_is_named_or_left_out() -> None:
    stream = BytesIO()
    shade(9).save(stream, "png")
    cells = [{"bytes": stream.getvalue(), "path": None}, {"bytes": b"broken", "path": None}, None]
    data = Dataset.from_dict({"image": [*cells, cells[0]], "label": [0, 1, 0, 1]}).cast_column("image", ImageFeature())
    train = open_splits(data, val=False).present()["train"]
    with pytest.raises(DataError, match="cannot read the image row 1 of train of dataset"):
        train.image(1)
    with pytest.raises(DataError, match="row 2 of train of dataset has no image"):
        train.image(2)
    kept = open_splits(data, val=False, on_bad="skip")
    assert kept.present()["train"].labels.tolist() == [0, 1]
    assert "left out 2 unreadable image(s) of train: 'row 1 of" in kept.notes[0]


def test_copies_across_splits_are_found() -> None:
    splits = open_splits(DatasetDict(train=rows(6), test=rows(2)), val=False)
    assert (
        "2 image(s) of test are also in train (row 0 of test of dataset = row 0 of train of dataset;" in splits.notes[0]
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rows().remove_columns("image"), r"no column for the image; there: 'label' \(ClassLabel\)"),
        (lambda: rows().remove_columns("label"), r"no column for the label; there: 'image' \(Image\)"),
        (fine_and_coarse, r"2 columns could be the label; there: .* 'fine' \(ClassLabel\), 'coarse' \(ClassLabel\)"),
        (lambda: rows().to_iterable_dataset(), "is a stream, without length and order"),
        (lambda: rows().remove_columns("label").add_column("label", ["a", "", "b"] * 2), "train, row 2 has no label"),
        (lambda: rows().remove_columns("label").add_column("label", [0.5] * 6), r"has the label 0\.5"),
    ],
)  # fmt: skip
def test_objects_that_cannot_be_used(make: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_splits(make(), val=False)


# ------------------------------------------------------------------------------------------------------------ folders


def test_a_saved_data_set(tmp_path: Path) -> None:
    DatasetDict(train=rows(), test=rows(3)).save_to_disk(tmp_path / "both")
    rows().save_to_disk(tmp_path / "one")
    both = open_splits(f"hf:{tmp_path / 'both'}", val=False)
    assert (both.name, {k: len(v) for k, v in both.present().items()}) == ("both", {"train": 6, "test": 3})
    assert shades(open_splits(f"hf:{tmp_path / 'one'}", val=False).present()["train"])[5] == 100


def test_a_folder_of_parquet_shards(tmp_path: Path) -> None:
    for k in range(2):
        rows(6).select(range(3 * k, 3 * k + 3)).to_parquet(tmp_path / f"train-0000{k}-of-00002.parquet")
    rows(3).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    splits = open_splits(f"hf:{tmp_path}", val=False)
    assert splits.present()["train"].classes == NAMES
    assert shades(splits.present()["train"]) == [0, 20, 40, 60, 80, 100]
    assert len(splits.present()["test"]) == 3


def test_options_choose_columns(tmp_path: Path) -> None:
    fine_and_coarse().save_to_disk(tmp_path / "d")
    train = open_splits(f"hf:{tmp_path / 'd'}?label=coarse&ordinal=yes", val=False).present()["train"]
    assert (train.classes, train.labels.tolist(), train.ordinal) == (["x", "y"], [0, 1] * 3, True)
    with pytest.raises(DataError, match=r"has no column 'corse'; there: .*did you mean 'coarse'"):
        open_splits(f"hf:{tmp_path / 'd'}?label=corse")
    with pytest.raises(DataError, match="takes no option 'lable'; did you mean 'label'"):
        open_splits(f"hf:{tmp_path / 'd'}?lable=fine")


@pytest.mark.parametrize("text", ["hf:", "hf:./nothing", "hf:/nothing/here", "hf:a/b/c", "hf:user/data@"])
def test_what_is_neither_a_folder_nor_a_repository(text: str) -> None:
    with pytest.raises(DataError, match="after 'hf:' comes a folder that exists, or user/dataset"):
        open_splits(text)


def test_a_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(DataError, match=r"cannot read 'hf:.*DataFilesNotFoundError"):
        open_splits(f"hf:{tmp_path}")


def test_training_from_a_saved_data_set(tmp_path: Path) -> None:
    values = [10 + i if i % 2 else 200 + i for i in range(16)]
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["light", "dark"])})
    data = Dataset.from_dict(
        {"image": [shade(v) for v in values], "label": [i % 2 for i in range(16)]}, features=features
    )
    DatasetDict(train=data, test=data).save_to_disk(tmp_path / "d")
    options = {**QUICK, "epochs": 12, "batch_size": 4, "lr": 0.01, "workers": 1}
    result = zoo.finetune(tiny_net(num_classes=2), f"hf:{tmp_path / 'd'}", out=tmp_path / "run", val=False, **options)
    assert result.classes == ["light", "dark"]
    assert zoo.evaluate(result.model, f"hf:{tmp_path / 'd'}", progress=False)["accuracy"] == 1.0
