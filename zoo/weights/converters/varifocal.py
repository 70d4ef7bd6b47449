"""Public checkpoints of wide residual networks as trunks of varifocal networks.

The authors of Varifocal-Net published no code and no weights; its trunk is that of WRN-28-10, of which the community
has both. `conv1`, `block{i}.layer.{j}.…`, `convShortcut` and `bn1` become `stem`, `stages.{i-1}.{j}.…`, `shortcut` and
`norm`, at both scales; strides are in no tensor, so trunks of ours with other strides take them, too. What such a
network has not (localisation, classifiers, the decision on both scales) is drawn anew, to be trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ConversionError

_UNIT = re.compile(r"block(\d+)\.layer\.(\d+)\.(bn1|conv1|bn2|conv2|convShortcut)\.(\w+)")
_OURS = ("g_net.", "l_net.", "fusion.")
_SHOWN = 10


def convert_public_wrn(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Map a state dict of the public code to ours.

    Args:
        state: public names, of any depth and width; or our names, which are left as they are.

    Returns:
        The new state dict, whole, and notes for people, a line each.

    Raises:
        ConversionError: names that belong to none of these; at most ten are listed.
    """
    if state and all(key.startswith(_OURS) for key in state):
        return dict(state), []
    trunk, strange, left = {}, [], []
    for key, value in state.items():
        name = _renamed(key)
        if name is not None:
            trunk[name] = value
        else:
            (left if key.startswith("fc.") else strange).append(key)
    if strange or "stem.weight" not in trunk:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise ConversionError(
            f"{len(strange)} of {len(state)} names are not those of a public wide residual network: "
            f"{', '.join(strange[:_SHOWN])}{more}; is this a checkpoint of another model?"
        )
    trunk |= {name: torch.tensor(0) for name in _counters(trunk)}
    notes = ["the trunk of both scales; localisation and classifiers are drawn anew: train them"]
    if left:
        notes.append(f"left out, a classifier of other images: {', '.join(left)}")
    return _whole(trunk), notes


def _renamed(key: str) -> str | None:
    """Our name of a trunk's tensor; None of one that is not a trunk's."""
    if match := _UNIT.fullmatch(key):
        part = "shortcut" if match[3] == "convShortcut" else match[3]
        return f"stages.{int(match[1]) - 1}.{match[2]}.{part}.{match[4]}"
    for public, ours in (("conv1.", "stem."), ("bn1.", "norm.")):
        if key.startswith(public):
            return ours + key.removeprefix(public)
    return None


def _counters(trunk: Mapping[str, Tensor]) -> list[str]:
    """Counters of batches, which some savers leave out."""
    names = (key.removesuffix("running_mean") + "num_batches_tracked" for key in trunk if key.endswith("running_mean"))
    return [name for name in names if name not in trunk]


def _whole(trunk: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a network with this trunk at both scales."""
    from zoo.models.varifocal import VarifocalNet

    sizes = _sizes(trunk)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state: dict[str, Tensor] = VarifocalNet(in_chans=trunk["stem.weight"].shape[1], **sizes).state_dict()
    new = {f"{net}.trunk.{name}": value for net in ("g_net", "l_net") for name, value in trunk.items()}
    other = [name for name in new if name not in state or state[name].shape != new[name].shape]
    missing = [name for name in state if ".trunk." in name and name not in new]
    if other or missing:
        raise ConversionError(f"not a whole wide residual network: {', '.join((other + missing)[:_SHOWN])} do not fit")
    return {**state, **new}


def _sizes(trunk: Mapping[str, Tensor]) -> dict[str, Any]:
    """Widths and depths, as options of the network."""
    units: dict[int, dict[int, int]] = {}
    for key, value in trunk.items():
        if key.endswith(".conv1.weight"):
            _, group, unit, *_ = key.split(".")
            units.setdefault(int(group), {})[int(unit)] = value.shape[0]
    return {
        "stem": trunk["stem.weight"].shape[0],
        "widths": [units[group][0] for group in sorted(units)],
        "depths": [len(units[group]) for group in sorted(units)],
        "strides": [2 if f"stages.{group}.0.shortcut.weight" in trunk else 1 for group in sorted(units)],
    }


def infer_variant(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """Widths and depths of the trunk and classes of the second task, as options of the model.

    Raises:
        ConversionError: a trunk of another kind.
    """
    prefix = "g_net.trunk."
    trunk = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if "stem.weight" not in trunk:
        raise ConversionError("no wide residual trunk")
    second = state.get("g_net.head.fc_polarity.weight")
    return {**_sizes(trunk), "num_polarities": 0 if second is None else second.shape[0]}
