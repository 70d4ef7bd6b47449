"""The anchors of official stitched networks: how each family is told by its names, mapped to timm's, and sized."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ConversionError

State = Mapping[str, Tensor]
Converted = tuple[dict[str, Tensor], list[str]]
_HEAD_DIM = 64  # of DeiT and DeiT-III


@dataclass(frozen=True)
class Family:
    """One family of anchors.

    Attributes:
        name: for messages.
        tell: whether a state dict is of it.
        convert: official names to timm's, with notes; timm's own stay.
        spec: the name and options that timm builds such a network by, from its own names.
        depths: blocks of each stage.
        widths: channels of each stage.
        channels_first: whether its features are maps (B, C, H, W).
    """

    name: str
    tell: Callable[[State], bool]
    convert: Callable[[State], Converted]
    spec: Callable[[State], str | dict[str, Any]]
    depths: Callable[[State], tuple[int, ...]]
    widths: Callable[[State], tuple[int, ...]]
    channels_first: bool = False


def family_of(state: State, number: int) -> Family:
    """The family of an anchor.

    Raises:
        ConversionError: none that is known.
    """
    for family in FAMILIES:
        if family.tell(state):
            return family
    names = ", ".join(family.name for family in FAMILIES)
    raise ConversionError(f"anchor {number} is none of {names}: it has {', '.join(list(state)[:5])}")


def _count(state: State, pattern: str) -> int:
    found = {int(match[1]) for key in state if (match := re.match(pattern, key))}
    return len(found)


# --- DeiT and DeiT-III ------------------------------------------------------------------------------------------------

_VITS = {
    (192, 12, False): "deit_tiny_patch16_224",
    (384, 12, False): "deit_small_patch16_224",
    (768, 12, False): "deit_base_patch16_224",
    (384, 12, True): "deit3_small_patch16_224",
    (768, 12, True): "deit3_base_patch16_224",
    (1024, 24, True): "deit3_large_patch16_224",
}


def _convert_vit(state: State) -> Converted:
    renamed = {re.sub(r"\.gamma_([12])$", r".ls\1.gamma", key): value for key, value in state.items()}
    notes = [] if renamed.keys() == state.keys() else ["gamma_1, gamma_2 of its blocks are ls1.gamma, ls2.gamma here"]
    width = state["pos_embed"].shape[-1]
    if not isinstance(_vit_spec(renamed), str):
        notes.append(
            f"weights do not tell how many heads {width} channels have: {_heads(width)} where the model's name does "
            f"not say (DeiT's have {_HEAD_DIM} channels); for others build it with anchors=[{{'num_heads': …}}, …]"
        )
    return renamed, notes


def _heads(width: int) -> int:
    return width // _HEAD_DIM if width % _HEAD_DIM == 0 else 1


def _vit_spec(state: State) -> str | dict[str, Any]:
    _, tokens, width = state["pos_embed"].shape
    depth, scaled = _vit_depths(state)[0], "blocks.0.ls1.gamma" in state
    patch = state["patch_embed.proj.weight"].shape[-1]
    prefix = 1 if "cls_token" in state and math.isqrt(tokens) ** 2 != tokens else 0
    size = patch * math.isqrt(tokens - prefix)
    name = _VITS.get((width, depth, scaled))
    if name and (patch, size) == (16, 224):
        return name
    options: dict[str, Any] = {"embed_dim": width, "depth": depth, "num_heads": _heads(width), "patch_size": patch}
    options |= {"img_size": size, "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width}
    return {"name": "deit3_small_patch16_224" if scaled else "deit_tiny_patch16_224", **options}


def _vit_depths(state: State) -> tuple[int, ...]:
    return (_count(state, r"blocks\.(\d+)\."),)


def _vit_widths(state: State) -> tuple[int, ...]:
    return (state["pos_embed"].shape[-1],)


# --- Swin Transformers ------------------------------------------------------------------------------------------------

_SWINS: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "tiny",
    (96, (2, 2, 18, 2)): "small",
    (128, (2, 2, 18, 2)): "base",
}
_TABLE = "relative_position_bias_table"


def _convert_swin(state: State) -> Converted:
    from timm import create_model
    from timm.models.swin_transformer import checkpoint_filter_fn

    spec = _swin_spec(state)
    name, options = (spec, {}) if isinstance(spec, str) else (spec["name"], {k: spec[k] for k in spec if k != "name"})
    with torch.device("meta"):
        like = create_model(name, **options)
    old = "layers.0.downsample.reduction.weight" in state
    note = "patches are merged at the start of a stage here, not at the end; head is head.fc"
    return dict(checkpoint_filter_fn(dict(state), like)), [note] if old else []


def _swin_spec(state: State) -> str | dict[str, Any]:
    width, depths = state["patch_embed.proj.weight"].shape[0], _swin_depths(state)
    patch = state["patch_embed.proj.weight"].shape[-1]
    tables = [state[f"layers.{s}.blocks.0.attn.{_TABLE}"] for s in range(len(depths))]
    windows = [(math.isqrt(table.shape[0]) + 1) // 2 for table in tables]
    size = windows[-1] * patch * 2 ** (len(depths) - 1)
    known = _SWINS.get((width, depths))
    if known and (patch, windows, size) == (4, [7] * 4, 224):
        return f"swin_{known}_patch4_window7_224"
    options: dict[str, Any] = {"embed_dim": width, "depths": list(depths), "num_heads": [t.shape[1] for t in tables]}
    options |= {"window_size": max(windows), "patch_size": patch, "img_size": size}
    options["mlp_ratio"] = state["layers.0.blocks.0.mlp.fc1.weight"].shape[0] / width
    return {"name": "swin_tiny_patch4_window7_224", **options}


def _swin_depths(state: State) -> tuple[int, ...]:
    stages = _count(state, r"layers\.(\d+)\.")
    return tuple(_count(state, rf"layers\.{s}\.blocks\.(\d+)\.") for s in range(stages))


def _swin_widths(state: State) -> tuple[int, ...]:
    return tuple(state[f"layers.{s}.blocks.0.norm1.weight"].shape[0] for s in range(len(_swin_depths(state))))


# --- ResNets ----------------------------------------------------------------------------------------------------------

_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}


def _resnet_spec(state: State) -> str:
    key = (_resnet_depths(state), "layer1.0.conv3.weight" in state)
    if key not in _RESNETS:
        kind = "bottlenecks" if key[1] else "pairs of convolutions"
        raise ConversionError(f"no ResNet of {key[0]} blocks of {kind} is known")
    return _RESNETS[key]


def _resnet_depths(state: State) -> tuple[int, ...]:
    return tuple(_count(state, rf"layer{s}\.(\d+)\.") for s in range(1, 5))


def _resnet_widths(state: State) -> tuple[int, ...]:
    last = "conv3" if "layer1.0.conv3.weight" in state else "conv2"
    return tuple(state[f"layer{s}.0.{last}.weight"].shape[0] for s in range(1, 5))


# --- LeViT ------------------------------------------------------------------------------------------------------------

#: Of an attention, and of the two maps of an MLP, in the flat list.
_ATTENTION = {"qkv": "qkv", "kv": "kv", "q.1": "q.ln", "q.ln": "q.ln", "proj.1": "proj.ln", "proj.ln": "proj.ln"}
_MLP = {"0": "ln1", "ln1": "ln1", "2": "ln2", "ln2": "ln2"}


def _convert_levit(state: State) -> Converted:
    if not any(key.startswith("patch_embed.") for key in state):
        return dict(state), []
    places = _levit_places(state)
    made = {_levit_name(key, places): value for key, value in state.items()}
    return made, ["its flat list of blocks is sorted into stages"]


def _levit_places(state: State) -> dict[int, str]:
    """The place of every entry of the flat list: attention and MLP by turns, what halves the map opens a stage."""
    count = _count(state, r"blocks\.(\d+)\.")
    places: dict[int, str] = {}
    stage, block, opened = 0, 0, False
    for number in range(count):
        if f"blocks.{number}.kv.c.weight" in state:
            stage, block, opened = stage + 1, 0, True
            places[number] = f"stages.{stage}.downsample.attn_downsample"
        elif f"blocks.{number}.m.qkv.c.weight" in state:
            places[number] = f"stages.{stage}.blocks.{block}.attn"
        elif opened:
            places[number], opened = f"stages.{stage}.downsample.mlp", False
        else:
            places[number], block = f"stages.{stage}.blocks.{block}.mlp", block + 1
    return places


def _levit_name(key: str, places: Mapping[int, str]) -> str:
    if match := re.fullmatch(r"patch_embed\.(\d)\.(c|bn)\.(\w+)", key):
        return f"stem.conv{int(match[1]) // 2 + 1}.{_leaf(match[2])}.{match[3]}"
    if match := re.fullmatch(r"(head|head_dist)\.l\.(\w+)", key):
        return f"{match[1]}.linear.{match[2]}"
    if match := re.fullmatch(r"blocks\.(\d+)\.(?:m\.)?attention_biases", key):
        return f"{places[int(match[1])]}.attention_biases"
    if match := re.fullmatch(r"blocks\.(\d+)\.(?:m\.)?([\w.]+)\.(c|bn)\.(\w+)", key):
        place = places[int(match[1])]
        part = (_MLP if place.endswith("mlp") else _ATTENTION).get(match[2], match[2])
        return f"{place}.{part}.{_leaf(match[3])}.{match[4]}"
    return key


def _leaf(name: str) -> str:
    return "linear" if name == "c" else name


def _levit_spec(state: State) -> str | dict[str, Any]:
    from timm.models.levit import model_cfgs

    depths, widths = _levit_depths(state), _levit_widths(state)
    attentions = [f"stages.{s}.blocks.0.attn" for s in range(len(depths))]
    heads = tuple(state[f"{place}.attention_biases"].shape[0] for place in attentions)
    values = state[f"{attentions[0]}.proj.ln.linear.weight"].shape[1] // heads[0]
    both = state[f"{attentions[0]}.qkv.linear.weight"].shape[0] // heads[0]
    key_dim = (both - values) // 2
    size = 16 * math.isqrt(state[f"{attentions[0]}.attention_biases"].shape[1])
    sizes = {"embed_dim": widths, "key_dim": key_dim, "num_heads": heads, "depth": depths}
    known = next((name for name, cfg in model_cfgs.items() if cfg == sizes), None)
    if known and (values, size) == (2 * key_dim, 224):
        return known
    options = {key: list(value) if isinstance(value, tuple) else value for key, value in sizes.items()}
    ratio = state["stages.0.blocks.0.mlp.ln1.linear.weight"].shape[0] / widths[0]
    return {"name": "levit_192", **options, "attn_ratio": values / key_dim, "mlp_ratio": ratio, "img_size": size}


def _levit_depths(state: State) -> tuple[int, ...]:
    stages = _count(state, r"stages\.(\d+)\.")
    return tuple(_count(state, rf"stages\.{s}\.blocks\.(\d+)\.") for s in range(stages))


def _levit_widths(state: State) -> tuple[int, ...]:
    stages = range(len(_levit_depths(state)))
    return tuple(state[f"stages.{s}.blocks.0.mlp.ln1.linear.weight"].shape[1] for s in stages)


def _same(state: State) -> Converted:
    return dict(state), []


FAMILIES = (
    Family(
        "Swin Transformer",
        lambda state: f"layers.0.blocks.0.attn.{_TABLE}" in state,
        _convert_swin,
        _swin_spec,
        _swin_depths,
        _swin_widths,
    ),
    Family(
        "LeViT",
        lambda state: "patch_embed.0.c.weight" in state or "stem.conv1.linear.weight" in state,
        _convert_levit,
        _levit_spec,
        _levit_depths,
        _levit_widths,
    ),
    Family(
        "DeiT",
        lambda state: {"pos_embed", "blocks.0.attn.qkv.weight"} <= state.keys(),
        _convert_vit,
        _vit_spec,
        _vit_depths,
        _vit_widths,
    ),
    Family(
        "ResNet",
        lambda state: {"conv1.weight", "layer1.0.conv1.weight"} <= state.keys(),
        _same,
        _resnet_spec,
        _resnet_depths,
        _resnet_widths,
        channels_first=True,
    ),
)
