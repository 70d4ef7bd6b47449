"""WebDataset shards and torchvision's data sets."""

from __future__ import annotations

import json
import struct
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.errors import DataError
from zoo.training.data import open_splits
from zoo.training.data.loader import Pipeline, batches
from zoo.training.data.transform import eval_transform


def encoded(value: int, form: str = "png") -> bytes:
    stream = BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(stream, form)
    return stream.getvalue()


def shard(path: Path, *samples: dict[str, bytes], start: int = 0, mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for i, sample in enumerate(samples):
            for extension, content in sample.items():
                member = tarfile.TarInfo(f"part/{start + i:06d}.{extension}")
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
    return path


def plain(*values: int, form: str = "png") -> list[dict[str, bytes]]:
    return [{form: encoded(v, form), "cls": str(v % 3).encode()} for v in values]


def test_shards_are_read_by_position(tmp_path: Path) -> None:
    shard(tmp_path / "train-000000.tar", *plain(0, 10, 20, 30))
    shard(tmp_path / "train-000001.tar", *plain(40, 50, form="bmp"), start=4)
    shard(tmp_path / "val-000000.tar", *plain(60, 71))
    for source in (tmp_path, f"{tmp_path}/*.tar"):
        splits = open_splits(f"wds:{source}")
        train, val = splits.present()["train"], splits.present()["val"]
        assert (len(train), len(val), splits.notes) == (6, 2, [])
        assert train.classes == val.classes == ["0", "1", "2"]
        assert train.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert [train.image(i).getpixel((0, 0)) for i in (5, 0, 3)] == [50, 0, 30]
        assert train.where(4) == f"part/000004.bmp in {tmp_path}/train-000001.tar"
    braces = open_splits(f"wds:{tmp_path}/train-{{000000..000001}}.tar", val=False)
    assert len(braces.present()["train"]) == 6
    (tmp_path / "train-000002.tar").write_bytes((tmp_path / "train-000000.tar").read_bytes()[:700])


def test_workers_read_shards(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", *plain(*range(0, 240, 20)))
    data = open_splits(f"wds:{tmp_path}", val=False).present()["train"]
    config: dict[str, Any] = {
        "input_size": (1, 8, 8), "mean": (0.0,), "std": (1.0,), "crop_pct": 1.0, "crop_mode": "center",
        "interpolation": "bilinear",
    }  # fmt: skip
    pipeline = Pipeline(1, eval_transform(config))
    found = list(batches(data, pipeline, [[0, 5, 2], [11, 1]], workers=2))
    shown = [[round(255 * float(image[0, 0, 0])) for image in batch.images] for batch in found]
    assert shown == [[0, 100, 40], [220, 20]]


def test_folders_tell_splits_and_names_tell_classes(tmp_path: Path) -> None:
    shard(tmp_path / "train" / "0.tar", *plain(0, 1, 2))
    shard(tmp_path / "test" / "0.tar", *plain(3, 4))
    (tmp_path / "classnames.txt").write_text("cat\ndog\nowl\n")
    splits = open_splits(f"wds:{tmp_path}", val=False)
    assert splits.present()["test"].classes == ["cat", "dog", "owl"]
    assert splits.present()["test"].labels.tolist() == [0, 1]


def test_labels_in_json_and_text(tmp_path: Path) -> None:
    facts = [{"label": name, "site": site} for name, site in (("b", "x"), ("a", "y"), ("a", "x"))]
    shard(tmp_path / "j.tar", *({"png": encoded(9), "json": json.dumps(f).encode()} for f in facts))
    train = open_splits(f"wds:{tmp_path / 'j.tar'}", val=False).present()["train"]
    assert (train.classes, train.labels.tolist()) == (["a", "b"], [1, 0, 0])
    sites = open_splits(f"wds:{tmp_path / 'j.tar'}?label=site", val=False).present()["train"]
    assert sites.labels.tolist() == [0, 1, 0]
    shard(tmp_path / "t.tar", *({"png": encoded(9), "txt": text, "cls": b"7"} for text in (b"up\n", b"down\n")))
    texts = open_splits(f"wds:{tmp_path / 't.tar'}?label=txt", val=False).present()["train"]
    assert texts.classes == ["down", "up"]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"cls": b"0"}, "the sample 'part/000000' has no image, only 'cls'"),
        ({"png": b"", "meta": b"0"}, r"the sample 'part/000000' has no label: expected \.cls, \.txt, \.json"),
        ({"png": b"", "json": b"{"}, r"the sample 'part/000000': cannot read its \.json"),
        ({"png": b"", "json": b'{"caption": "x"}'}, "its .json has no label under label, .*; keys: 'caption'"),
        ({"png": b"", "cls": b" "}, "train, row 1 has no label"),
    ],
)
def test_shards_that_cannot_be_used(tmp_path: Path, sample: dict[str, bytes], message: str) -> None:
    shard(tmp_path / "x.tar", sample)
    with pytest.raises(DataError, match=message):
        open_splits(f"wds:{tmp_path}")


def test_shards_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no shards \(\*\.tar\) in .*; there: nothing"):
        open_splits(f"wds:{tmp_path}")
    with pytest.raises(DataError, match=r"no such shards: '.*x-0\.tar', '.*x-1\.tar'"):
        open_splits(f"wds:{tmp_path}/x-{{0..1}}.tar")
    shard(tmp_path / "zipped.tar", *plain(1), mode="w:gz")
    with pytest.raises(DataError, match=r"cannot read .*zipped\.tar as an uncompressed tar file"):
        open_splits(f"wds:{tmp_path}")


# ---------------------------------------------------------------------------------------------------------- torchvision


def write_mnist(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 10)):
        pixels = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((28, 28), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())


def test_a_torchvision_data_set_by_timms_name(tmp_path: Path) -> None:
    write_mnist(tmp_path / "FashionMNIST" / "raw")
    splits = open_splits(f"torch/fashion_mnist?root={tmp_path}", val=False)
    assert {k: len(v) for k, v in splits.present().items()} == {"train": 20, "test": 10}
    train = splits.present()["train"]
    assert train.classes[:2] == ["T-shirt/top", "Trouser"]
    assert np.asarray(train.image(7))[0, 0] == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torch/cifar10", r"needs the folder of its files: 'torch/cifar10\?root=FOLDER'"),
        ("torch/cifar10?root=nowhere", "cannot read 'torch/cifar10' from nowhere"),
        ("torch/cifar11?root=nowhere", "timm knows no data set 'torch/cifar11'"),
        ("tfds/beans", r'would be a stream through timm.*tfds\.data_source\("beans", split="train"\)'),
        ("timm:wds/x", "would be a stream through timm.* give wds:FOLDER or hf:NAME"),
    ],
)
def test_names_that_cannot_be_used(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_splits(text)
