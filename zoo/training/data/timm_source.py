"""torchvision's data sets by the names that timm gives them: `torch/cifar10?root=data`."""

from __future__ import annotations

from zoo.errors import DataError
from zoo.training.data.image_set import Splits
from zoo.training.data.options_text import split_options, yes_or_no
from zoo.training.data.torch_dataset import DatasetImages

PREFIXES = ("torch/", "tfds/", "timm:")
OPTIONS = ("root", "download")


def open_text(text: str) -> Splits:
    """Read a data set by timm's `create_dataset`: its train as train, its validation as test.

    Args:
        text: `torch/NAME?root=FOLDER`, with `&download=yes` to fetch it.

    Raises:
        DataError: an unknown name, files that are not there, or a source that can only be streamed.
    """
    from timm.data import create_dataset

    source, options = split_options(text.removeprefix("timm:"), OPTIONS)
    kind, _, name = source.partition("/")
    if kind != "torch":
        way = (
            f'{{"train": tfds.data_source("{name}", split="train"), …}}' if kind == "tfds" else "wds:FOLDER or hf:NAME"
        )
        raise DataError(f"{text!r} would be a stream through timm, and images are read by number here; give {way}")
    if "root" not in options:
        raise DataError(f"{text!r} needs the folder of its files: '{source}?root=FOLDER' (&download=yes fetches them)")
    splits = Splits(name=name)
    for split, theirs in (("train", "train"), ("test", "validation")):
        try:
            found = create_dataset(source, root=options["root"], split=theirs, download=yes_or_no(options, "download"))
        except AssertionError as error:
            raise DataError(f"timm knows no data set {source!r} of torchvision's") from error
        except (RuntimeError, OSError, ValueError) as error:
            raise DataError(f"cannot read {source!r} from {options['root']} ({error})") from error
        setattr(splits, split, DatasetImages(found, name=f"{split} of {name}"))
    return splits
