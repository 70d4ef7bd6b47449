"""The networks of the published tables, without values, and a small one with them."""

import json
from functools import cache
from pathlib import Path

from zoo.models.stitching.network import StitchNet

GOLDEN = Path(__file__).parents[2] / "golden" / "stitch"
OFFICIAL = {"cuts": "paired", "legacy_layer_map": True}
PUBLISHED = {
    "deit_ti_s_b": (
        ["deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224"],
        {**OFFICIAL, "stitch_norm": False},
    ),
    "swin_ti_s_b": ([f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")], OFFICIAL),
    "resnet18_resnet50": (["resnet18", "resnet50"], OFFICIAL),
    "resnet18_swin_ti": (["resnet18", "swin_tiny_patch4_window7_224"], OFFICIAL),
    "levit_192_256": (["levit_192", "levit_256"], OFFICIAL),
    "snnetv2_s_l": (["deit3_small_patch16_224", "deit3_large_patch16_224"], {"cuts": "two_way", "lora_rank": 64}),
}
WIDTHS = (12, 16, 24)
_TINY = {"name": "vit_tiny_patch16_224", "img_size": 32, "patch_size": 8, "num_heads": 2, "num_classes": 7}


@cache
def rows_of_table(name: str) -> list[dict]:
    return json.loads((GOLDEN / "tables" / f"{name}.json").read_text())["rows"]


@cache
def published(name: str) -> StitchNet:
    """A published network on the device "meta", and nothing counted yet. Do not change it."""
    anchors, options = PUBLISHED[name]
    return StitchNet(anchors, **options, device="meta")


def tiny(widths=WIDTHS, depth=3, mlp_ratio=4, **options) -> StitchNet:
    """A stitched network of small vision transformers."""
    anchors = [{**_TINY, "embed_dim": width, "depth": depth, "mlp_ratio": mlp_ratio} for width in widths]
    return StitchNet(anchors, **options)
