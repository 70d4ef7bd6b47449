"""A spread of compositions, small, for tests that ask one thing of all."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import zoo

SMALL_SWIN = {"img_size": 56, "embed_dim": 24, "depths": (2, 1), "num_heads": (1, 2)}
#: name -> (base, parts, further arguments).
COMPOSITIONS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "convnet head": ("test_resnet", {"head": "kan"}, {}),
    "vit mlp and pool": ("test_vit", {"mlp": "kan", "pool": "avg"}, {"img_size": 64}),
    "vit mixer on maps": (
        "vit_tiny_patch16_224",
        {"mixer": {"type": "dina", "kernel_size": 3, "where": "last:1"}},
        {"img_size": 96, "depth": 2, "embed_dim": 48, "num_heads": 2},
    ),
    "swin mlp": ("swin_tiny_patch4_window7_224", {"mlp": "kan"}, SMALL_SWIN),
    "convnext mlp and head": ("test_convnext", {"mlp": {"type": "kan", "where": "last:2"}, "head": "kan"}, {}),
    "mlp on channels-first maps": ("test_coatnet", {"mlp": "kan"}, {}),
    "two heads": (
        "deit_tiny_distilled_patch16_224",
        {"head": "kan"},
        {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 2},
    ),
    "convolutional classifier": ("resnetv2_18", {"head": "kan"}, {"channels": (16, 16, 24, 24)}),
    "every part": (
        "test_vit",
        {"head": "linear", "mlp": "mlp", "mixer": "attention", "pool": "avg", "act": "silu"},
        {"img_size": 64},
    ),
    "ours": ("medvit2_kan_nano", {"mlp": "mlp", "mixer": "attention", "head": "linear"}, {}),
}
NAMES = tuple(COMPOSITIONS)


@cache
def _original(name: str) -> nn.Module:
    base, parts, arguments = COMPOSITIONS[name]
    torch.manual_seed(0)
    return zoo.create_model(base, num_classes=5, **parts, **arguments).eval()


def composed(name: str) -> Any:
    """A copy, in evaluation mode, with five classes; always with the same values."""
    return copy.deepcopy(_original(name))


def spec_of(name: str) -> dict[str, Any]:
    """The composition as the keywords of `zoo.create_model`."""
    base, parts, arguments = COMPOSITIONS[name]
    return {"model_name": base, "num_classes": 5, **parts, **arguments}


def images(model: nn.Module, batch: int = 2, seed: int = 0) -> Tensor:
    """Normal images of the size that a model takes."""
    size = zoo.data_config(model)["input_size"]
    return torch.randn(batch, *size, generator=torch.Generator().manual_seed(seed))


def output(model: nn.Module, batch: int = 2) -> Tensor:
    with torch.no_grad():
        return model(images(model, batch))
