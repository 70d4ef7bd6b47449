"""Some classes of a built-in data set, and Fashion-MNIST as images."""

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.training.data.fashion_mnist import INSTALLED
from zoo.training.data.source import open_splits


def test_classes_are_numbered_in_the_order_given_and_keep_their_names_and_images():
    whole, some = open_splits("digits"), open_splits("digits?classes=6,3")
    for split, images in some.present().items():
        of_whole = whole.present()[split]
        assert images.classes == ["6", "3"]
        kept = np.flatnonzero(np.isin(of_whole.labels, (3, 6)))
        assert len(images) == len(kept)
        for k in (0, len(kept) - 1):
            np.testing.assert_array_equal(images.image(k), of_whole.image(kept[k]))
            assert images.classes[images.labels[k]] == of_whole.classes[of_whole.labels[kept[k]]]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digits?classes=3", "two or more different"),
        ("digits?classes=3,3", "two or more different"),
        ("digits?classes=3,ten", "no class 'ten'"),
        ("digits?clases=3,6", "did you mean 'classes'"),
        ("digits_bags?classes=1,2", "takes no option 'classes'"),
    ],
)
def test_what_is_no_choice_of_classes_is_refused(source, message):
    with pytest.raises(DataError, match=message):
        open_splits(source)


@pytest.mark.skipif(not INSTALLED.is_dir(), reason="the Debian package dataset-fashion-mnist is missing")
def test_fashion_mnist_by_names_and_by_numbers():
    splits = open_splits("fashion_mnist?classes=T-shirt/top,trouser")
    by_number = open_splits("fashion_mnist?classes=0,1")
    assert splits.present()["train"].classes == ["T-shirt/top", "trouser"]
    assert splits.fingerprint() == by_number.fingerprint()
    assert splits.name == by_number.name == "fashion_mnist_T-shirt-top_trouser"
    assert {name: len(images) for name, images in splits.present().items()} == {
        "train": 9989,
        "val": 2011,
        "test": 2000,
    }
