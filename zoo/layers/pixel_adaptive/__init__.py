"""Upsampling that decides for every pixel how much work its colour is worth."""

from zoo.layers.pixel_adaptive.coordinates import make_coords
from zoo.layers.pixel_adaptive.loss import pcsr_loss
from zoo.layers.pixel_adaptive.mlp import PixelUpsampler
from zoo.layers.pixel_adaptive.upsampler import PCSRUpsampler

__all__ = ["PCSRUpsampler", "PixelUpsampler", "make_coords", "pcsr_loss"]
