"""The contract of every kind of module in words: how it is built, how it is called. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple


class Contract(NamedTuple):
    """One kind's promise.

    Attributes:
        constructor: arguments that every module of the kind takes; its own options follow as keywords.
        call: shapes of the call (B batch, N tokens, C channels, * any leading axes).
        sizes: the arguments among them that are sizes, not options.
    """

    constructor: str
    call: str
    sizes: tuple[str, ...] = ()


_DEVICE = "device=None, dtype=None"
_PROJECTION = ("in_features", "out_features")

CONTRACTS = {
    "head": Contract(f"(in_features, out_features, *, bias=True, {_DEVICE})", "(*, in) -> (*, out)", _PROJECTION),
    "circuit": Contract(f"(in_features, out_features, *, {_DEVICE})", "(B, in) -> (B, out)", _PROJECTION),
    "pool": Contract(f"(dim, *, {_DEVICE})", "(B, N, C) -> (B, C * feat_mult)", ("dim",)),
    "mlp": Contract(
        f"(in_features, hidden_features=None, out_features=None, *, act_layer=None, drop=0.0, {_DEVICE})",
        "(*, C) -> (*, C_out); with layout NCHW (B, C, H, W) -> (B, C_out, H, W)",
        ("in_features", "hidden_features", "out_features"),
    ),
    "mixer": Contract(
        f"(dim, num_heads=8, *, qkv_bias=True, attn_drop=0.0, proj_drop=0.0, {_DEVICE})",
        "(B, N, C) -> (B, N, C); with layout NHWC (B, H, W, C) -> (B, H, W, C)",
        ("dim", "num_heads"),
    ),
    "act": Contract("(); device and dtype only where there are parameters", "(*) -> (*), element by element"),
    "upsampler": Contract(
        f"(in_chans, out_chans, scale, *, {_DEVICE})",
        "(B, C, h, w) -> (B, C_out, scale h, scale w)",
        ("in_chans", "out_chans", "scale"),
    ),
    "stitch": Contract(f"(in_dim, out_dim, *, {_DEVICE})", "(B, N, C) -> (B, N, C_out)", ("in_dim", "out_dim")),
}

#: Of a kind that is built and called as its own page says: memory, localizer, case.
OPEN = Contract("as its page says", "as its page says")
