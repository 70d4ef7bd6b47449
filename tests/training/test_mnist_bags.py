"""The bags of small images that need no file of one's own: what is drawn, and what is said where files are missing."""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.training.data import open_splits
from zoo.training.data.bags import BagSet
from zoo.training.data.fashion_mnist import INSTALLED
from zoo.training.data.mnist_bags import draw_bags, open_fashion_mnist_bags
from zoo.training.data.source import open_split

installed = pytest.mark.skipif(not INSTALLED.is_dir(), reason="the Debian package dataset-fashion-mnist is missing")

#: Bags, and a digest of which images are in which.
DIGITS = {
    "train": (200, "3d26f29ac6979c18"),
    "val": (100, "126a3e1041f1a3ae"),
    "test": (200, "f5aabe553a2e4b3f"),
}
#: Bags, positive ones, digest.
FASHION = {
    "train": (200, 133, "56f1ff5601735353"),
    "val": (100, 60, "9e7384c5aca3cd59"),
    "test": (500, 311, "18c6f60652ff0d29"),
}


def write(folder, part: str, images: np.ndarray, labels: np.ndarray, *, packed: bool = False) -> None:
    """Files in the format of MNIST: a number of the type, sizes, bytes."""
    for what, values, magic in (("images", images, 2051), ("labels", labels, 2049)):
        head = np.array([magic, *values.shape], dtype=">i4").tobytes()
        content = head + values.astype(np.uint8).tobytes()
        name = f"{part}-{what}-idx{values.ndim}-ubyte"
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


@pytest.fixture
def folder(tmp_path):
    """10,020 training and 30 test images, each of which shows its own number."""
    numbers = np.arange(10_020)
    images = np.zeros((10_020, 28, 28), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = numbers % 256, numbers // 256
    write(tmp_path, "train", images, numbers % 10, packed=True)
    write(tmp_path, "t10k", images[:30], numbers[:30] % 10)
    return tmp_path


def digest(bags: BagSet) -> str:
    drawn = np.concatenate([*bags.places, [len(place) for place in bags.places]]).astype("<i8")
    return hashlib.sha256(drawn.tobytes()).hexdigest()[:16]


def test_a_bag_is_positive_if_it_has_a_nine(folder):
    splits = open_splits(f"fashion_mnist_bags:{folder}")
    assert {k: len(v) for k, v in splits.present().items()} == {"train": 200, "val": 100, "test": 500}
    shown = {}
    for split, bags in splits.present().items():
        numbers = [[int(image[0, 0]) + 256 * int(image[0, 1]) for image in bags.image(k)] for k in range(len(bags))]
        assert bags.labels.tolist() == [int(any(n % 10 == 9 for n in bag)) for bag in numbers]
        assert bags.classes == ["no ankle boot", "ankle boot"]
        shown[split] = {n for bag in numbers for n in bag}
    # Of the training images the last 10,000 are for val.
    assert max(shown["train"]) < 20 <= min(shown["val"])


def test_bags_are_the_same_everywhere():
    """Of the digits by number, so that no other draw goes unnoticed; sizes are those of N(10, 2)."""
    splits = open_splits("digits_bags")
    assert {k: (len(v), digest(v)) for k, v in splits.present().items()} == DIGITS
    sizes = np.array([len(place) for place in splits.train.places])
    assert abs(sizes.mean() - 10) < 0.5
    assert abs(sizes.std() - 2) < 0.3
    again = open_split("digits_bags").images
    assert digest(again) == digest(splits.test)
    other = draw_bags(splits.train.instances, 200, 7, ("no nine", "nine"), "other")
    assert digest(other) != digest(splits.train)


@installed
def test_fashion_bags_are_the_same_everywhere():
    splits = open_splits("fashion_mnist_bags")
    assert {k: (len(v), int(v.labels.sum()), digest(v)) for k, v in splits.present().items()} == FASHION
    assert splits.facts["licence"] == "mit"


def test_what_is_missing_or_broken(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match=r"no train-images-idx3-ubyte\.gz in .*apt-get install dataset-fashion-mnist"):
        open_splits(f"fashion_mnist_bags:{empty}")
    path = folder / "t10k-labels-idx1-ubyte"
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole[:3], b"\0" * len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is no whole file of labels"):
            open_fashion_mnist_bags(folder)
    path.write_bytes(whole)
    packed = folder / "train-images-idx3-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:500])
    with pytest.raises(DataError, match=r"cannot read .*train-images-idx3-ubyte\.gz"):
        open_fashion_mnist_bags(folder)
    packed.unlink()
    write(folder, "train", np.zeros((5, 28, 28)), np.zeros(5))
    for name in folder.glob("train-labels*.gz"):
        name.unlink()
    with pytest.raises(DataError, match="has 5 training images, Fashion-MNIST has 60,000"):
        open_fashion_mnist_bags(folder)
