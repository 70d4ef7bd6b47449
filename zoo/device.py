"""Devices: the check of a name against those there are, and the way back of a model that was moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def check_device(device: str | torch.device | None) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        ValueError: naming the devices there are.
    """
    if device is None:
        return
    there = ["cpu"]
    if torch.cuda.is_available():
        there += ["cuda", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        there += ["mps", "mps:0"]
    if str(device) not in [*there, "cpu:0"]:
        shown = ", ".join(name for name in there if ":" not in name)
        raise ValueError(
            f"there is no device {str(device)!r} on this machine, only {shown}; leave device (--device) out for the "
            "default"
        )


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """A model that a block moves and switches is afterwards on its device and in its modes again."""
    # A stitched network may have let some of its weights go.
    home = next((p.device for p in model.parameters() if not p.is_meta), torch.device("cpu"))
    training = {module for module in model.modules() if module.training}
    try:
        yield
    finally:
        model.to(home)
        for module in model.modules():
            module.training = module in training
