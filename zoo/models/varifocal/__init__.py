"""Varifocal networks: a global look that finds a box, a local look into it, and a decision on both."""

from zoo.models.varifocal.gnet import GNet
from zoo.models.varifocal.lnet import LNet
from zoo.models.varifocal.network import VarifocalNet
from zoo.models.varifocal.output import VarifocalOutput

__all__ = ["GNet", "LNet", "VarifocalNet", "VarifocalOutput"]
