"""Any map-style data set that gives (image, label) pairs or dictionaries with those keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.training.data.image_set import ImageSet
from zoo.training.data.labels import number_labels

_IMAGE_KEYS, _LABEL_KEYS = ("image", "img", "pixel_values"), ("label", "labels", "target")


class DatasetImages(ImageSet):
    """Wraps a torch `Dataset` of (image, label) pairs, or a Hugging Face `datasets.Dataset`.

    Labels are taken from the attribute `targets` or `labels` where there is one of the right length, else every item
    is fetched once. Class names come from `classes`, or from the features of a Hugging Face data set, or are the
    labels where these are texts.

    Raises:
        DataError: no length, items of another form, labels that are neither class numbers nor texts.
    """

    def __init__(self, dataset: Any, *, name: str, classes: Sequence[str] | None = None):
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise DataError(f"{name}: {type(dataset).__name__} has no length or no indexing; give a map-style Dataset")
        self.dataset = dataset
        self.name = name
        if len(dataset) == 0:
            raise DataError(f"{name} holds no images")
        numbered = number_labels(self._all_labels(), name, classes or self._class_names())
        super().__init__(numbered.labels, numbered.classes, name=name)
        numbered.mark(self)

    def image(self, index: int) -> Any:
        return self._pair(index)[0]

    def _pair(self, index: int) -> tuple[Any, Any]:
        item = self.dataset[index]
        if isinstance(item, Mapping):
            image = next((item[k] for k in _IMAGE_KEYS if k in item), None)
            label = next((item[k] for k in _LABEL_KEYS if k in item), None)
            if image is None or label is None:
                raise DataError(
                    f"{self.where(index)}: expected keys {_IMAGE_KEYS} and {_LABEL_KEYS}, got {tuple(item)}"
                )
            return image, label
        if isinstance(item, (tuple, list)) and len(item) == 2:
            return item[0], item[1]
        raise DataError(f"{self.where(index)} is a {type(item).__name__}; expected a pair (image, label)")

    def _all_labels(self) -> Any:
        for attribute in ("targets", "labels"):
            known = getattr(self.dataset, attribute, None)
            if known is not None and hasattr(known, "__len__") and len(known) == len(self.dataset):
                return known
        columns = getattr(self.dataset, "column_names", None) or ()
        column = next((key for key in _LABEL_KEYS if key in columns), None)
        if column is not None:  # a Hugging Face data set gives a column without decoding the images
            return self.dataset[column][:]
        labels = [np.asarray(self._pair(i)[1]) for i in range(len(self.dataset))]
        shapes = {label.shape for label in labels}
        if len(shapes) != 1:
            raise DataError(f"{self.name}: labels have different shapes {sorted(shapes)}")
        return [label.tolist() for label in labels]

    def _class_names(self) -> list[str] | None:
        names = getattr(self.dataset, "classes", None)
        if names is None:
            features = getattr(self.dataset, "features", None)
            if isinstance(features, Mapping):
                names = next((getattr(features[k], "names", None) for k in _LABEL_KEYS if k in features), None)
        return None if names is None else [str(n) for n in names]
