"""Official checkpoints of stitched networks in our layout: anchors as timm has them, stitching layers as they are.

The names of stitching layers are the same. What differs is inside the anchors: Swin Transformers of Microsoft's code
merge patches at the end of a stage, DeiT-III calls its layer scales gamma, LeViT has one flat list of blocks. DeiT and
ResNet are timm's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zoo.errors import ConversionError
from zoo.weights.converters.stitch_anchors import FAMILIES, Family, family_of
from zoo.weights.converters.stitch_rules import explain_mismatch as explain_mismatch
from zoo.weights.converters.stitch_rules import infer_rules

_ANCHOR = re.compile(r"anchors\.(\d+)\.(.+)")
_LAYER = re.compile(r"stitch_layers((?:\.\d+){2,3})\.transform\.(weight|bias|lora_A|lora_B)")
_BUFFERS = ("relative_position_index", "attn_mask", "attention_bias_idxs")
#: Registered models whose anchors are given as an argument; the others have theirs by name.
_OPEN = ("snnet", "snnet_deit", "snnet_swin", "snnet_resnet", "snnet_levit", "snnetv2_deit3")
_SHOWN = 10


def convert_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Map a state dict of the released code of SN-Net or SN-Netv2 to ours; one in our layout stays as it is.

    Args:
        state: `anchors.{a}.*` and `stitch_layers.*`, without `module.` or container keys.

    Returns:
        The new state dict, and notes for people, a line each.

    Raises:
        ConversionError: other names, of which at most ten are listed, or an anchor of a family that is not known.
    """
    strange = [key for key in state if not _ANCHOR.fullmatch(key) and not _LAYER.fullmatch(key)]
    if strange or not state:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise ConversionError(
            f"{len(strange)} of {len(state)} names are not a stitched network's (anchors.0.*, stitch_layers.*): "
            f"{', '.join(strange[:_SHOWN])}{more}; is this a checkpoint of another model?"
        )
    made: dict[str, Tensor] = {}
    notes: list[str] = []
    found: list[Family] = []
    for a, anchor in _anchors(state).items():
        computed = [key for key in anchor if key.endswith(_BUFFERS)]
        if computed:
            notes.append(f"anchor {a}: dropped {len(computed)} buffers that are computed ({computed[0]}, …)")
        anchor = {key: value for key, value in anchor.items() if not key.endswith(_BUFFERS)}
        family = family_of(anchor, a)
        found.append(family)
        own, said = family.convert(anchor)
        notes += [f"anchor {a}: {line}" for line in said]
        made |= {f"anchors.{a}.{key}": value for key, value in own.items()}
    for key, value in state.items():
        if match := _LAYER.fullmatch(key):
            made[key] = _shaped(value, match, found) if match[2] == "weight" else value
    return made, notes


def infer_variant(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """Constructor options that a state dict in our layout calls for, of a model whose anchors are an argument.

    Args:
        state: anchors as timm has them.
        name: registered name of the model; one that fixes its anchors has no options.

    Returns:
        `anchors`, and the rules of stitching that the layers follow.

    Raises:
        ConversionError: an anchor that no model of timm is like, or layers that follow no rule.
    """
    if name not in _OPEN:
        return {}
    anchors = _anchors(state)
    specs, depths, widths = [], [], []
    for a, anchor in anchors.items():
        family = family_of(anchor, a)
        specs.append(family.spec(anchor))
        depths.append(family.depths(anchor))
        widths.append(family.widths(anchor))
    return {"anchors": specs, **infer_rules(state, depths, widths)}


def _anchors(state: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Number -> names without the prefix, in order."""
    anchors: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        if match := _ANCHOR.fullmatch(key):
            anchors.setdefault(int(match[1]), {})[match[2]] = value
    if sorted(anchors) != list(range(len(anchors))) or len(anchors) < 2:
        raise ConversionError(f"anchors 0, 1, … were expected, two or more; found {sorted(anchors) or 'none'}")
    return dict(sorted(anchors.items()))


def _shaped(weight: Tensor, match: re.Match[str], found: list[Family]) -> Tensor:
    """A matrix for features of tokens or channels last, a 1x1 kernel for maps with channels first."""
    place = [int(part) for part in match[1][1:].split(".")]
    front = found[min(place[1], len(found) - 1)] if len(place) == 3 else found[0]
    return weight.reshape(*weight.shape[:2], *((1, 1) if front.channels_first else ()))


__all__ = ["FAMILIES", "convert_official", "explain_mismatch", "infer_variant"]
