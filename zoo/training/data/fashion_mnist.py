"""Fashion-MNIST: 70,000 grey images of 28 by 28 pixels in ten classes of garments.

Source: Xiao et al., "Fashion-MNIST" (2017, arXiv 1708.07747).
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.training.data.image_set import ArrayImages, ImageSet, Splits

#: Before a folder that has the files.
FASHION = "fashion_mnist:"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
FACTS: dict[str, Any] = {"licence": "mit", "url": "https://github.com/zalandoresearch/fashion-mnist"}
_GARMENTS = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_VAL_IMAGES = 10_000
#: First bytes of the files: unsigned bytes, in so many dimensions.
_MAGIC = {"images": (2051, 3), "labels": (2049, 1)}


def open_fashion_mnist(folder: str | Path = INSTALLED) -> Splits:
    """Fashion-MNIST: the first 50,000 of the 60,000 training images to train, the other 10,000 val, 10,000 test.

    Args:
        folder: has the four files of the data set, with or without `.gz`.

    Raises:
        DataError: a file is missing, or is not what its name says; how to get it.
    """
    images = fashion_images(folder)
    return Splits("fashion_mnist", images["train"], images["val"], images["test"], facts=dict(FACTS))


def fashion_images(folder: str | Path) -> dict[str, ImageSet]:
    """The images of train, val and test; arguments and errors as of `open_fashion_mnist`."""
    folder = Path(folder).expanduser()
    train, test = (
        ArrayImages(_read(folder, part, "images"), _read(folder, part, "labels"), _GARMENTS, name=f"{part} images")
        for part in ("train", "t10k")
    )
    if len(train) <= _VAL_IMAGES:
        raise DataError(f"{folder} has {len(train)} training images, Fashion-MNIST has 60,000")
    border = len(train) - _VAL_IMAGES
    return {
        "train": train.subset(range(border), "train images"),
        "val": train.subset(range(border, len(train)), "val images"),
        "test": test,
    }


def _read(folder: Path, part: str, what: str) -> np.ndarray:
    magic, dimensions = _MAGIC[what]
    name = f"{part}-{what}-idx{dimensions}-ubyte"
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise DataError(
            f"there is no {name}.gz in {folder}. The files of Fashion-MNIST are in the Debian package "
            "dataset-fashion-mnist (apt-get install dataset-fashion-mnist), or at "
            f"{FACTS['url']}; then give their folder: fashion_mnist:FOLDER, or fashion_mnist_bags:FOLDER"
        )
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path} ({error})") from error
    head = np.frombuffer(content[: 4 * (1 + dimensions)].ljust(4 * (1 + dimensions), b"\0"), dtype=">i4")
    shape = tuple(int(n) for n in head[1:])
    values = np.frombuffer(content, dtype=np.uint8)[4 * (1 + dimensions) :]
    if head[0] != magic or min(shape) < 1 or len(values) != int(np.prod(shape)):
        raise DataError(f"{path} is no whole file of {what}: {len(content):,} bytes, header {head.tolist()}")
    return values.reshape(shape)
