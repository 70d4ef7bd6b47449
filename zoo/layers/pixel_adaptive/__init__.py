"""Upsampling that decides for every pixel how much work its colour is worth."""

from zoo.layers.pixel_adaptive.coordinates import make_coords
from zoo.layers.pixel_adaptive.mlp import PixelUpsampler

__all__ = ["PixelUpsampler", "make_coords"]
