"""Checkpoints of torch-conv-kan in our layout: convolutional KAN layers, and networks of them such as VGG-KAGN.

That library keeps a list of convolutions, a group each; we have one grouped convolution. Features of a group come
function after function in our layout, (function, channel); there, those of bells and splines are (channel, function).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from zoo.errors import ConversionError

_LIST = re.compile(r"(.*?)(spline_conv|base_conv|inner_proj|out_proj|layer_norm|prelus)\.(\d+)\.(\w+)")
_SINGLE = re.compile(r"(.*?)(poly_weights|beta_weights|rbf\.grid)")
_REST = re.compile(r"classifier\.1\.(weight|bias)")
_SHOWN = 10
_ORDER = 3
_BASIS = "basis_conv.weight"
_NAMES = {
    "spline_conv": "basis_conv",
    "base_conv": "base_conv",
    "inner_proj": "inner_proj",
    "out_proj": "out_proj",
    "layer_norm": "norm",
    "prelus": "activation",
    "poly_weights": _BASIS,
    "beta_weights": "beta",
    "rbf.grid": "basis.centers",
}


def is_convolutional(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of convolutional layers of torch-conv-kan."""
    marks = ("poly_weights", "spline_conv.0.weight")
    return any(key == mark or key.endswith(f".{mark}") for key in state for mark in marks)


def convert(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Map a state dict of torch-conv-kan to ours.

    Returns:
        The new state dict, and notes for people, a line each.

    Raises:
        ConversionError: names without a place, groups that are missing, sizes that disagree.
    """
    new: dict[str, Tensor] = {}
    lists: dict[tuple[str, str, str], dict[int, Tensor]] = {}
    strange = []
    for key, value in state.items():
        if found := _LIST.fullmatch(key):
            lists.setdefault((found[1], found[2], found[4]), {})[int(found[3])] = value
        elif found := _SINGLE.fullmatch(key):
            joined = value.flatten(0, 1) if found[2] == "poly_weights" else value
            new[f"{found[1]}{_NAMES[found[2]]}"] = joined
        elif _REST.fullmatch(key):
            new[key] = value
        else:
            strange.append(key)
    if strange:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise ConversionError(
            f"{len(strange)} of {len(state)} names have no place in layers of torch-conv-kan: "
            f"{', '.join(strange[:_SHOWN])}{more}. The layouts of its further networks, such as vgg_kagn_bn11_v4_opt "
            "and vgg_kagn_bn11sa_v4, are not known here"
        )
    groups = {prefix: len(parts) for (prefix, name, _), parts in lists.items() if name == "base_conv"}
    problems, notes = [], []
    for (prefix, name, end), parts in lists.items():
        if sorted(parts) != list(range(groups.get(prefix, 0))):
            problems.append(f"{prefix}{name} has the groups {sorted(parts)}, of {groups.get(prefix, 0)}")
            continue
        ordered = [parts[index] for index in range(len(parts))]
        if end == "num_batches_tracked":
            new[f"{prefix}norm.{end}"] = ordered[0]
            continue
        base = state[f"{prefix}base_conv.0.weight"]
        if name == "spline_conv":
            ordered = [_function_first(weight, base.shape[1]) for weight in ordered]
            if f"{prefix}rbf.grid" not in state:
                new[f"{prefix}basis.knots"] = _default_knots(prefix, ordered[0].shape[1] // base.shape[1])
                notes.append(f"the knots of {prefix}spline_conv, which are not in the file: cubic splines on [-1, 1]")
        elif name == "prelus" and len(ordered) > 1:
            ordered = [slope.expand(base.shape[0]) for slope in ordered]
        new[f"{prefix}{_NAMES[name]}.{end}"] = torch.cat(ordered)
    places = dict.fromkeys([*groups, *(key.removesuffix(_BASIS) for key in new if key.endswith(_BASIS))])
    problems += [problem for prefix in places for problem in _contradictions(prefix, new)]
    if problems:
        raise ConversionError(f"the sizes disagree: {'; '.join(problems)}")
    notes += [f"joined {n} groups of convolutions of {prefix or 'the layer'}" for prefix, n in groups.items() if n > 1]
    return new, notes


def _function_first(weight: Tensor, channels: int) -> Tensor:
    """A group's kernel with its columns as (function, channel) instead of (channel, function)."""
    if weight.shape[1] % channels:
        return weight  # reported with the sizes
    return weight.unflatten(1, (channels, -1)).transpose(1, 2).flatten(1, 2).contiguous()


def _default_knots(prefix: str, functions: int) -> Tensor:
    intervals = functions - _ORDER
    if intervals < 1:
        raise ConversionError(f"{prefix}spline_conv has {functions} functions a channel: too few for cubic splines")
    steps = torch.arange(-_ORDER, intervals + _ORDER + 1, dtype=torch.float64)
    return (steps * (2 / intervals) - 1).float().unsqueeze(0)


def _contradictions(prefix: str, new: Mapping[str, Tensor]) -> list[str]:
    """What does not fit together in a layer of our layout."""
    basis, base = new.get(f"{prefix}{_BASIS}"), new.get(f"{prefix}base_conv.weight")
    if basis is None or base is None or basis.ndim != 4 or base.ndim != 4:
        return [f"{prefix or 'the layer'} lacks a convolution of the basis or of the base branch"]
    problems = []
    inner, outer = new.get(f"{prefix}inner_proj.weight"), new.get(f"{prefix}out_proj.weight")
    if (inner is None) != (outer is None):
        return [f"{prefix or 'the layer'} has one of inner_proj and out_proj alone"]
    width = base.shape[1] if inner is None else inner.shape[0]
    if inner is not None and outer is not None:
        wanted = {"inner_proj": (basis.shape[0], base.shape[1]), "out_proj": (base.shape[0], basis.shape[0])}
        for name, found in (("inner_proj", inner), ("out_proj", outer)):
            if tuple(found.shape[:2]) != wanted[name]:
                problems.append(f"{prefix}{name} has the shape {tuple(found.shape)}, for {wanted[name]} channels")
    elif basis.shape[0] != base.shape[0] or basis.shape[2:] != base.shape[2:]:
        problems.append(f"{prefix}: kernels of the basis {tuple(basis.shape)} and of the base {tuple(base.shape)}")
    functions, left = divmod(basis.shape[1], width)
    beta, centres = new.get(f"{prefix}beta"), new.get(f"{prefix}basis.centers")
    counts = {"beta_weights": beta, "rbf.grid": centres}
    problems += [
        f"{prefix}{name} has {given.numel()} numbers, for {functions} functions of {width} channels"
        for name, given in counts.items()
        if given is not None and given.numel() != functions
    ]
    if left:
        problems.append(f"{prefix}: {basis.shape[1]} features are no multiple of {width} channels")
    norm = new.get(f"{prefix}norm.weight")
    if norm is not None and norm.numel() != base.shape[0]:
        problems.append(f"{prefix}layer_norm has {norm.numel()} channels, for {base.shape[0]}")
    return problems
