"""Official MedViTV2 checkpoints in our layout, and back.

The names are the same. What differs: every global block of the released code holds a second feed-forward that it never
calls (`features.{i}.conv.*`), which our blocks do not have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ConversionError

_BN = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_LINEAR = r"(weight|bias)"
_KAN = rf"layers\.\d+\.(layernorm\.{_LINEAR}|rbf\.grid|spline_linear\.weight|base_linear\.{_LINEAR})"
_ATTENTION = rf"(rpb|qkv\.{_LINEAR}|proj\.{_LINEAR})"
_BLOCK = (
    rf"(patch_embed|projection)\.(conv\.weight|norm\.{_BN})|norm[12]\.{_BN}|attn\.{_ATTENTION}"
    rf"|conv\.conv\.([037]\.weight|[148]\.{_BN}|6\.fc\.[02]\.{_LINEAR})"
    rf"|e_mhsa\.((q|k|v|proj)\.{_LINEAR}|norm\.{_BN})"
    rf"|mhca\.((group_conv3x3|projection)\.weight|norm\.{_BN})|kan\.{_KAN}"
)
_MODEL = re.compile(
    rf"stem\.[0-3]\.(conv\.weight|norm\.{_BN})|features\.\d+\.({_BLOCK})|norm\.{_BN}|proj_head\.0\.{_LINEAR}"
)
_LAYER = re.compile(rf"{_BLOCK}|{_KAN}|{_ATTENTION}")
_SHOWN = 10

_SIZES = {
    "tiny": ((64, 128, 192, 384), (2, 2, 6, 1)),
    "small": ((64, 128, 256, 512), (2, 2, 6, 2)),
    "base": ((96, 192, 384, 768), (2, 2, 6, 2)),
    "large": ((96, 256, 512, 1024), (2, 2, 6, 2)),
}


def convert_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Map a state dict of the released code to ours: a whole model, a block, a KAN or an attention.

    Args:
        state: official names, without `module.` or container keys.

    Returns:
        The new state dict, and notes for people, a line each.

    Raises:
        ConversionError: names that belong to none of these; at most ten are listed.
    """
    known = _MODEL if any(key.startswith(("stem.", "features.")) for key in state) else _LAYER
    strange = [key for key in state if not known.fullmatch(key)]
    if strange:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise ConversionError(
            f"{len(strange)} of {len(state)} names are not MedViTV2's: {', '.join(strange[:_SHOWN])}{more}; "
            "is this a checkpoint of another model, or does it carry a prefix?"
        )
    dead = [key for prefix in _global_blocks(state) for key in state if key.startswith(f"{prefix}conv.")]
    left_out = set(dead)
    notes = []
    if dead:
        places = [f"{prefix}conv" for prefix in _global_blocks(state)]
        notes.append(f"dropped {len(dead)} tensors of {', '.join(places)}: the released code never uses them")
    if any(".base_linear." in key for key in state):
        notes.append("the KAN layers have a SiLU branch: build with kan_base_branch=True")
    if known is _MODEL:
        notes.append(
            "weights do not tell token order or dilation: those published were trained in memory order, undilated"
        )
    return {key: value for key, value in state.items() if key not in left_out}, notes


def export_official(state: Mapping[str, Tensor], *, seed: int = 0) -> dict[str, Tensor]:
    """The state dict in the released code's layout, its unused feed-forwards filled with initial values.

    Args:
        state: of a `MedViT2` or a `GFPBlock`.
        seed: of the values that nothing ever reads.
    """
    generator = torch.Generator().manual_seed(seed)
    official = dict(state)
    for prefix in _global_blocks(state):
        kan = state[f"{prefix}kan.layers.0.spline_linear.weight"]
        channels = state[f"{prefix}norm2.weight"].shape[0]
        ratio = kan.shape[0] // channels

        def draw(*shape: int, like: Tensor = kan) -> Tensor:
            value = torch.empty(shape)
            nn.init.trunc_normal_(value, std=0.02, generator=generator)
            return value.to(like)

        wide = ratio * channels
        place = f"{prefix}conv.conv"
        official[f"{place}.0.weight"] = draw(wide, channels, 1, 1)
        official[f"{place}.3.weight"] = draw(wide, 1, 3, 3)
        official[f"{place}.6.fc.0.weight"] = draw(ratio, wide)
        official[f"{place}.6.fc.0.bias"] = kan.new_zeros(ratio)
        official[f"{place}.6.fc.2.weight"] = draw(wide, ratio)
        official[f"{place}.6.fc.2.bias"] = kan.new_zeros(wide)
        official[f"{place}.7.weight"] = draw(channels, wide, 1, 1)
        for index, width in ((1, wide), (4, wide), (8, channels)):
            norm = f"{place}.{index}"
            official |= {f"{norm}.weight": kan.new_ones(width), f"{norm}.bias": kan.new_zeros(width)}
            official |= {f"{norm}.running_mean": kan.new_zeros(width), f"{norm}.running_var": kan.new_ones(width)}
            official[f"{norm}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64, device=kan.device)
    return official


def infer_variant(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a whole model's state dict says of the model: constructor options, and the registered name or None.

    Returns:
        `name`, `dims`, `depths`, `stem_chs`, `num_classes`, `in_chans`, `kan_base_branch`.

    Raises:
        ConversionError: not a MedViTV2 whose stages can be told apart.
    """
    indices = sorted({int(key.split(".")[1]) for key in state if re.match(r"features\.\d+\.", key)})
    if not indices or indices != list(range(len(indices))):
        raise ConversionError(f"blocks features.0 to features.N were expected, found {indices}")
    kinds = "".join("G" if f"features.{i}.kan.layers.0.rbf.grid" in state else "L" for i in indices)
    # Stage 2 starts at the first later block that changes resolution or width, and ends with its global block.
    second = next((i for i in indices[1:] if f"features.{i}.patch_embed.conv.weight" in state), None)
    shape = None if second is None else re.fullmatch(r"(L*G)((?:LLG)+)(G+)", kinds[second:])
    if second is None or shape is None:
        raise ConversionError(
            f"the blocks {kinds!r} (L local, G global) are not the four stages of a MedViTV2: local blocks; local "
            "blocks and a global one; triples of two local and a global one; global blocks"
        )
    depths = (second, *(len(part) for part in shape.groups()))
    firsts = (0, second, second + depths[1], second + depths[1] + depths[2])
    dims = tuple(state[f"features.{i}.norm2.weight"].shape[0] for i in firsts)
    size = next((n for n, (d, k) in _SIZES.items() if (d, k) == (dims, depths)), None)
    head = state.get("proj_head.0.weight")
    return {
        "name": f"medvit2_kan_{size}" if size else None,
        "dims": dims,
        "depths": depths,
        "stem_chs": tuple(state[f"stem.{i}.conv.weight"].shape[0] for i in range(3)),
        "num_classes": 0 if head is None else head.shape[0],
        "in_chans": state["stem.0.conv.weight"].shape[1],
        "kan_base_branch": any(".base_linear." in key for key in state),
    }


def _global_blocks(state: Mapping[str, Tensor]) -> list[str]:
    """Prefixes of the global blocks: "features.3." in a model, "" for a block alone."""
    ending = "kan.layers.0.spline_linear.weight"
    return [key.removesuffix(ending) for key in state if key.endswith(ending)]
