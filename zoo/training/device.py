"""The check of a device's name against the devices there are."""

from __future__ import annotations

import torch


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
