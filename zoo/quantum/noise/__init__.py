"""Noise: channels, models of a device, density matrices, quantum trajectories, errors of the readout."""

from zoo.quantum.noise.channels import CHANNELS, Channel, make_channel
from zoo.quantum.noise.model import NoiseModel
from zoo.quantum.noise.readout import ReadoutError

__all__ = ["CHANNELS", "Channel", "NoiseModel", "ReadoutError", "make_channel"]
