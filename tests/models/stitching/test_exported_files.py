"""Paths of further families as files that run without this package, and the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.models.stitching.test_exported import run

ENDINGS = ("pt2", "onnx")
_SWIN = {"depths": [1, 1, 2, 1], "num_heads": [2] * 4, "window_size": 4, "img_size": 64}
_VIT = {"patch_size": 8, "depth": 3, "num_heads": 2, "img_size": 64}
#: Anchors that are not among those of the contract's tests.
FURTHER: dict[str, list[Any]] = {
    "swinv2": [{"name": "swinv2_tiny_window8_256", **_SWIN, "embed_dim": w} for w in (8, 16)],
    "resnetv2": [{"name": "resnetv2_50", "layers": [1, 1, 2, 1], "channels": [w] * 4, "stem_chs": 8} for w in (32, 64)],
    "regnet": ["regnetx_002", "regnety_002"],
    "registers": [{"name": "vit_small_patch14_reg4_dinov2", **_VIT, "embed_dim": w} for w in (8, 16)],
    "scaled": [{"name": "deit3_small_patch16_224", **_VIT, "embed_dim": w} for w in (8, 16)],
    "maps to tokens": [
        {"name": "resnet18", "channels": [8, 8, 16, 16]},
        {"name": "swin_tiny_patch4_window7_224", **_SWIN, "embed_dim": 8},
    ],
}


def write(anchors: list[Any], file: Path, **options: Any) -> None:
    """The first stitched path, in a process of its own: what the file gives is the network's."""
    run(f"""
        import torch, zoo
        torch.manual_seed(0)
        net = zoo.create_model("snnet", anchors={anchors!r}, num_classes=5, **{options!r}).eval()
        made = net.export(next(c.id for c in net._configs if c.cuts and c.usable))
        done = zoo.export(made, {str(file)!r})
        assert done.error is not None and done.error < 1e-5, done
    """)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("family", FURTHER)
def test_further_families(family: str, ending: str, tmp_path: Path) -> None:
    write(FURTHER[family], tmp_path / f"path.{ending}")


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_there_and_back_with_low_rank_layers(ending: str, tmp_path: Path) -> None:
    write(FURTHER["scaled"], tmp_path / f"path.{ending}", cuts="two_way", lora_rank=2)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("snnet_deit_ti_s_b", 24),
        ("snnet_swin_ti_s_b", 13),
        ("snnet_resnet18_swin_ti", 4),
        ("snnet_levit_192_256", 3),
        ("snnetv2_deit3_s_b", 30),
    ],
)
def test_the_published_networks(name: str, number: int, ending: str, tmp_path: Path) -> None:
    """With their own sizes; the file is as large as the path's weights, a little more for what it computes."""
    file = tmp_path / f"path.{ending}"
    run(f"""
        import zoo
        made = zoo.create_model({name!r}).eval().export({number})
        done = zoo.export(made, {str(file)!r}, batch=1)
        assert done.error is not None and done.error < 1e-5, done
        weights = 4 * sum(t.numel() for t in (*made.parameters(), *made.buffers()))
        assert weights < done.size < 1.1 * weights + 3e6, (done.size, weights)
    """)
