"""Checkpoints made with the authors' Tversky library in our layout: the names are the same, and are checked.

A layer is five tensors under a common prefix; the library's example is the model `tversky_mnist_cnn`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zoo.errors import ConversionError
from zoo.layers.tversky.options import check_reductions

_PART = re.compile(r"(|.*\.)(feature_bank\.weight|prototypes\.weight|theta|alpha|beta)")
_NEEDED = ("feature_bank.weight", "theta", "alpha", "beta")
_EXAMPLE = re.compile(r"conv[1-6]\.(weight|bias)")
_CONVOLUTIONS = [f"conv{i}.weight" for i in range(1, 7)]


def convert_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Check a state dict with layers of the authors' library; its names stay.

    Args:
        state: of a projection or a pairwise similarity alone, of the library's example, or of a backbone of timm with
            a projection as its classifier; without container keys.

    Returns:
        The state dict, and notes for people, a line each.

    Raises:
        ConversionError: no layer of the library in it, a layer without one of its tensors, or tensors of one layer
            whose shapes do not belong together.
    """
    layers = _layers(state)
    if not layers:
        some = ", ".join(list(state)[:10])
        raise ConversionError(
            f"no Tversky layer among {len(state)} names ({some}): one has {', '.join(_NEEDED)} and, if it is a "
            "projection, prototypes.weight, under a common prefix"
        )
    for prefix, parts in layers.items():
        _check_layer(prefix, parts)
    if "" in layers and (strange := [key for key in state if key not in layers[""]]):
        raise ConversionError(f"beside a Tversky layer's own tensors there is {', '.join(strange[:10])}")
    notes = [
        "weights tell neither the similarity nor its reductions: contrast, product and ignorematch, not normalised, "
        "are taken; `from_official_options` translates others"
    ]
    if below := [f"{prefix}{name}" for prefix, p in layers.items() for name in _NEEDED[1:] if float(p[name]) < 0]:
        notes.append(f"below 0, as nothing in the library hinders: {', '.join(below)}")
    return dict(state), notes


def from_official_options(
    embedding_dim: int,
    class_count: int | None = None,
    fbank_size: int | None = None,
    *,
    similarity_model: str,
    normalize: bool,
    intersection_reduction: str = "product",
    difference_reduction: str = "ignorematch",
) -> dict[str, Any]:
    """Keywords of our `TverskyProjection` for those of the authors' library.

    Args:
        embedding_dim, fbank_size, similarity_model, normalize, intersection_reduction, difference_reduction: the
            library's arguments.
        class_count: as the library's; None for a `TverskySimilarity`, which has no prototypes.

    Raises:
        ValueError: an unknown name.
    """
    difference = check_reductions(similarity_model, intersection_reduction, difference_reduction, per_feature=False)
    sizes = {"in_features": embedding_dim, "out_features": class_count, "num_features": fbank_size}
    return {
        **{name: size for name, size in sizes.items() if size is not None},
        "similarity": similarity_model,
        "intersection": intersection_reduction,
        "difference": difference,
        "normalize": normalize,
        "init": "uniform",
    }


def infer_variant(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the state dict of the library's example says of the model: constructor options, and the registered name.

    Returns:
        `name` (None if the widths are others), `dims`, `num_classes`, `in_chans`, `projection`.

    Raises:
        ConversionError: not the example.
    """
    layers = _layers(state)
    rest = [key for key in state if not _PART.fullmatch(key)]
    if set(layers) - {"tproj."} or not all(map(_EXAMPLE.fullmatch, rest)) or set(_CONVOLUTIONS) - set(rest):
        raise ConversionError("six convolutions, conv1 to conv6, and a Tversky layer tproj were expected")
    dims = tuple(state[name].shape[0] for name in _CONVOLUTIONS[1::2])
    projection = layers.get("tproj.", {})
    prototypes, bank = projection.get("prototypes.weight"), projection.get("feature_bank.weight")
    other = bank is not None and bank.shape[0] != bank.shape[1]
    return {
        "name": "tversky_mnist_cnn" if dims == (12, 12, 36) else None,
        "dims": dims,
        "num_classes": 0 if prototypes is None else prototypes.shape[0],
        "in_chans": state["conv1.weight"].shape[1],
        "projection": {"num_features": bank.shape[0]} if bank is not None and other else {},
    }


def _layers(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Prefix -> the tensors under it that have names of a Tversky layer; a bank or prototypes make it one."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        if found := _PART.fullmatch(key):
            layers.setdefault(found[1], {})[found[2]] = tensor
    return {prefix: parts for prefix, parts in layers.items() if any(name.endswith(".weight") for name in parts)}


def _check_layer(prefix: str, parts: Mapping[str, Tensor]) -> None:
    if lacking := [f"{prefix}{name}" for name in _NEEDED if name not in parts]:
        raise ConversionError(f"the Tversky layer {prefix.rstrip('.') or 'itself'} lacks {', '.join(lacking)}")
    bank = parts["feature_bank.weight"]
    prototypes = parts.get("prototypes.weight", bank)
    if bank.ndim != 2 or prototypes.ndim != 2 or bank.shape[1] != prototypes.shape[1]:
        raise ConversionError(
            f"{prefix}prototypes.weight {tuple(prototypes.shape)} and {prefix}feature_bank.weight {tuple(bank.shape)} "
            "must be matrices of as many columns"
        )
    for name in _NEEDED[1:]:
        if parts[name].numel() != 1 or parts[name].ndim:
            raise ConversionError(f"{prefix}{name} must be one number, without axes; got {tuple(parts[name].shape)}")
