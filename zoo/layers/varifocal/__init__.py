"""The varifocal mechanism: find the box that matters in an image, crop it, and look again."""

from zoo.layers.varifocal.boxcar import boxcar_mask
from zoo.layers.varifocal.checks import check_boxes
from zoo.layers.varifocal.crop import VarifocalCrop, varifocal_crop
from zoo.layers.varifocal.localization_head import LocalizationHead
from zoo.layers.varifocal.racnn import racnn_crop, racnn_region
from zoo.layers.varifocal.region import centre_form, decode_region, foreground_region, pseudo_region, square_box
from zoo.layers.varifocal.wide_unit import WideUnit

__all__ = [
    "LocalizationHead",
    "VarifocalCrop",
    "WideUnit",
    "boxcar_mask",
    "centre_form",
    "check_boxes",
    "decode_region",
    "foreground_region",
    "pseudo_region",
    "racnn_crop",
    "racnn_region",
    "square_box",
    "varifocal_crop",
]
