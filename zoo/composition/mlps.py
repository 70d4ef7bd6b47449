"""The feed-forward part of every block."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from zoo.composition.probe import Call, Probe
from zoo.composition.registered import is_registered
from zoo.composition.slots import Places, Slot, declared_layout, parents
from zoo.composition.spec import Choice
from zoo.composition.specialise import Specialised, original_class, specialise
from zoo.errors import UnsupportedSurgery

# What timm calls them. Squeeze-excite and gated convolution blocks also hold an `fc1` and an `fc2`, under other names.
_NAMED = re.compile(r"(Mlp|MLP|FFN|FeedForward|SwiGLU|MlpWithDepthwiseConv|MlpWithNorm|SwiGLUPacked)$")
# Small networks inside an attention compute its biases, not the features of tokens.
_INSIDE = ("attn", "rel_pos", "self_attn", "attn_in", "attn_out")
# Norms that timm keeps inside the part: they belong to the block and stay.
_NORMS = {"NormMlp": "norm", "ConvMlpWithNorm": "norm2"}


class ChannelsFirst(Specialised):
    """Runs a module for channels-last input on maps (B, C, H, W)."""

    beneath = ("forward", "zoo_on_channels_last")
    if TYPE_CHECKING:
        zoo_on_channels_last: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self.zoo_on_channels_last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelsLast(Specialised):
    """Runs a module for maps (B, C, H, W) on channels-last maps."""

    beneath = ("forward", "zoo_on_channels_first")
    if TYPE_CHECKING:
        zoo_on_channels_first: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self.zoo_on_channels_first(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class WithoutSize(Specialised):
    """Takes the size of the map, which the backbone passes, and has no use for it."""

    beneath = ("forward", "zoo_without_size")
    if TYPE_CHECKING:
        zoo_without_size: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor, feat_size: list[int]) -> Tensor:
        return self.zoo_without_size(x)


class OnRows(Specialised):
    """Runs a circuit, which takes rows, on tokens."""

    beneath = ("forward", "zoo_on_rows")
    if TYPE_CHECKING:
        zoo_on_rows: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self.zoo_on_rows(x.flatten(0, -2)).reshape(x.shape)


class NormBefore(Specialised):
    """Keeps the norm that stood inside the replaced module, before it."""

    beneath = ("forward", "zoo_after_norm")
    if TYPE_CHECKING:
        norm: nn.Module
        zoo_after_norm: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self.zoo_after_norm(self.norm(x))


class NormAfter(Specialised):
    """Keeps the norm that stood inside the replaced module, after it."""

    beneath = ("forward", "zoo_before_norm")
    if TYPE_CHECKING:
        norm2: nn.Module
        zoo_before_norm: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.zoo_before_norm(x))


def find_mlps(model: nn.Module, seen: Probe) -> Places:
    """Feed-forward parts: modules that are called so, keep the shape of their input, and are outside an attention."""
    places = Places()
    for path, module in model.named_modules():
        cls = original_class(module)
        # What our own models call so may do more than a registered MLP does.
        named = _NAMED.search(cls.__name__) and not cls.__module__.startswith("zoo.")
        if not path or not (named or is_registered(module, "mlp")):
            continue
        if any(part in _INSIDE for part in parents(path)) or path not in seen.calls:
            continue
        slot = mlp_slot(path, module, seen.calls[path])
        if slot is None:
            places.left[path] = "it changes the width of its input"
        else:
            places.slots.append(slot)
    return places


def mlp_slot(path: str, module: nn.Module, calls: list[Call]) -> Slot | None:
    """The place that a module is; `None` when it does not keep the shape of its input."""
    call = calls[0]
    if call.out != call.shape or len(call.shape) < 2:
        return None
    layers = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    channels_first = _channels_first(module, call, layers)
    dim = call.shape[1] if channels_first else call.shape[-1]
    hidden = _hidden_width(module, dim, layers)
    drops = [m.p for m in module.modules() if isinstance(m, nn.Dropout)]
    wishes: dict[str, Any] = {"drop": drops[0] if drops else 0.0, "act_layer": _activation(module)}
    if hidden is not None:
        wishes["hidden_features"] = hidden
    norm = _NORMS.get(original_class(module).__name__, "")
    norm = norm if isinstance(getattr(module, norm, None), nn.Module) and norm else ""
    facts = {"takes_size": bool(call.extra), "norm": norm, "map": len(call.shape) == 4}
    return Slot(path, {"in_features": dim, "out_features": dim}, wishes, "NCHW" if channels_first else "NLC", facts)


def _channels_first(module: nn.Module, call: Call, layers: list[nn.Linear | nn.Conv2d]) -> bool:
    if len(call.shape) != 4:
        return False
    if isinstance(module, Specialised):
        return ChannelsFirst in module.zoo_parts[1]
    if layers:
        return isinstance(layers[0], nn.Conv2d)
    # A norm, say: its parameters are as many as there are channels.
    widths = {p.shape[0] for p in module.parameters() if p.ndim == 1}
    return call.shape[1] in widths or call.shape[-1] not in widths


def _hidden_width(module: nn.Module, dim: int, layers: list[nn.Linear | nn.Conv2d]) -> int | None:
    """How wide the part is inside, if it can be told."""
    if isinstance(declared := getattr(module, "hidden_features", None), int):
        return declared
    last = getattr(module, "fc2", None)
    # A gated part is half as wide inside as its first layer: what enters the last one counts.
    for layer in last.modules() if isinstance(last, nn.Module) else ():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    widths = (layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels for layer in layers)
    return next((width for width in widths if width != dim), None)


def _activation(module: nn.Module) -> type[nn.Module] | None:
    act = getattr(module, "act", None)
    return type(act) if isinstance(act, nn.Module) and not list(act.parameters()) else None


def fit_mlp(new: nn.Module, slot: Slot, choice: Choice, old: nn.Module, *_: Any) -> nn.Module:
    """Adapt a feed-forward module to its place: rows, layout, the size it is passed, the norm that stays."""
    layout = declared_layout(new, choice)
    if choice.entry is not None and choice.entry.kind == "circuit":
        specialise(new, OnRows)
    if slot.layout == "NCHW" and layout != "NCHW":
        specialise(new, ChannelsFirst)
    elif slot.layout != "NCHW" and layout == "NCHW":
        if not slot.facts["map"]:
            raise UnsupportedSurgery(
                f"{choice.name} works on maps (B, C, H, W), and {slot.path!r} is given tokens without a grid"
            )
        specialise(new, ChannelsLast)
    if slot.facts["takes_size"]:
        specialise(new, WithoutSize)
    if norm := slot.facts["norm"]:
        setattr(new, norm, getattr(old, norm))
        specialise(new, NormBefore if norm == "norm" else NormAfter)
    return new
