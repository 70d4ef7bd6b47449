"""Reading data: folders, tables, MedMNIST, Hugging Face, shards, arrays, Datasets; see docs/guides/data.md."""

from zoo.training.data.image_set import ArrayImages, ImageSet, Splits
from zoo.training.data.source import open_split, open_splits

__all__ = ["ArrayImages", "ImageSet", "Splits", "open_split", "open_splits"]
