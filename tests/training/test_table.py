"""Tables of images: CSV, TSV, Parquet, DataFrames; their columns, labels and splits; and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import zoo
from tests.training.helpers import QUICK, tiny_net
from zoo.errors import DataError
from zoo.training.data import open_split, open_splits


def shade(value: int) -> Image.Image:
    return Image.fromarray(np.full((8, 8), value, np.uint8))


def encoded(value: int) -> bytes:
    stream = BytesIO()
    shade(value).save(stream, "png")
    return stream.getvalue()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twelve files img/0.png to img/11.png, of shades 0, 20, ..."""
    (tmp_path / "img").mkdir()
    for i in range(12):
        shade(20 * i).save(tmp_path / "img" / f"{i}.png")
    return tmp_path


def write(folder: Path, text: str, name: str = "labels.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def rows(line: Callable[[int], str], count: int = 12, head: str = "file,label") -> str:
    return "\n".join([head, *(line(i) for i in range(count))]) + "\n"


ANIMALS = ("owl", "cat", "dog10", "dog2")
TWELVE = rows(lambda i: f"img/{i}.png,{ANIMALS[i % 4]}")


# ------------------------------------------------------------------------------------------------------ columns, paths


def test_files_and_labels_of_a_csv(images: Path) -> None:
    splits = open_splits(write(images, TWELVE), val=False)
    train = splits.present()["train"]
    assert splits.name == "labels"
    assert train.classes == ["cat", "dog2", "dog10", "owl"]  # natural order
    assert train.labels.tolist() == [3, 0, 2, 1] * 3
    assert [train.image(i).getpixel((0, 0)) for i in range(12)] == [20 * i for i in range(12)]
    assert train.where(3) == str(images / "img" / "3.png")
    assert splits.notes == []


@pytest.mark.parametrize("image", ["image", "path", "filename", "File Name", "IMAGE_PATH", "img"])
@pytest.mark.parametrize("label", ["label", "class", "target", "dx", "Diagnosis"])
def test_usual_names_of_columns(images: Path, image: str, label: str) -> None:
    text = rows(lambda i: f"x,{i % 2},img/{i}.png", head=f"note,{label},{image}")
    assert open_splits(write(images, text), val=False).present()["train"].labels.tolist() == [0, 1] * 6


@pytest.mark.parametrize(("mark", "name"), [(";", "a.csv"), ("\t", "a.tsv"), ("\t", "a.csv"), (",", "a.csv")])
def test_separators_quotes_and_byte_order_marks(images: Path, mark: str, name: str) -> None:
    lines = [mark.join((f"img/{i}.png", f'"a{mark} b"' if i % 2 else "c")) for i in range(12)]
    (images / name).write_text("\n".join([mark.join(("file", "label")), *lines, ""]), encoding="utf-8-sig")
    assert open_splits(images / name, val=False).present()["train"].classes == [f"a{mark} b", "c"]


def test_options_name_columns_and_folder(images: Path) -> None:
    text = rows(lambda i: f"{i},{i % 2},{i % 3}", head="scan,label,wanted class")
    source = write(images, text)
    with pytest.raises(
        DataError, match=r"no column for the image by a usual name .*there: 'scan', 'label', 'wanted class'"
    ):
        open_splits(source)
    options = "?image=scan&label=wanted class&root=img"
    train = open_splits(source + options, val=False).present()["train"]
    assert train.labels.tolist() == [0, 1, 2] * 4
    assert train.where(11) == str(images / "img" / "11.png")  # a name without an ending is found
    absolute = open_splits(f"{source}?image=scan&root={images / 'img'}", val=False).present()["train"]
    assert absolute.labels.tolist() == [0, 1] * 6
    ordered = open_splits(source + options + "&ordinal=yes", val=0.25)
    assert all(split.ordinal for split in ordered.present().values())


def test_a_question_mark_in_a_name_is_no_option(images: Path) -> None:
    assert len(open_splits(write(images, TWELVE, "what?x=1.csv"), val=False).present()["train"]) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("?lable=dx", "takes no option 'lable'; did you mean 'label'"),
        ("?label", r"after '\?' come options name=value"),
        ("?label=", r"after '\?' come options name=value"),
        ("?label=a&label=b", "gives 'label' twice"),
        ("?label=lbel", "has no column 'lbel'; there: 'file', 'label'; did you mean 'label'"),
        ("?split=fold", "has no column 'fold'"),
        ("?ordinal=1", "ordinal must be yes or no, got '1'"),
    ],
)
def test_options_that_are_wrong(images: Path, options: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_splits(write(images, TWELVE) + options)


# -------------------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize(
    "words", [("train", "val", "test"), ("Training", "dev", "testing"), ("train", "valid", "TEST")]
)
def test_a_split_column(images: Path, words: tuple[str, str, str]) -> None:
    text = rows(
        lambda i: f"img/{i}.png,{'ab'[i % 2]},{words[0 if i < 6 else 1 if i < 8 else 2]}", head="file,label,split"
    )
    splits = open_splits(write(images, text))
    assert {k: len(v) for k, v in splits.present().items()} == {"train": 6, "val": 2, "test": 4}
    assert splits.present()["test"].image(0).getpixel((0, 0)) == 160
    assert splits.present()["test"].classes == ["a", "b"]


def test_a_rare_class_may_be_missing_from_val_but_not_from_train(images: Path) -> None:
    few = rows(lambda i: f"img/{i}.png,{'abc'[i % 3]},{'train' if i < 6 else 'val'}", 7, head="file,label,split")
    assert open_splits(write(images, few)).present()["val"].classes == ["a", "b", "c"]
    new = rows(lambda i: f"img/{i}.png,{'abc'[i // 4]},{'train' if i < 8 else 'val'}", head="file,label,split")
    with pytest.raises(DataError, match="val has labels that train lacks: 'c'"):
        open_splits(write(images, new))


def test_a_table_a_split(images: Path) -> None:
    train = write(images, rows(lambda i: f"img/{i}.png,{'abc'[i % 3]}", 9), "train.csv")
    val = write(images, "file,label\nimg/9.png,c\nimg/10.png,b\n", "val.csv")
    for splits in (open_splits({"train": train, "val": val}), open_splits(train, val=val)):
        assert splits.present()["val"].classes == ["a", "b", "c"]
        assert splits.present()["val"].labels.tolist() == [2, 1]
    other = write(images, "file,label\nimg/9.png,d\nimg/10.png,b\n", "other.csv")
    with pytest.raises(DataError, match="val and train have different classes; only in val: 'd'"):
        open_splits(train, val=other)


def test_evaluation_finds_a_tables_splits(images: Path) -> None:
    plain = open_split(write(images, TWELVE), "test")
    assert (plain.split, len(plain.images)) == ("all", 12)
    text = rows(lambda i: f"img/{i}.png,{i % 2},{'train' if i < 6 else 'test'}", head="file,label,split")
    assert open_split(write(images, text), "test").split == "test"
    with pytest.raises(DataError, match="no 'val' split; splits there: train, test"):
        open_split(write(images, text), "val")


# ------------------------------------------------------------------------------------------------------------- labels


def test_several_labels_in_a_cell(images: Path) -> None:
    cells = ["a|b", "b", "|", "c|a"]
    train = open_splits(write(images, rows(lambda i: f"img/{i}.png,{cells[i % 4]}")), val=False).present()["train"]
    assert train.multi_label
    assert train.classes == ["a", "b", "c"]
    assert train.labels[:4].tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_several_columns_of_labels(images: Path) -> None:
    text = rows(lambda i: f"img/{i}.png,{i % 2},{int(i % 3 == 0)}.0,{str(i < 4).lower()}", head="file,mass,edema,old")
    train = open_splits(write(images, text) + "?label=mass,edema,old", val=False).present()["train"]
    assert train.classes == ["mass", "edema", "old"]
    assert train.labels[:5].tolist() == [[0, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]]
    with pytest.raises(
        DataError, match=r"row 1: the column 'file' has 'img/0\.png'; columns of several labels hold 0 or 1"
    ):
        open_splits(write(images, text) + "?label=mass,file")


def test_columns_with_a_single_one_a_row_are_classes(images: Path) -> None:
    text = rows(lambda i: f"img/{i}.png,{int(i % 3 == 0)},{int(i % 3 == 1)},{int(i % 3 == 2)}", head="image,MEL,NV,BCC")
    splits = open_splits(write(images, text) + "?label=MEL,NV,BCC", val=False)
    assert splits.present()["train"].labels.tolist() == [0, 1, 2] * 4
    assert "has one of 'MEL', 'NV', 'BCC': taken as one class an image" in splits.notes[0]


def test_numbers_as_labels(images: Path) -> None:
    text = rows(lambda i: f"img/{i}.png,{(1, 2, 10)[i % 3]}.0")
    train = open_splits(write(images, text), val=False).present()["train"]
    assert train.classes == ["1", "2", "10"]
    frame = pd.DataFrame({"file": [str(images / "img" / f"{i}.png") for i in range(12)], "label": [0, 1, 2.0] * 4})
    assert open_splits(frame, val=False).present()["train"].classes == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a first line of column names"),
        ("file,label\n", "has no rows"),
        ("img/0.png,cat\nimg/1.png,dog\n", r"no column for the image .*there: 'img/0\.png', 'cat'"),
        ("file\nimg/0.png\n", r"no column for the label .*several columns of 0 and 1: '…\?label=A,B,C'"),
        ("file,label\nimg/0.png,a\nimg/1.png,\n", "column 'label', train, row 2 has no label"),
        ("file,label\nimg/0.png,0.5\nimg/1.png,1\n", None),
        ("file,label\nimg/0.png,a\n,b\n", "row 2: the column 'file' is empty"),
        ("file,label\nimg/0.png,a,x\n", "row 1 has 3 fields; the first line names 2 columns"),
        ("file,label,label\nimg/0.png,a,x\n", "two columns of one name: 'label'"),
        ("file,label\nimg/0.png,a\nimg/0.png,b\n", r"gives .*img/0\.png two labels: 'a' and 'b'"),
        (
            "file,label,split\nimg/0.png,a,train\nimg/1.png,b,holdout\n",
            "row 2: the column 'split' has 'holdout'; splits",
        ),
        ("file,label\nimg/0.png,a\nimg/1.png,a\n", r"has a single class \('a'\)"),
        ("file,label,split\nimg/0.png,a,test\nimg/1.png,b,test\n", "no training split; splits there: test"),
        ('file,label\nimg/0.png,"a\n', "cannot read .* as a table"),
    ],
)
def test_tables_that_cannot_be_used(images: Path, text: str, message: str | None) -> None:
    source = write(images, text)
    if message is None:  # texts are names, whatever they look like
        assert open_splits(source, val=False).present()["train"].classes == ["0.5", "1"]
        return
    with pytest.raises(DataError, match=message):
        open_splits(source, val=False)


def test_numbers_that_are_no_classes(images: Path) -> None:
    files = [str(images / "img" / f"{i}.png") for i in range(12)]
    with pytest.raises(DataError, match=r"row 1 has the label 0\.5: labels are texts or whole numbers"):
        open_splits(pd.DataFrame({"file": files, "label": [0.5] * 12}))
    with pytest.raises(DataError, match="row 3 has no label"):
        open_splits(pd.DataFrame({"file": files, "label": [0, 1, None] * 4}))


def test_names_in_place_of_labels_are_noticed(images: Path) -> None:
    text = rows(lambda i: f"img/{i % 12}.png,patient {i}", 12, head="file,label")
    assert len(open_splits(write(images, text), val=False).present()["train"].classes) == 12  # too few to tell
    for i in range(12, 24):
        shade(i).save(images / "img" / f"{i}.png")
    with pytest.raises(DataError, match=r"each of the 24 images has a label of its own \('patient 0', .*right column"):
        open_splits(write(images, rows(lambda i: f"img/{i}.png,patient {i}", 24)))


def test_missing_files_are_counted(images: Path) -> None:
    source = write(images, rows(lambda i: f"img/{i}.png,{i % 2}", 30))
    with pytest.raises(DataError) as error:
        open_splits(source)
    found = re.search(
        r"18 of 30 files in .* do not exist below (\S+): (.*) and 13 more\. .*\?root=FOLDER", str(error.value)
    )
    assert found is not None
    assert found[1] == str(images)
    assert found[2] == ", ".join(f"'img/{i}.png'" for i in range(12, 17))


# ------------------------------------------------------------------------------------------------------------ Parquet


def test_parquet_with_paths_equals_csv(images: Path) -> None:
    frame = pd.read_csv(write(images, TWELVE))
    frame.to_parquet(images / "labels.parquet")
    one, two = (open_splits(images / f"labels.{end}", val=0.25) for end in ("csv", "parquet"))
    assert one.fingerprint() == two.fingerprint()
    assert two.present()["val"].where(0) == one.present()["val"].where(0)


def hub_table(labels: list[int], values: list[int], path: Path, **extra: Any) -> Path:
    """A file as the datasets library writes it: encoded images inside, class names in its notes."""
    label = {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}
    note = json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": label}}})
    table = pa.table({"image": [{"bytes": encoded(v), "path": None} for v in values], "label": labels, **extra})
    pq.write_table(table.replace_schema_metadata({"huggingface": note}), path)
    return path


def test_parquet_with_images_inside(tmp_path: Path) -> None:
    path = hub_table([0, 1, 2, 1], [5, 105, 205, 155], tmp_path / "some.parquet")
    train = open_splits(path, val=False).present()["train"]
    assert train.classes == ["cat", "dog", "owl"]
    assert train.labels.tolist() == [0, 1, 2, 1]
    assert [train.image(i).getpixel((0, 0)) for i in range(4)] == [5, 105, 205, 155]
    assert train.where(2).startswith("row 3 of train of ")
    few = hub_table([0, 2], [5, 205], tmp_path / "few.parquet")
    assert open_splits({"train": path, "test": few}, val=False).present()["test"].labels.tolist() == [0, 2]


def test_parquet_with_plain_bytes_lists_and_a_bad_image(tmp_path: Path) -> None:
    contents = [encoded(5), encoded(105), b"broken", encoded(205)]
    labels = [["a"], ["b", "a"], [], ["c"]]
    pq.write_table(pa.table({"img": contents, "labels": labels}), tmp_path / "x.parquet")
    train = open_splits(tmp_path / "x.parquet", val=False).present()["train"]
    assert train.labels.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]]
    with pytest.raises(DataError, match=r"cannot read the image row 3 of train of .*x\.parquet"):
        train.image(2)
    skipped = open_splits(tmp_path / "x.parquet", val=False, on_bad="skip")
    assert [skipped.present()["train"].image(i).getpixel((0, 0)) for i in range(3)] == [5, 105, 205]
    assert "left out 1 unreadable image(s) of train: 'row 3 of" in skipped.notes[0]


def test_parquet_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"cannot read .*x\.parquet as a Parquet file"):
        open_splits(tmp_path / "x.parquet")


# ------------------------------------------------------------------------------------------------------------- whole


def test_a_table_trains_and_is_evaluated(images: Path) -> None:
    text = rows(lambda i: f"img/{i}.png,{'light' if i > 5 else 'dark'}")
    source = write(images, text)
    options = {**QUICK, "epochs": 15, "batch_size": 4, "lr": 0.01}
    result = zoo.finetune(tiny_net(num_classes=2), source, out=images / "run", val=False, **options)
    assert result.classes == ["dark", "light"]
    assert zoo.evaluate(result.model, source)["accuracy"] == 1.0
    part = write(images, "file,label\nimg/11.png,light\nimg/10.png,light\n", "part.csv")
    assert zoo.evaluate(result.model, part)["accuracy"] == 1.0
