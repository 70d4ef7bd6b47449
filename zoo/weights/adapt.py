"""Fitting a checkpoint to a model with other input channels or other classes, by the tensors' real shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import MismatchError


def adapt_input_conv(weight: Tensor, in_chans: int, base_chans: int) -> Tensor:
    """Adapt the weight of a first convolution to another number of image channels.

    One target channel: the sum over the source channels, separately for each group of a space-to-depth stem. Others:
    the source channels repeated, cut to `in_chans` and scaled by `base_chans / in_chans`, so that the response to a
    constant image stays. Computed in float32 and cast back (the rule of timm's `adapt_input_conv`, exactly).

    Args:
        weight: (out, in, height, width), `in` a multiple of `base_chans`.
        in_chans: channels of the target's images.
        base_chans: channels of the images that the weight was trained on.

    Raises:
        ValueError: the weight is not that of a 2-D convolution, or its channels cannot be adapted.
    """
    if in_chans < 1 or base_chans < 1:
        raise ValueError(f"channel counts must be at least 1, got in_chans={in_chans}, base_chans={base_chans}")
    if weight.ndim != 4:
        raise ValueError(f"only weights of 2-D convolutions can be adapted, got shape {tuple(weight.shape)}")
    if in_chans == base_chans:
        return weight
    out, channels, height, width = weight.shape
    full = weight.float()
    if in_chans == 1:
        if channels % base_chans:
            raise ValueError(f"{channels} input channels are no multiple of the {base_chans} image channels")
        grouped = full.reshape(out, channels // base_chans, base_chans, height, width)
        return grouped.sum(dim=2).to(weight.dtype)
    if channels != base_chans:
        raise ValueError(
            f"a space-to-depth stem ({channels} channels from {base_chans}) adapts to one channel only, not {in_chans}"
        )
    repeated = full.repeat(1, math.ceil(in_chans / base_chans), 1, 1)[:, :in_chans]
    return (repeated * (base_chans / in_chans)).to(weight.dtype)


def as_names(value: Any) -> tuple[str, ...]:
    """timm's `classifier` and `first_conv` fields: None, one dotted path or several."""
    if not value:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def first_conv_names(model: nn.Module) -> tuple[str, ...]:
    """Dotted paths of the layers that see the image; a model's own trait wins over its pretrained_cfg."""
    cfg = getattr(model, "pretrained_cfg", None) or {}
    traits = getattr(model, "_traits", None) or {}
    return as_names(traits.get("first_conv", cfg.get("first_conv")))


def class_row_names(model: nn.Module) -> tuple[str, ...]:
    """timm's `classifier` field: dotted paths of the modules whose `weight` has a row a class."""
    return as_names((getattr(model, "pretrained_cfg", None) or {}).get("classifier"))


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """Dotted paths of the model's classifier layers.

    A name in the model's configuration may lead into a layer, to that part of it whose `weight` timm asks for (the
    prototypes of a Tversky projection, the last layer of a dressed circuit); the path is the layer's.
    """
    return tuple(_layer_path(model, name) for name in class_row_names(model))


def _layer_path(model: nn.Module, path: str) -> str:
    parent, _, name = path.rpartition(".")
    try:
        holder = model.get_submodule(parent)
    except AttributeError:
        return path
    if isinstance(holder, nn.Identity):  # a classifier that was taken out
        return parent
    is_layer = hasattr(holder, "in_features") and hasattr(holder, "out_features")
    plain = isinstance(getattr(holder, name, None), nn.Identity | nn.Linear | nn.Conv2d)
    inside = is_layer and (not plain or getattr(holder, "class_rows", "") == name)
    return parent if inside else path


def adapt_first_conv(
    model: nn.Module,
    tensors: dict[str, Tensor],
    shapes: Mapping[str, torch.Size],
    *,
    allowed: bool,
    declared: int | None,
    origin: str,
) -> dict[str, str]:
    """Adapt the first convolutions in `tensors` (changed in place) to the model's `in_chans`.

    The channels of the source follow from the two shapes; `declared`, where a configuration states it, must agree.

    Returns:
        name -> what was done. A weight that cannot be adapted is removed from `tensors`, with a note that starts
        with "reinitialised".
    """
    notes: dict[str, str] = {}
    in_chans = getattr(model, "in_chans", None)
    if not isinstance(in_chans, int):
        return notes
    for path in first_conv_names(model):
        name = f"{path}.weight"
        if name not in tensors or name not in shapes or tensors[name].shape == shapes[name]:
            continue
        weight, target = tensors[name], shapes[name]
        if len(target) != weight.ndim or weight.shape[0] != target[0]:
            continue  # another difference than that of the channels: reported as a mismatch
        if weight.ndim != 4:
            if allowed:
                del tensors[name]
                notes[name] = f"reinitialised: a weight of shape {tuple(weight.shape)} is not that of a convolution"
            continue
        if weight.shape[2:] != target[2:] or weight.shape[1] * in_chans % target[1]:
            continue
        base = weight.shape[1] * in_chans // target[1]
        if declared is not None and declared != base:
            raise MismatchError(
                f"{name} of {origin} has shape {tuple(weight.shape)}, which means images of {base} channels, but its "
                f"config says {declared}; correct input_size there"
            )
        if not allowed:
            raise MismatchError(
                f"{origin} was trained on images of {base} channel(s), the model takes {in_chans}; "
                f"build it with in_chans={base}, or let the first layer be adapted: adapt=('in_chans', ...)"
            )
        try:
            tensors[name] = adapt_input_conv(weight, in_chans, base)
            notes[name] = f"{base} -> {in_chans} image channels"
        except ValueError as error:
            del tensors[name]
            notes[name] = f"reinitialised: {error}"
    return notes


def adapt_classifier(
    model: nn.Module,
    tensors: dict[str, Tensor],
    shapes: Mapping[str, torch.Size],
    *,
    allowed: bool,
    label_offset: int,
    origin: str,
) -> tuple[dict[str, str], set[str]]:
    """Fit the classifier tensors in `tensors` (changed in place) to the model's classes.

    A head whose shapes fit is kept, whatever any configuration says. Rows of background classes (`label_offset`) are
    cut off. A head for another number of classes is taken out as a whole.

    Returns:
        name -> what was done, and the names of the model's tensors that stay without a source for it.
    """
    notes: dict[str, str] = {}
    missing: set[str] = set()
    for path, rows in zip(classifier_names(model), class_row_names(model), strict=True):
        prefix = f"{path}."
        wanted = {name: shape for name, shape in shapes.items() if name.startswith(prefix)}
        given = [name for name in tensors if name.startswith(prefix)]
        if not given:
            if allowed:
                missing |= wanted.keys()  # a backbone published without a head
            continue
        if label_offset:
            _cut_background(tensors, wanted, given, label_offset, notes)
        differing = [n for n in given if n not in wanted or tensors[n].shape != wanted[n]]
        if not differing:
            continue
        counted = f"{rows}.weight"
        if counted in wanted and counted in given and counted not in differing:
            continue  # as many classes; something else is of another shape, which is reported as a mismatch
        if wanted and not all(n in wanted and _only_classes_differ(tensors[n].shape, wanted[n]) for n in differing):
            continue  # not a matter of classes: reported as a mismatch
        counts = {(tensors[n].shape[0] if tensors[n].ndim else 1) for n in differing}
        theirs = "/".join(str(c) for c in sorted(counts)) if wanted else "some"
        ours = getattr(model, "num_classes", "another number of")
        if not allowed:
            raise MismatchError(
                f"{origin} has a classifier for {theirs} classes, the model is built for {ours}; build it with "
                f"num_classes={theirs}, or start a new head with adapt=('head', ...)"
            )
        for name in given:
            del tensors[name]
            notes[name] = f"classifier for {theirs} classes dropped, the model has {ours}"
        missing |= wanted.keys()
    return notes, missing


def _only_classes_differ(theirs: torch.Size, ours: torch.Size) -> bool:
    return len(theirs) == len(ours) and theirs[1:] == ours[1:]


def _cut_background(
    tensors: dict[str, Tensor], wanted: Mapping[str, torch.Size], given: list[str], offset: int, notes: dict[str, str]
) -> None:
    for name in given:
        shape = wanted.get(name)
        tensor = tensors[name]
        if shape and _only_classes_differ(tensor.shape, shape) and tensor.shape[0] == shape[0] + offset:
            tensors[name] = tensor[offset:]
            notes[name] = f"{offset} background class(es) cut off"
