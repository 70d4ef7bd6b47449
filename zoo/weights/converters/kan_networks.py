"""KAN layers and networks built from checkpoints of the libraries, and written back to two of their layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ConversionError
from zoo.layers.kan import KAN, KANLinear
from zoo.weights.converters import pykan
from zoo.weights.converters.kan import LIBRARIES, convert_official, split_layers
from zoo.weights.state import unwrap

_EFFICIENT = {ours: theirs for theirs, ours in LIBRARIES["efficient-kan"].names.items()}
_FAST = {ours: theirs for theirs, ours in LIBRARIES["fast-kan"].names.items()}


def kan_options(state: Mapping[str, Any], *, arity: int = 2, basis: str | None = None) -> dict[str, Any]:
    """What a checkpoint says of the layer or network that it is of.

    Args:
        state: of a library, or ours, as for `convert_official`; or the training checkpoint that holds it.
        arity: factors of pykan's product nodes, which their weights do not tell.
        basis: "gaussian" (fast-kan) or "switch" (faster-kan), for layers without a base branch, whose weights do not
            tell it unless faster-kan's `rbf.inv_denominator` is among them.

    Returns:
        Keywords of `KANLinear` (`in_features`, `out_features`, ...) or of `KAN` (`sizes`, ...). What weights do not
        tell is as the library has it by default; centres beside a base branch are taken for those of Gaussians.

    Raises:
        ConversionError: as `convert_official`; layers that are not those of a network, have different options, or may
            be of two bases.
        WeightsError: no dict of tensors.
    """
    state = unwrap(state, "the checkpoint")
    return _options(state, convert_official(state)[0], arity, basis)


def from_official(
    state: Mapping[str, Any], *, arity: int = 2, basis: str | None = None, **options: Any
) -> KANLinear | KAN:
    """The layer or network of a checkpoint, with its weights, on their device and in their type.

        kan = from_official(torch.load("efficient_kan.pth", weights_only=True))

    Args:
        state, arity, basis: see `kan_options`.
        options: win over what was found: `base_activation="gelu"`, say.

    Raises:
        ConversionError, WeightsError: as `kan_options`.
    """
    state = unwrap(state, "the checkpoint")
    new, _ = convert_official(state)
    options = {**_options(state, new, arity, basis), **options}
    model = KAN(**options) if "sizes" in options else KANLinear(**options)
    model.load_state_dict(new)
    return model


def to_efficient_kan(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of ours in efficient-kan's layout, where every input has its own row of knots.

    Args:
        state: of layers of B-splines with a base branch, and neither norm, bias nor mask.

    Raises:
        ConversionError: tensors that efficient-kan has no place for, or a layer without what it needs.
    """
    return _exported(state, _EFFICIENT, "efficient-kan", ("weight", "base_weight", "basis.knots"))


def to_fast_kan(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of ours in fast-kan's layout.

    Args:
        state: of layers of Gaussians whose width is the distance of the centres, without scales of edges or mask.

    Raises:
        ConversionError: tensors that fast-kan has no place for, or a layer without what it needs.
    """
    return _exported(state, _FAST, "fast-kan", ("weight", "basis.centers"))


def _exported(
    state: Mapping[str, Tensor], names: Mapping[str, str], library: str, needed: tuple[str, ...]
) -> dict[str, Tensor]:
    layers, strange = split_layers(state)
    problems = [f"no place for {', '.join(strange)}"] if strange else []
    official: dict[str, Tensor] = {}
    for prefix, (found, parts) in layers.items():
        placeless = [f"{prefix}{name}" for name in parts if found != "ours" or name not in names]
        lacking = [f"{prefix}{name}" for name in needed if name not in parts]
        problems += [f"no place for {', '.join(placeless)}"] if placeless else []
        problems += [f"nothing for {', '.join(lacking)}"] if lacking else []
        if problems:
            continue
        changed = dict(parts)
        if library == "fast-kan":
            changed["weight"] = parts["weight"].flatten(1)
        else:
            changed["basis.knots"] = parts["basis.knots"].expand(parts["weight"].shape[1], -1).clone()
        official |= {f"{prefix}{names[name]}": value for name, value in changed.items()}
    if problems or not official:
        raise ConversionError(f"this is no state dict for {library}: {'; '.join(problems) or 'it is empty'}")
    return official


def _options(state: Mapping[str, Tensor], new: Mapping[str, Tensor], arity: int, basis: str | None) -> dict[str, Any]:
    """Options from the official names, which tell the basis, and our tensors, which tell the sizes."""
    found, _ = split_layers(pykan.as_layers(state)[0] if pykan.is_network(state) else state)
    places = sorted(found, key=lambda prefix: [int(n) for n in re.findall(r"\d+", prefix)])
    layers = [_layer(found[place][0], new, place, basis) for place in places]
    if places == [""]:
        return layers[0]
    if not places:
        raise ConversionError(
            "these are convolutional layers: build them by KANConv2d, GramConv2d or the like, and load what "
            "convert_official gives"
        )
    if places != [f"layers.{i}." for i in range(len(places))]:
        raise ConversionError(
            f"the layers {', '.join(place.rstrip('.') for place in places)} are not those of a network: build the "
            "module that they belong to, and load what convert_official gives"
        )
    widths = [(layer.pop("in_features"), layer.pop("out_features")) for layer in layers]
    sizes: list[Any] = [widths[0][0]]
    for i, (_, outputs) in enumerate(widths):
        scale = new.get(f"nodes.{i}.node_scale")
        nodes = scale.numel() if scale is not None else widths[i + 1][0] if i + 1 < len(widths) else outputs
        sizes.append(_node_size(i, outputs, nodes, arity))
    ranges = [layer.pop("grid_range") for layer in layers if "grid_range" in layer]
    if other := sorted({name for layer in layers for name in layer if layer[name] != layers[0][name]}):
        raise ConversionError(f"the layers differ in {', '.join(other)}: convert them one by one")
    options = {"sizes": sizes, **layers[0]}
    if ranges:
        options["grid_range"] = min(low for low, _ in ranges), max(high for _, high in ranges)
    affine = any(key.startswith("nodes.") for key in new)
    if affine or any(isinstance(size, tuple) for size in sizes):
        options |= {"arity": arity, "affine": affine}
    return options


def _node_size(layer: int, sums: int, nodes: int, arity: int) -> int | tuple[int, int]:
    products, left = divmod(sums - nodes, arity - 1)
    if left or products > nodes:
        raise ConversionError(
            f"layer {layer} makes {nodes} nodes of {sums} sums, which cannot be products of {arity}: give their arity"
        )
    return (nodes - products, products) if products else nodes


def _layer(library: str, new: Mapping[str, Tensor], prefix: str, basis: str | None) -> dict[str, Any]:
    """Keywords of one layer; `basis` says whose centres they are, where they do not."""
    weight = new[f"{prefix}weight"]
    options: dict[str, Any] = {
        "in_features": weight.shape[1],
        "out_features": weight.shape[0],
        "base_activation": "silu" if f"{prefix}base_weight" in new else None,
        "edge_scale": f"{prefix}edge_scale" in new,
        "norm": "layer" if f"{prefix}norm.weight" in new else None,
        "bias": f"{prefix}bias" in new,
        "device": weight.device,
        "dtype": weight.dtype,
    }
    knots, centres = new.get(f"{prefix}basis.knots"), new.get(f"{prefix}basis.centers")
    bases = weight.shape[2]
    if knots is not None:
        order = knots.shape[1] - 1 - bases
        inner = knots[:, order : knots.shape[1] - order]
        found = {"basis": "bspline", "grid_size": bases - order, "spline_order": order, "grid_range": _ends(inner)}
    elif centres is not None:
        basis = basis or _of_centres(library, new, prefix)
        found = {"basis": basis, "grid_size": bases, "grid_range": _ends(centres)}
    else:
        found = {"basis": "chebyshev", "grid_size": bases - 1}
    return {**options, **found}


def _of_centres(library: str, new: Mapping[str, Tensor], prefix: str) -> str:
    if library == "faster-kan":
        return "switch"
    if f"{prefix}base_weight" in new:
        return "gaussian"
    raise ConversionError(
        f"{prefix.rstrip('.') or 'the layer'} has centres and no base branch: it may be of Gaussians (fast-kan) or of "
        "switches (faster-kan, without its rbf.inv_denominator); say basis='gaussian' or basis='switch'"
    )


def _ends(positions: Tensor) -> tuple[float, float]:
    low, high = torch.aminmax(positions.double())
    return float(low), float(high)
