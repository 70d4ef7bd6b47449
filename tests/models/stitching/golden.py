"""The golden stitched networks: their data, and the same networks of timm's anchors."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from zoo.models.stitching.network import StitchNet

FOLDER = Path(__file__).parents[2] / "golden" / "stitch"
#: Registered models whose anchors are an argument, by golden network.
OPEN = {
    "snnet_vit_tiny": "snnet_deit",
    "snnet_vit_ls_init": "snnet_deit",
    "snnet_swin_tiny": "snnet_swin",
    "snnetv2_tiny": "snnetv2_deit3",
}


@cache
def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    return json.loads((FOLDER / f"{name}.json").read_text()), load_file(FOLDER / f"{name}.safetensors")


def official_state(name: str) -> dict[str, Tensor]:
    return {key.removeprefix("state."): value for key, value in golden(name)[1].items() if key.startswith("state.")}


def options_of(name: str) -> dict[str, Any]:
    """Anchors as timm's names and options, and the rules by which they are stitched."""
    k = golden(name)[0]["kwargs"]
    shared = {key: k[key] for key in ("img_size", "patch_size", "mlp_ratio", "num_classes")}
    if name == "snnet_swin_tiny":
        shared |= {"name": "swin_tiny_patch4_window7_224", "window_size": k["window_size"]}
        anchors = [{**shared, **anchor} for anchor in k["anchors"]]
        return {"anchors": anchors, "cuts": "paired", "legacy_layer_map": True}
    if name == "snnetv2_tiny":
        shared |= {"name": "deit3_small_patch16_224", "init_values": 1e-4}
        anchors = [{**shared, **anchor} for anchor in k["anchors"]]
        return {"anchors": anchors, "cuts": "two_way", "lora_rank": k["lora_r"], "allow_empty_end": True}
    shared |= {"name": "deit_tiny_patch16_224", "depth": k["depth"]}
    sizes = zip(k["embed_dims"], k["num_heads"], strict=True)
    anchors = [{**shared, "embed_dim": width, "num_heads": heads} for width, heads in sizes]
    return {"anchors": anchors, "cuts": "paired", "stitch_norm": False}


def network_of(name: str, **options: Any) -> StitchNet:
    return StitchNet(**{**options_of(name), **options})
