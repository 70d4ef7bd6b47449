"""KaryoNet's checkpoints in our layout and back: its learned dispatch (DAM) and its interaction of features (MFIM).

A whole checkpoint of either network has the image trunk too, which is left out: only these modules are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.errors import ConversionError

Part = Literal["dam", "mfim"]
_DAM = re.compile(r"(?:module\.)?((?:lstm_(?:row|col)2?|hidden2tag_[13])\..+)")
_MFIM = re.compile(r"(?:module\.)?(pair(?:bn|conv)\d+\..+|transformer\.encoder\.layers\..+|fc[12]\..+)")
_NEEDED: dict[Part, tuple[str, ...]] = {
    "dam": ("lstm_row.weight_hh_l0", "hidden2tag_1.weight"),
    "mfim": ("pairconv10.weight", "transformer.encoder.layers.0.linear1.weight"),
}
_NAMES: dict[Part, str] = {"dam": "KaryotypeAssignment (DAM)", "mfim": "CaseInteraction (MFIM)"}
_PARTS: dict[str, Part] = {name.partition(" ")[0]: part for part, name in _NAMES.items()}
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


def convert_official(state: Mapping[str, Tensor], name: str = "") -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of `KaryotypeAssignment` or of `CaseInteraction`, out of a checkpoint of the official code.

    Args:
        state: of the module or of a whole network, without container keys; `module.` before all names is dropped.
        name: which of the two is wanted; the one that is there if empty.

    Returns:
        The state dict, and notes for people, a line each.

    Raises:
        ConversionError: the module is not there, or a part of it is missing or of another shape.
    """
    part = _part(state, _PARTS.get(name))
    pattern = _DAM if part == "dam" else _MFIM
    found = {match[1]: tensor for key, tensor in state.items() if (match := pattern.fullmatch(key))}
    _refuse_missing(part, [key for key in _NEEDED[part] if key not in found])
    dim = found["pairconv10.weight"].shape[0] // 2 if part == "mfim" else None
    foreign = [k for k in found if k in ("fc1.weight", "fc2.weight") and found[k].shape[1] != dim]
    found = {key: value for key, value in found.items() if key.replace("bias", "weight") not in foreign}
    left = len(state) - len(found)
    notes = [f"{left} tensors of the image trunk are left out"] if left else []
    new = found if part == "dam" else {_rename(key, _TO_OURS): tensor for key, tensor in found.items()}
    _check_against_module(part, new)
    return new, notes


def _check_against_module(part: Part, tensors: Mapping[str, Tensor]) -> None:
    """Compare with the module that the tensors call for, built without memory."""
    from zoo.layers.karyonet import CaseInteraction, KaryotypeAssignment

    with torch.device("meta"):
        module = (KaryotypeAssignment if part == "dam" else CaseInteraction)(**infer_variant(tensors))
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    # Old versions of torch do not count the steps of a batch norm, and torch adds the count.
    missing = [name for name in shapes if name not in tensors and not name.endswith("num_batches_tracked")]
    _refuse_missing(part, [_rename(name, _TO_OFFICIAL) for name in missing])
    for name, tensor in tensors.items():
        if tensor.shape != shapes.get(name):
            official, wanted = _rename(name, _TO_OFFICIAL), list(shapes.get(name, ()))
            what = f"must be {wanted}, got {list(tensor.shape)}" if name in shapes else "has no place"
            raise ConversionError(f"{official} of {_NAMES[part]} {what}")


def _refuse_missing(part: Part, missing: list[str], limit: int = 5) -> None:
    if missing:
        more = f" and {len(missing) - limit} more" if len(missing) > limit else ""
        raise ConversionError(
            f"an official checkpoint of {_NAMES[part]} has {', '.join(missing[:limit])}{more}; this one has not"
        )


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


def _part(state: Mapping[str, Tensor], wanted: Part | None = None) -> Part:
    names = {key.removeprefix("module.") for key in state}
    begins: dict[Part, str] = {"dam": "lstm_row", "mfim": "pairconv"}
    there: list[Part] = [part for part, begin in begins.items() if any(name.startswith(begin) for name in names)]
    some = ", ".join(list(state)[:10])
    if not there:
        raise ConversionError(f"neither lstm_row (DAM) nor pairconv10 (MFIM) is among {len(state)} names: {some}")
    if wanted is not None and wanted not in there:
        raise ConversionError(f"the checkpoint is one of {_NAMES[there[0]]}, not of {_NAMES[wanted]}: {some}")
    return wanted or there[0]


def _rename(key: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for pattern, new in rules:
        key, count = pattern.subn(new, key)
        if count:
            break
    return key
