"""The token mixer of every block: what it is given, and how a new one is fed with it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.composition.probe import BATCH, Call, Probe, argument_names, grid_of
from zoo.composition.registered import is_registered
from zoo.composition.slots import Places, Slot, declared_layout
from zoo.composition.spec import Choice
from zoo.composition.specialise import Specialised, original_class, specialise
from zoo.errors import UnsupportedSurgery

_MASKS = ("attn_mask", "mask")
_BIASES = ("shared_rel_pos", "shared_rel_pos_bias", "rel_pos_bias", "attn_bias")
_SIZES = ("size", "hw_shape", "feat_size", "spatial_shape")
#: Attention that also does what a mixer does not: named by class, with the reason.
_MORE = {
    "MaskUnitAttention": "it also pools its mask units",
    "MultiScaleAttention": "it also pools its input and returns sizes",
}


def find_mixers(model: nn.Module, seen: Probe) -> Places:
    """Attention modules (`qkv` or `q_proj`, `proj` and `num_heads`) that keep the shape of their input."""
    places = Places()
    for path, module in model.named_modules():
        children = {name for name, child in module.named_children() if child is not None}
        looks = ("qkv" in children or "q_proj" in children) and "proj" in children and hasattr(module, "num_heads")
        if not (looks or is_registered(module, "mixer")) or path not in seen.calls:
            continue
        reason = _reason(module, seen.calls[path])
        if reason:
            places.left[path] = reason
        else:
            places.slots.append(mixer_slot(model, path, module, seen.calls[path], seen.image))
    return places


def _reason(module: nn.Module, calls: list[Call]) -> str:
    """Why an attention cannot be replaced; empty when it can."""
    name = original_class(module).__name__
    if name in _MORE:
        return _MORE[name]
    if any(call.out != call.shape for call in calls):
        return "it changes the shape of its input"
    if name == "WindowAttentionGlobal" and getattr(module, "use_global", False):
        return "its queries are made elsewhere in the model"
    known = {*_MASKS, *_BIASES, *_SIZES, "rope", "is_causal", "q_global"}
    foreign = sorted({key for call in calls for key in call.extra if key not in known})
    return f"it is also given {', '.join(foreign)}" if foreign else ""


def mixer_slot(model: nn.Module, path: str, module: nn.Module, calls: list[Call], image: tuple[int, int, int]) -> Slot:
    """The place that an attention module is."""
    call = calls[0]
    shape = call.shape
    layout = "NLC"
    if len(shape) == 4:
        qkv = getattr(module, "qkv", None)
        layout = "NCHW" if isinstance(qkv, nn.Conv2d) else "NHWC"
        # NesT keeps its blocks of tokens on an axis of their own.
        if type(model).__module__.endswith(".nest"):
            layout = "BTNC"
    dim = shape[1] if layout == "NCHW" else shape[-1]
    extra: dict[str, Any] = {key: value for c in calls for key, value in c.extra.items()}
    grid: tuple[int, int, int] | None = None
    if layout == "NLC":
        size = next((extra[k] for k in _SIZES if k in extra), None)
        prefixes = tuple(dict.fromkeys((int(getattr(model, "num_prefix_tokens", 0) or 0), 0, 1)))
        if size is not None:
            grid = (size[0], size[1], shape[1] - size[0] * size[1])
        else:
            grid = grid_of(shape[1], (image[1], image[2]), prefixes)
    qkv_bias = getattr(getattr(module, "qkv", None) or getattr(module, "q_proj", None), "bias", None)
    heads = int(module.num_heads)  # type: ignore[arg-type]
    wishes = {
        # Some attentions are wider inside than their input, which their heads then need not divide.
        "num_heads": next(n for n in range(min(heads, dim), 0, -1) if dim % n == 0),
        "qkv_bias": qkv_bias is not None or getattr(module, "q_bias", None) is not None,
        "attn_drop": _rate(getattr(module, "attn_drop", 0.0)),
        "proj_drop": _rate(getattr(module, "proj_drop", 0.0)),
    }
    facts = {
        # MobileViT's groups of tokens are interleaved over the whole map.
        "windows": layout == "BTNC" or (shape[0] != BATCH and original_class(model).__name__ != "ByobNet"),
        "grid": grid,
        "image": image,
        "extra": {k: extra[k] for k in (*_MASKS, *_BIASES, "rope") if k in extra},
        "names": argument_names(module)[1:],
    }
    return Slot(path, {"dim": dim}, wishes, layout, facts)


def _rate(drop: Any) -> float:
    return float(getattr(drop, "p", drop if isinstance(drop, int | float) else 0.0))


class MixerPort(Specialised):
    """Feeds a token mixer with what the backbone gives its attention, and gives back what that expects.

    Attributes set on the mixer:
        zoo_names: names of the attention's further arguments, by position.
        zoo_layouts: (layout of the place, layout of the mixer).
        zoo_takes: which of `attn_mask`, `rope` and `is_causal` the mixer's forward knows.
        zoo_grid: (rows, columns, prefix tokens) of the place's tokens at the model's image size, if they are a grid.
        zoo_strides: image rows and columns to one of the grid.
    """

    if TYPE_CHECKING:
        zoo_names: list[str]
        zoo_layouts: tuple[str, str]
        zoo_takes: tuple[str, ...]
        zoo_grid: tuple[int, int, int] | None
        zoo_strides: tuple[float, float] | None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        given = {**dict(zip(self.zoo_names, args, strict=False)), **kwargs}
        place, own = self.zoo_layouts
        extra, size = self._accept(given, x)
        if own == "NHWC":
            return self._on_map(x, place, size)
        if place == "NCHW":
            tokens = super().forward(x.flatten(2).transpose(1, 2), **extra)  # type: ignore[misc]
            return tokens.transpose(1, 2).reshape(x.shape)
        if place == "BTNC":
            return super().forward(x.flatten(0, 1), **extra).reshape(x.shape)  # type: ignore[misc]
        if place == "NHWC":
            return super().forward(x.flatten(1, 2), **extra).reshape(x.shape)  # type: ignore[misc]
        return super().forward(x, **extra)  # type: ignore[misc]

    def _on_map(self, x: Tensor, place: str, size: tuple[int, int] | None) -> Tensor:
        mix = super().forward  # type: ignore[misc]
        if place == "NHWC":
            return mix(x)
        if place == "NCHW":
            return mix(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if place == "BTNC":  # NesT's blocks are square
            side = math.isqrt(x.shape[2])
            return mix(x.flatten(0, 1).unflatten(1, (side, side))).reshape(x.shape)
        rows, columns, prefix = self._grid(x.shape[1], size)
        tokens = x[:, prefix:].unflatten(1, (rows, columns))
        mixed = mix(tokens).flatten(1, 2)
        if prefix == 0:
            return mixed
        first = x[:, :prefix]
        # A block adds this to its input: zeros leave the token as it is.
        first = self.mix_prefix(first, tokens) if hasattr(self, "mix_prefix") else torch.zeros_like(first)  # type: ignore[operator]
        return torch.cat((first, mixed), dim=1)

    def _grid(self, tokens: int, size: tuple[int, int] | None) -> tuple[int, int, int]:
        if size is not None:
            return size[0], size[1], tokens - size[0] * size[1]
        assert self.zoo_grid is not None  # the composer refuses a place without a grid
        rows, columns, prefix = self.zoo_grid
        if tokens != rows * columns + prefix:
            raise UnsupportedSurgery(
                f"{tokens} tokens came where {prefix} + {rows} x {columns} were expected: this mixer needs the grid, "
                f"so build the model for the image size (img_size=), or call its set_input_size"
            )
        return rows, columns, prefix

    def _accept(self, given: Mapping[str, Any], x: Tensor) -> tuple[dict[str, Any], tuple[int, int] | None]:
        extra: dict[str, Any] = {}
        size = None
        for key, value in given.items():
            if value is None or value is False:
                continue
            if key in _SIZES:
                size = (int(value[0]), int(value[1]))
            elif key in (*_MASKS, *_BIASES):
                if "attn_mask" not in self.zoo_takes:
                    raise UnsupportedSurgery(
                        f"{type(self).__name__} was given {key}: its forward takes no attn_mask, so it cannot honour it"
                    )
                mask = _mask(value, x.shape[0], window=key == "mask")
                extra["attn_mask"] = mask if "attn_mask" not in extra else _added(extra["attn_mask"], mask)
            elif key == "rope":
                if "rope" in self.zoo_takes:
                    extra["rope"] = value
            elif key == "is_causal":
                if "is_causal" not in self.zoo_takes:
                    raise UnsupportedSurgery(f"{type(self).__name__} was asked for causal attention, which it has not")
                extra["is_causal"] = value
        return extra, size

    def set_window_size(self, window_size: Any) -> None:
        """Swin's method: its windows are of another size now."""
        if self.zoo_grid is not None:
            rows, columns = (window_size, window_size) if isinstance(window_size, int) else window_size
            self.zoo_grid = (int(rows), int(columns), 0)
        own = getattr(super(), "set_window_size", None)
        if own is not None:
            own(window_size)

    def zoo_resize(self, height: int, width: int) -> None:
        """Follow the model to another image size."""
        if self.zoo_grid is not None and self.zoo_strides is not None:
            down, right = self.zoo_strides
            self.zoo_grid = (math.ceil(height / down), math.ceil(width / right), self.zoo_grid[2])


def _mask(mask: Tensor, batch: int, *, window: bool) -> Tensor:
    """A mask as (batch or 1, heads or 1, N, N). One for windows is (windows, N, N), and a batch holds them in turn."""
    if window and mask.ndim == 3:
        return mask.repeat(batch // mask.shape[0], 1, 1).unsqueeze(1)
    return mask.unsqueeze(0) if mask.ndim == 3 else mask


def _added(one: Tensor, other: Tensor) -> Tensor:
    """Both masks in one: what either forbids is forbidden."""
    if one.dtype == other.dtype == torch.bool:
        return one & other
    dtype = one.dtype if one.dtype != torch.bool else other.dtype
    parts = [
        m if m.dtype != torch.bool else torch.zeros_like(m, dtype=dtype).masked_fill(~m, -math.inf)
        for m in (one, other)
    ]
    return parts[0] + parts[1]


def fit_mixer(new: nn.Module, slot: Slot, choice: Choice, old: nn.Module, model: nn.Module) -> nn.Module:
    """Adapt a token mixer to its place.

    Raises:
        UnsupportedSurgery: the place gives what the mixer does not take (windows, a mask, rotary positions), or has
            no grid for a mixer that needs one.
    """
    own = declared_layout(new, choice)
    windows = own == "windows" or getattr(new, "windows", False)
    own = "NLC" if own == "windows" else own
    if own not in ("NLC", "NHWC"):
        raise UnsupportedSurgery(f"{choice.name} declares layout {own!r}; a mixer's is 'NLC', 'NHWC' or 'windows'")
    takes = tuple(p for p in ("attn_mask", "rope", "is_causal") if p in inspect.signature(new.forward).parameters)
    where, extra, grid = (
        f"{choice.name} cannot take the place of {slot.path!r}",
        slot.facts["extra"],
        slot.facts["grid"],
    )
    if slot.facts["windows"] and not windows:
        raise UnsupportedSurgery(
            f"{where}: it is given windows of the map, each on its own, and the mixer does not declare `windows = True`"
        )
    masked = sorted(k for k in extra if k in (*_MASKS, *_BIASES))
    if masked and "attn_mask" not in takes:
        raise UnsupportedSurgery(
            f"{where}: it is given {', '.join(masked)}, and the mixer's forward takes no attn_mask"
        )
    if "rope" in extra and "rope" not in takes and own == "NLC":
        raise UnsupportedSurgery(
            f"{where}: positions come as rotary embeddings (rope), which the mixer's forward does not take; it would "
            f"not know where a token is"
        )
    strides = None
    if own == "NHWC" and slot.layout == "NLC":
        if grid is None:
            raise UnsupportedSurgery(f"{where}: the mixer works on maps, and these tokens are no grid of the image")
        if getattr(getattr(model, "patch_embed", None), "strict_img_size", True) is False:
            raise UnsupportedSurgery(
                f"{where}: with dynamic_img_size the grid is not known; build the model with dynamic_img_size=False"
            )
        # A window stays as it is when the image grows.
        strides = (
            None if slot.facts["windows"] else (slot.facts["image"][1] / grid[0], slot.facts["image"][2] / grid[1])
        )
    plain = own == "NLC" and slot.layout == "NLC" and not slot.facts["names"]
    if plain:
        return new
    return specialise(
        new,
        MixerPort,
        zoo_names=list(slot.facts["names"]),
        zoo_layouts=(slot.layout, own),
        zoo_takes=takes,
        zoo_grid=grid,
        zoo_strides=strides,
    )


def has_position_bias(attention: nn.Module) -> bool:
    """Whether an attention learned where tokens stand to each other."""
    words = ("rel_pos", "relative_position", "attention_bias", "pos_bias", "cpb_mlp", "meta_mlp")
    return any(word in name for name, _ in attention.named_parameters() for word in words)


def leaves_out_prefix(mixer: nn.Module) -> bool:
    """Whether a mixer in its place brings nothing to class and register tokens."""
    if not isinstance(mixer, MixerPort) or mixer.zoo_layouts != ("NLC", "NHWC") or hasattr(mixer, "mix_prefix"):
        return False
    return mixer.zoo_grid is not None and mixer.zoo_grid[2] > 0
