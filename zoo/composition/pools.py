"""The global pooling."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from zoo.composition.probe import Probe, grid_of
from zoo.composition.slots import Places, Slot
from zoo.composition.specialise import Specialised, specialise

#: Name of the new child of a model that pools by arithmetic, not by a module.
TOKEN_POOL = "zoo_pool"
_POOL_PATHS = ("global_pool", "head.global_pool", "attn_pool")


class MapPool(Specialised):
    """Runs a pool for tokens where a backbone pools maps.

    Attributes set on the pool:
        zoo_channels: the axis of the channels in the map, 1 or -1.
        zoo_flat: whether (B, C) is expected, or maps of 1 x 1.
        pool_type: as the replaced module said, for timm.
    """

    beneath = ("forward", "zoo_pool_tokens")
    if TYPE_CHECKING:
        zoo_pool_tokens: Callable[[Tensor], Tensor]
        zoo_channels: int
        zoo_flat: bool

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2) if self.zoo_channels == 1 else x.flatten(1, 2)
        pooled = self.zoo_pool_tokens(tokens)
        if self.zoo_flat:
            return pooled
        return pooled[:, :, None, None] if self.zoo_channels == 1 else pooled[:, None, None, :]

    def is_identity(self) -> bool:
        """timm's question whether the features stay unpooled."""
        return False


class TokenPool(Specialised):
    """A model that pools by arithmetic: its features are pooled by `zoo_pool` first.

    The model's own `forward_head` then sees as many tokens as it needs, all of them the pooled one, on which its own
    pooling, whatever it is, changes nothing; norms, dropout and classifier are its own.

    Attributes set on the model:
        zoo_prefix: class and register tokens before the others; the pool does not see them.
        zoo_layout: of the features, "NLC", "NHWC" or "NCHW".
    """

    beneath = ("forward_head", "zoo_forward_head")
    if TYPE_CHECKING:
        zoo_pool: nn.Module
        zoo_forward_head: Callable[[Tensor, bool], Tensor]
        zoo_prefix: int
        zoo_layout: str

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool, then the model's own head (timm's `forward_head`)."""
        if self.zoo_layout == "NLC":
            pooled = self.zoo_pool(x[:, self.zoo_prefix :])
            x = pooled.unsqueeze(1).expand(-1, self.zoo_prefix + 1, -1)
        elif self.zoo_layout == "NHWC":
            x = self.zoo_pool(x.flatten(1, 2))[:, None, None, :]
        else:
            x = self.zoo_pool(x.flatten(2).transpose(1, 2))[:, :, None, None]
        return self.zoo_forward_head(x, pre_logits)


def find_pools(model: nn.Module, seen: Probe) -> Places:
    """The pooling module of a convolutional model, or the features of one that pools by arithmetic."""
    for path in (*_POOL_PATHS, TOKEN_POOL):
        slot = _module_slot(model, path, seen)
        if slot is not None:
            return Places([slot])
    shape = seen.features
    if list(inspect.signature(model.forward_head).parameters)[1:2] != ["pre_logits"]:  # type: ignore[arg-type]
        return Places(left={"forward_head": "it is given more than the features"})
    if shape is None:
        return Places(left={"forward_head": "its features are several tensors"})
    width = getattr(model, "num_features", shape[-1])
    layout = "NLC"
    if len(shape) == 4:
        layout = "NHWC" if shape[-1] == width and getattr(model, "output_fmt", "") != "NCHW" else "NCHW"
    elif len(shape) != 3 or shape[-1] != width:
        return Places(left={"forward_head": f"its features have the shape {shape}"})
    prefix = 0
    if layout == "NLC":
        declared = getattr(model, "num_prefix_tokens", None)
        if declared is None:
            grid = grid_of(shape[1], (seen.image[1], seen.image[2]), (0, 1))
            declared = grid[2] if grid else 0
        prefix = 0 if getattr(model, "pool_include_prefix", False) else int(declared)
        if shape[1] - prefix < 2:
            return Places(left={"forward_head": "its features are the class token alone"})
    dim = shape[1] if layout == "NCHW" else shape[-1]
    return Places([Slot(TOKEN_POOL, {"dim": dim}, layout=layout, facts={"prefix": prefix})])


def _module_slot(model: nn.Module, path: str, seen: Probe) -> Slot | None:
    try:
        module = model.get_submodule(path)
    except AttributeError:
        return None
    if path == TOKEN_POOL:
        facts = {"prefix": model.zoo_prefix}
        return Slot(path, {"dim": seen.calls[path][0].shape[-1]}, layout=model.zoo_layout, facts=facts)  # type: ignore[arg-type]
    if path not in seen.calls:
        return None
    call = seen.calls[path][0]
    if len(call.shape) == 3 and call.out == (call.shape[0], call.shape[2]):
        return Slot(path, {"dim": call.shape[2]}, facts={"pool_type": "map"})
    if len(call.shape) != 4 or call.out is None or len(call.out) not in (2, 4):
        return None
    nhwc = getattr(model, "output_fmt", "NCHW") == "NHWC" and call.out[1] != call.shape[1]
    axis = -1 if nhwc else 1
    flat = len(call.out) == 2
    if not flat and call.out[2 if axis == 1 else 1] != 1:
        return None  # an unpooled map: global_pool=""
    facts = {"axis": axis, "flat": flat, "pool_type": getattr(module, "pool_type", "avg")}
    return Slot(path, {"dim": call.shape[axis]}, layout="NHWC" if nhwc else "NCHW", facts=facts)


def fit_pool(new: nn.Module, slot: Slot, *_: Any) -> nn.Module:
    """Adapt a pool to its place."""
    if slot.path == TOKEN_POOL or slot.layout == "NLC":
        return new
    return specialise(
        new,
        MapPool,
        zoo_channels=slot.facts["axis"],
        zoo_flat=slot.facts["flat"],
        pool_type=slot.facts["pool_type"],
    )
