"""Reading data: an image folder, a MedMNIST `.npz`, the digits, arrays, or any torch Dataset."""

from zoo.training.data.image_set import ArrayImages, ImageSet, Splits
from zoo.training.data.source import open_split, open_splits

__all__ = ["ArrayImages", "ImageSet", "Splits", "open_split", "open_splits"]
