"""Random compositions, by seed: a small backbone, some of its kinds of parts, modules, options and places."""

from __future__ import annotations

import random
from typing import Any

from tests.composition.models import SMALL_SWIN

_VIT = {"depth": 3, "embed_dim": 48, "num_heads": 2}
#: (base, arguments, kinds that can be replaced in it, how many mlps and mixers it has at least)
BACKBONES: tuple[tuple[str, dict[str, Any], tuple[str, ...], int], ...] = (
    ("test_resnet", {}, ("head", "pool", "act"), 0),
    ("test_efficientnet", {}, ("head", "pool", "act"), 0),
    ("test_byobnet", {}, ("head", "pool", "act"), 0),
    ("test_nfnet", {}, ("head", "pool", "act"), 0),
    ("resnetv2_18", {"channels": [16, 16, 24, 24], "layers": [1, 1, 1, 1]}, ("head", "act"), 0),
    ("test_convnext", {}, ("head", "mlp", "pool", "act"), 4),
    ("test_mambaout", {}, ("head", "pool", "act"), 0),
    ("test_coatnet", {}, ("head", "mlp", "pool", "act"), 2),
    ("test_vit", {"img_size": 64}, ("head", "mlp", "mixer", "pool", "act"), 6),
    ("vit_tiny_patch16_224", {"img_size": 96, **_VIT}, ("head", "mlp", "mixer on maps", "pool", "act"), 3),
    ("vit_tiny_r_s16_p8_224", {"img_size": 64, **_VIT}, ("head", "mlp", "mixer", "pool"), 3),
    ("deit_tiny_distilled_patch16_224", {"img_size": 32, **_VIT}, ("head", "mlp", "mixer", "act"), 3),
    ("swin_tiny_patch4_window7_224", SMALL_SWIN, ("head", "mlp", "pool", "act"), 3),
    ("test_vit_relpos", {"img_size": 64}, ("head", "mlp", "pool", "act"), 4),
    (
        "vit_tiny_patch16_224",
        {"img_size": [96, 112], **_VIT, "class_token": False, "global_pool": "avg"},
        ("head", "mlp", "mixer on maps", "pool"),
        3,
    ),
    ("medvit2_kan_nano", {}, ("head", "mlp", "mixer", "pool"), 3),
)
_ACTS = ("relu", "silu", "gelu", "mish", "hardswish", {"type": "leaky_relu", "negative_slope": 0.2}, "swish")


def random_spec(seed: int) -> dict[str, Any]:
    """The composition of a seed: always the same, and every seed of another backbone than the one before."""
    rng = random.Random(seed)
    base, arguments, kinds, blocks = BACKBONES[seed % len(BACKBONES)]
    chosen = rng.sample(kinds, rng.randint(1, len(kinds)))
    spec: dict[str, Any] = {"base": base, **arguments}
    if "act" in chosen and "mlp" in chosen:
        chosen.remove("act")  # it would be inside of what is replaced
    for kind in chosen:
        slot, _, maps = kind.partition(" on ")
        spec[slot] = _part(rng, slot, blocks, bool(maps))
    spec["num_classes"] = rng.choice([1, 2, 5, 11, 17])
    if rng.random() < 0.3:
        spec["in_chans"] = rng.choice([1, 2, 4])
    if rng.random() < 0.2 and "drop_rate" not in spec:
        spec["drop_rate"] = 0.1
    return spec


def _part(rng: random.Random, slot: str, blocks: int, maps: bool) -> Any:
    if slot == "head":
        return rng.choice(
            ["kan", "linear", "head/kan", {"type": "kan", "grid_size": 4}, {"type": "linear", "bias": False}]
        )
    if slot == "pool":
        return rng.choice(["avg", {"type": "avg"}, "pool/avg"])
    if slot == "act":
        return rng.choice(_ACTS)
    if slot == "mlp":
        part = rng.choice(
            [
                {"type": "kan", "grid_size": 3, "grid_range": [-1.5, 1.5]},
                {"type": "mlp"},
                {"type": "kan", "hidden_ratio": 0.5},
            ]
        )
    elif maps:
        # The class token needs a block that mixes it in.
        return {
            "type": rng.choice(["dina", "neighborhood"]),
            "kernel_size": 3,
            "where": rng.choice(["last:1", "first:2"]),
        }
    else:
        part = {"type": "attention"}
    part = dict(part)
    where = rng.choice(["all", "first:1", "last:2", [0, -1], [0], None])
    if where is not None:
        part["where"] = where
    if rng.random() < 0.2:
        part["init"] = "own"
    return part
