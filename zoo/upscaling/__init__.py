"""`zoo.upscale` and `zoo.upscale_files`: pictures enlarged by a model, from files to files."""

from zoo.upscaling.files import upscale_files
from zoo.upscaling.picture import Upscaled, upscale

__all__ = ["Upscaled", "upscale", "upscale_files"]
