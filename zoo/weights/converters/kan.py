"""Checkpoints of the KAN libraries in our layout: efficient-kan, fast-kan, faster-kan, ChebyKAN, pykan, convolutions.

A library is recognised by its names, sizes by shapes. `zoo.weights.converters.kan_networks` builds what they are of,
and writes two of the layouts back.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from zoo.errors import ConversionError
from zoo.weights.converters import kan_conv, pykan

_SHOWN = 10
_RBF = {
    "spline_linear.weight": "weight",
    "base_linear.weight": "base_weight",
    "base_linear.bias": "bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
    "rbf.grid": "basis.centers",
}
_OURS = ("weight", "edge_scale", "base_weight", "bias", "norm.weight", "norm.bias", "mask")
_POSITIONS = ("basis.knots", "basis.centers")


class _Library(NamedTuple):
    """How a library writes a layer.

    Attributes:
        marks: names that no layer of the others has together.
        names: theirs -> ours, "" for what is not kept.
        basis: the name of its basis; "" where the names do not tell.
    """

    marks: tuple[str, ...]
    names: Mapping[str, str]
    basis: str


#: In the order in which they are tried.
LIBRARIES = {
    "efficient-kan": _Library(
        ("spline_weight", "grid"),
        {
            "spline_weight": "weight",
            "spline_scaler": "edge_scale",
            "base_weight": "base_weight",
            "grid": "basis.knots",
        },
        "bspline",
    ),
    "faster-kan": _Library(
        ("spline_linear.weight", "rbf.inv_denominator"), {**_RBF, "rbf.inv_denominator": ""}, "switch"
    ),
    "fast-kan": _Library(("spline_linear.weight", "rbf.grid"), _RBF, "gaussian"),
    "ChebyKAN": _Library(("cheby_coeffs",), {"cheby_coeffs": "weight", "arange": ""}, "chebyshev"),
    "pykan": _Library(
        ("coef", "grid"),
        {
            "coef": "weight",
            "scale_sp": "edge_scale",
            "scale_base": "base_weight",
            "mask": "mask",
            "bias": "bias",
            "grid": "basis.knots",
        },
        "bspline",
    ),
    "ours": _Library(("weight",), {name: name for name in (*_OURS, *_POSITIONS)}, ""),
}
_NAMES = sorted({name for library in LIBRARIES.values() for name in library.names}, key=len, reverse=True)


def convert_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Map a state dict of any of the libraries to ours: a layer, a network, or layers under other prefixes.

    Knots that all inputs share are stored once. The scales and biases of pykan's nodes go into edges and biases, unless
    the network multiplies nodes. What is of our layout stays as it is.

    Args:
        state: names of the library, without container keys.

    Returns:
        The new state dict, and notes for people, a line each.

    Raises:
        ConversionError: names without a place, shapes that contradict each other, edges that are symbolic.
    """
    if kan_conv.is_convolutional(state):
        return kan_conv.convert(state)
    notes: list[str] = []
    rest: dict[str, Tensor] = {}
    if pykan.is_network(state):
        state, rest = pykan.as_layers(state)
    layers, strange = split_layers(state)
    ours = bool(layers) and all(library == "ours" for library, _ in layers.values())
    if ours:
        rest = {key: state[key] for key in strange}  # a model with layers of ours has other parts as well
    elif strange or not layers:
        raise ConversionError(_strange(strange, len(state)))
    new = dict(rest)
    problems: list[str] = []
    for prefix, (library, parts) in layers.items():
        found = _converted(prefix, library, parts, problems, notes)
        problems += [f"{prefix}{problem}" for problem in _contradictions(found)]
        new |= {f"{prefix}{name}": value for name, value in found.items()}
    if problems := problems or ([] if ours else _gaps(new)):
        raise ConversionError(f"the sizes disagree: {'; '.join(problems)}")
    if any(library in ("fast-kan", "faster-kan") for library, _ in layers.values()):
        notes.append("weights do not tell the width of the bells: the distance of the centres, or 1 for switches")
    if any(library == "fast-kan" and "base_linear.weight" not in parts for library, parts in layers.values()):
        notes.append(
            "layers without a base branch are of fast-kan, or of faster-kan if rbf.inv_denominator was left out"
        )
    if any("base_weight" in key for key in new):
        notes.append("weights do not tell the activation of the base branch: SiLU, unless it was set to another")
    return new, notes


def infer_variant(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options of the family's models that a network in our layout calls for: widths, knots and masks of its layers."""
    found = {key: re.fullmatch(r"(?:kan\.)?layers\.(\d+)\.(weight|basis\.knots|mask)", key) for key in state}
    parts = {(int(place[1]), place[2]): state[key] for key, place in found.items() if place}
    widths = [parts[place].shape[0] for place in sorted(parts) if place[1] == "weight"]
    return {
        "hidden_sizes": widths[:-1],
        "own_knots": [i for i, name in parts if name == "basis.knots" and len(parts[i, name]) > 1],
        "masked": [i for i, name in parts if name == "mask"],
    }


def split_layers(state: Mapping[str, Tensor]) -> tuple[dict[str, tuple[str, dict[str, Tensor]]], list[str]]:
    """The layers of a state dict: prefix -> (library, its names without the prefix); and the names left over."""
    parts: dict[str, dict[str, Tensor]] = {}
    strange = []
    for key, value in state.items():
        name = next((name for name in _NAMES if key == name or key.endswith(f".{name}")), None)
        if name is None:
            strange.append(key)
        else:
            parts.setdefault(key[: len(key) - len(name)], {})[name] = value
    layers = {}
    for prefix, found in parts.items():
        library = _library(found)
        known = LIBRARIES[library].names if library else {}
        strange += [f"{prefix}{name}" for name in found if name not in known]
        if library:
            layers[prefix] = library, {name: value for name, value in found.items() if name in known}
    return layers, strange


def _library(found: Mapping[str, Tensor]) -> str | None:
    for name, library in LIBRARIES.items():
        if all(mark in found for mark in library.marks):
            return None if name == "ours" and found["weight"].ndim != 3 else name
    return None


def _strange(strange: list[str], count: int) -> str:
    if not strange:
        return "the state dict is empty"
    more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
    return (
        f"{len(strange)} of {count} names have no place in a KAN layer: {', '.join(strange[:_SHOWN])}{more}; known are "
        f"the layers of {', '.join(name for name in LIBRARIES if name != 'ours')}, and ours"
    )


def _converted(
    prefix: str, library: str, parts: Mapping[str, Tensor], problems: list[str], notes: list[str]
) -> dict[str, Tensor]:
    """One layer under our names and in our shapes."""
    known = LIBRARIES[library].names
    new = {known[name]: value for name, value in parts.items() if known[name]}
    weight = new["weight"]
    if library in ("fast-kan", "faster-kan"):
        centres = new["basis.centers"].numel()
        if weight.ndim != 2 or weight.shape[1] % max(centres, 1):
            problems.append(f"{prefix}spline_linear.weight {tuple(weight.shape)} has no {centres} columns an input")
        else:
            new["weight"] = weight.unflatten(1, (-1, centres))
    elif library == "ChebyKAN" and weight.ndim == 3:
        new["weight"] = weight.permute(1, 0, 2).contiguous()
    elif library == "pykan" and weight.ndim == 3:
        turned = [name for name in new if name not in ("basis.knots", "bias")]
        new |= {name: new[name].transpose(0, 1).contiguous() for name in turned}
        mask = new.pop("mask", None)
        if mask is not None and not mask.bool().all():
            new["mask"] = mask.bool()
    if library == "faster-kan":
        value = float(parts["rbf.inv_denominator"])
        notes.append(f"dropped {prefix}rbf.inv_denominator, {value:g}: the released forward pass never reads it")
    knots = new.get("basis.knots")
    rows = knots.shape[0] if knots is not None and knots.ndim == 2 and library != "ours" else 0
    if knots is not None and rows > 1 and (knots == knots[:1]).all():
        new["basis.knots"] = knots[:1].clone()
        notes.append(f"stored the knots of {prefix}grid once: all {rows} inputs have the same")
    return new


def _contradictions(parts: Mapping[str, Tensor]) -> list[str]:
    """What does not fit together in a layer of our layout."""
    weight = parts["weight"]
    if weight.ndim != 3:
        return [f"weight has the shape {tuple(weight.shape)}, not (out, in, K)"]
    out, inputs, bases = weight.shape
    wanted: dict[str, tuple[int, ...]] = dict.fromkeys(("edge_scale", "base_weight", "mask"), (out, inputs))
    wanted |= {"bias": (out,), "norm.weight": (inputs,), "norm.bias": (inputs,), "basis.centers": (bases,)}
    problems = [
        f"{name} has the shape {tuple(parts[name].shape)}, for {wanted[name]} of a weight {tuple(weight.shape)}"
        for name in parts
        if name in wanted and tuple(parts[name].shape) != wanted[name]
    ]
    knots = parts.get("basis.knots")
    if knots is not None:
        order = knots.shape[-1] - 1 - bases
        if knots.ndim != 2 or knots.shape[0] not in (1, inputs) or order < 1 or bases - order < 1:
            problems.append(f"knots of the shape {tuple(knots.shape)} do not make {bases} functions of {inputs} inputs")
    return problems


def _gaps(new: Mapping[str, Tensor]) -> list[str]:
    """Layers of a network whose widths do not follow one another."""
    indices = sorted(int(found[1]) for key in new if (found := re.fullmatch(r"layers\.(\d+)\.weight", key)))
    if indices != list(range(len(indices))):
        return [f"layers.0 to layers.{len(indices) - 1} were expected, found {indices}"]
    problems = []
    for i, j in itertools.pairwise(indices):
        given = new.get(f"nodes.{i}.node_bias", new[f"layers.{i}.weight"]).shape[0]
        taken = new[f"layers.{j}.weight"].shape[1]
        if given != taken:
            problems.append(f"layers.{i} gives {given} numbers, layers.{j} takes {taken}")
    return problems
