"""Networks of pykan as layers and nodes.

Its layers keep their names here, under `layers.{l}.`; every node of layer l has the affine maps

    u = subnode_scale * (sum of the edges) + subnode_bias,    y = node_scale * (u, or a product of them) + node_bias.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from zoo.errors import ConversionError

_AFFINE = re.compile(r"((?:sub)?node_(?:scale|bias))_(\d+)")
_NODE = ("subnode_scale", "subnode_bias", "node_scale", "node_bias")


def is_network(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a network of pykan."""
    return "act_fun.0.coef" in state


def as_layers(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A network's layers with pykan's names, `layers.{l}.coef` and so on, and its nodes with ours.

    Without product nodes both affine maps become one, a y + b: a goes into the scales of the edges, b becomes
    `layers.{l}.bias`, and there are no nodes.

    Raises:
        ConversionError: symbolic edges, affine maps that are missing or of other sizes.
    """
    layers: dict[str, Tensor] = {}
    affine: dict[int, dict[str, Tensor]] = {}
    symbolic = []
    for key, value in state.items():
        if found := _AFFINE.fullmatch(key):
            affine.setdefault(int(found[2]), {})[found[1]] = value
        elif found := re.fullmatch(r"symbolic_fun\.(\d+)\.(mask|affine)", key):
            if found[2] == "mask" and value.any():
                symbolic.append(f"{int(value.count_nonzero())} of layer {found[1]}")
        else:
            layers[re.sub(r"^act_fun\.", "layers.", key)] = value
    if symbolic:
        raise ConversionError(
            f"edges that are symbolic ({', '.join(symbolic)}): their functions are no part of the weights; convert the "
            "network as it was before they were fixed"
        )
    count = sum(key.startswith("layers.") and key.endswith(".coef") for key in layers)
    problems = [problem for i in range(count) for problem in _problems(i, layers, affine.get(i, {}))]
    if problems:
        raise ConversionError(f"the sizes disagree: {'; '.join(problems)}")
    if any(parts["node_scale"].shape != parts["subnode_scale"].shape for parts in affine.values()):
        return layers, {f"nodes.{i}.{name}": value for i, parts in affine.items() for name, value in parts.items()}
    shifts = {}
    for i, parts in affine.items():
        scale = parts["node_scale"] * parts["subnode_scale"]
        shifts[i] = parts["node_scale"] * parts["subnode_bias"] + parts["node_bias"]
        for name in ("scale_sp", "scale_base"):
            layers[f"layers.{i}.{name}"] = layers[f"layers.{i}.{name}"] * scale
    if any(shift.any() for shift in shifts.values()):
        layers |= {f"layers.{i}.bias": shift for i, shift in shifts.items()}
    return layers, {}


def _problems(layer: int, layers: Mapping[str, Tensor], parts: Mapping[str, Tensor]) -> list[str]:
    lacking = [
        f"act_fun.{layer}.{n}"
        for n in ("coef", "grid", "scale_sp", "scale_base")
        if f"layers.{layer}.{n}" not in layers
    ]
    lacking += [f"{name}_{layer}" for name in _NODE if name not in parts]
    if lacking:
        return [f"layer {layer} lacks {', '.join(lacking)}"]
    outputs = layers[f"layers.{layer}.coef"].shape[1]
    subnodes, nodes = parts["subnode_scale"].numel(), parts["node_scale"].numel()
    wanted = {"subnode_scale": outputs, "subnode_bias": subnodes, "node_bias": nodes}
    found = {name: parts[name].numel() for name in wanted}
    problems = [f"{n}_{layer} has {found[n]} numbers, for {wanted[n]}" for n in wanted if found[n] != wanted[n]]
    if nodes > subnodes:
        problems.append(f"node_scale_{layer} has {nodes} numbers, more than the {subnodes} sums that nodes are made of")
    return problems
