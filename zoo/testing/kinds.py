"""What each kind is built from, and the shapes of its call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Sizes = Mapping[str, int]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Kind:
    """The part of a kind's contract that is numbers.

    Attributes:
        arguments: names of the sizes that the constructor takes first, in order.
        sizes: a small instance: those sizes, and those of the input.
        row: shape of one input without its batch, from the sizes and the layout.
        result: shape of one output without its batch, from the sizes, the layout and the module.
        layouts: those that the kind knows, the default first.
        keywords: options that every module of the kind takes, with values other than the default.
        independent: in evaluation the output of a row does not depend on the other rows.
    """

    arguments: tuple[str, ...] = ()
    sizes: Sizes = field(default_factory=dict)
    row: Callable[[Sizes, str], Shape] | None = None
    result: Callable[[Sizes, str, Any], Shape] | None = None
    layouts: tuple[str, ...] = ("",)
    keywords: Mapping[str, Any] = field(default_factory=dict)
    independent: bool = True


def _relu() -> Any:
    from torch import nn

    return nn.ReLU()


def _mlp_shape(width: int, sizes: Sizes, layout: str) -> Shape:
    if layout == "NCHW":
        return (width, sizes["height"], sizes["width"])
    return (sizes["tokens"], width)


def _mixer_shape(sizes: Sizes, layout: str) -> Shape:
    places = (sizes["height"], sizes["width"]) if layout == "NHWC" else (sizes["tokens"],)
    return (*places, sizes["dim"])


KINDS = {
    "head": Kind(
        arguments=("in_features", "out_features"),
        sizes={"in_features": 6, "out_features": 4},
        row=lambda s, _: (s["in_features"],),
        result=lambda s, _, module: (s["out_features"],),
        keywords={"bias": False},
    ),
    "circuit": Kind(
        arguments=("in_features", "out_features"),
        sizes={"in_features": 4, "out_features": 3},
        row=lambda s, _: (s["in_features"],),
        result=lambda s, _, module: (s["out_features"],),
    ),
    "pool": Kind(
        arguments=("dim",),
        sizes={"dim": 8, "tokens": 5},
        row=lambda s, _: (s["tokens"], s["dim"]),
        result=lambda s, _, module: (s["dim"] * getattr(module, "feat_mult", 1),),
        layouts=("NLC",),
    ),
    "mlp": Kind(
        arguments=("in_features",),
        sizes={"in_features": 8, "tokens": 5, "height": 3, "width": 4},
        row=lambda s, layout: _mlp_shape(s["in_features"], s, layout),
        result=lambda s, layout, module: _mlp_shape(s.get("out_features", s["in_features"]), s, layout),
        layouts=("NLC", "NCHW"),
        keywords={"act_layer": _relu, "drop": 0.5},
    ),
    "mixer": Kind(
        arguments=("dim", "num_heads"),
        sizes={"dim": 16, "num_heads": 2, "tokens": 6, "height": 14, "width": 15},
        row=_mixer_shape,
        result=lambda s, layout, module: _mixer_shape(s, layout),
        layouts=("NLC", "NHWC"),
        keywords={"qkv_bias": False, "attn_drop": 0.5, "proj_drop": 0.5},
    ),
    "act": Kind(
        sizes={"tokens": 5, "features": 8},
        row=lambda s, _: (s["tokens"], s["features"]),
        result=lambda s, _, module: (s["tokens"], s["features"]),
    ),
    "upsampler": Kind(
        arguments=("in_chans", "out_chans", "scale"),
        sizes={"in_chans": 4, "out_chans": 3, "scale": 2, "height": 5, "width": 6},
        row=lambda s, _: (s["in_chans"], s["height"], s["width"]),
        result=lambda s, _, module: (s["out_chans"], s["scale"] * s["height"], s["scale"] * s["width"]),
    ),
    "stitch": Kind(
        arguments=("in_dim", "out_dim"),
        sizes={"in_dim": 6, "out_dim": 8, "tokens": 5},
        row=lambda s, _: (s["tokens"], s["in_dim"]),
        result=lambda s, _, module: (s["tokens"], s["out_dim"]),
        layouts=("NLC",),
    ),
    "memory": Kind(independent=False),
    "localizer": Kind(independent=False),
    "case": Kind(independent=False),
}
