"""KaryoNet's checkpoints in our layout and back: its learned dispatch (DAM) and its interaction of features (MFIM).

A whole checkpoint of either network has the image trunk too, which is left out: only these modules are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from zoo.errors import ConversionError

Part = Literal["dam", "mfim"]
_DAM = re.compile(r"(?:module\.)?((?:lstm_(?:row|col)2?|hidden2tag_[13])\..+)")
_MFIM = re.compile(r"(?:module\.)?(pair(?:bn|conv)\d+\..+|transformer\.encoder\.layers\..+|fc[12]\..+)")
_NEEDED: dict[Part, tuple[str, ...]] = {
    "dam": ("lstm_row.weight_ih_l0", "lstm_col2.weight_hh_l0_reverse", "hidden2tag_3.weight"),
    "mfim": ("pairconv10.weight", "pairbn4.running_var", "transformer.encoder.layers.0.norm2.bias"),
}
_TO_OURS = (
    (re.compile(r"^pair(bn|conv)(\d+)\."), r"pair_map.\1\2."),
    (re.compile(r"^transformer\.encoder\."), "encoder."),
    (re.compile(r"^fc1\."), "fc_type."),
    (re.compile(r"^fc2\."), "fc_polarity."),
)
_TO_OFFICIAL = (
    (re.compile(r"^pair_map\.(bn|conv)(\d+)\."), r"pair\1\2."),
    (re.compile(r"^encoder\."), "transformer.encoder."),
    (re.compile(r"^fc_type\."), "fc1."),
    (re.compile(r"^fc_polarity\."), "fc2."),
)


def convert_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of `KaryotypeAssignment` or of `CaseInteraction`, out of a checkpoint of the official code.

    Args:
        state: of the module or of a whole network, without container keys; `module.` before all names is dropped.

    Returns:
        The state dict, and notes for people, a line each.

    Raises:
        ConversionError: neither module is there, or a part of it is missing.
    """
    part = _part(state)
    pattern = _DAM if part == "dam" else _MFIM
    found = {match[1]: tensor for key, tensor in state.items() if (match := pattern.fullmatch(key))}
    if missing := [key for key in _NEEDED[part] if key not in found]:
        raise ConversionError(f"an official checkpoint of {_NAMES[part]} has {', '.join(missing)}; this one has not")
    dim = found["pairconv10.weight"].shape[0] // 2 if part == "mfim" else None
    foreign = [k for k in found if k in ("fc1.weight", "fc2.weight") and found[k].shape[1] != dim]
    found = {key: value for key, value in found.items() if key.replace("bias", "weight") not in foreign}
    left = len(state) - len(found)
    notes = [f"{left} tensors of the image trunk are left out"] if left else []
    if part == "dam":
        return found, notes
    return {_rename(key, _TO_OURS): tensor for key, tensor in found.items()}, notes


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of our modules with the official code's names.

    Raises:
        ConversionError: it is of neither module.
    """
    named = {_rename(key, _TO_OFFICIAL): tensor for key, tensor in state.items()}
    part = _part(named)
    pattern = _DAM if part == "dam" else _MFIM
    if strange := [key for key in named if not pattern.fullmatch(key)]:
        raise ConversionError(f"{_NAMES[part]} has no {', '.join(strange[:10])}")
    return named


def infer_variant(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Constructor options of the module that a state dict is of, in the official layout or in ours.

    The number of heads is not among them: tensors do not tell it.

    Raises:
        ConversionError: it is of neither module.
    """
    official = {_rename(key.removeprefix("module."), _TO_OFFICIAL): tensor for key, tensor in state.items()}
    if _part(official) == "dam":
        return {
            "hidden_dim": official["lstm_row.weight_hh_l0"].shape[1],
            "head_dim": official["hidden2tag_1.weight"].shape[0],
            "num_layers": sum(1 for key in official if re.fullmatch(r"lstm_row\.weight_hh_l\d+", key)),
        }
    dim = official["pairconv10.weight"].shape[0] // 2
    classes = [
        official[key].shape[0] if key in official and official[key].shape[1] == dim else 0
        for key in ("fc1.weight", "fc2.weight")
    ]
    return {
        "dim": dim,
        "ff_dim": official["transformer.encoder.layers.0.linear1.weight"].shape[0],
        "num_layers": sum(
            1 for key in official if re.fullmatch(r"transformer\.encoder\.layers\.\d+\.norm1\.bias", key)
        ),
        "num_classes": (classes[0], classes[1]) if classes[1] else classes[0],
    }


_NAMES: dict[Part, str] = {"dam": "KaryotypeAssignment (DAM)", "mfim": "CaseInteraction (MFIM)"}


def _part(state: Mapping[str, Tensor]) -> Part:
    names = {key.removeprefix("module.") for key in state}
    if any(name.startswith("lstm_row") for name in names):
        return "dam"
    if any(name.startswith("pairconv") for name in names):
        return "mfim"
    some = ", ".join(list(state)[:10])
    raise ConversionError(f"neither lstm_row (DAM) nor pairconv10 (MFIM) is among {len(state)} names: {some}")


def _rename(key: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for pattern, new in rules:
        key, count = pattern.subn(new, key)
        if count:
            break
    return key
