"""Official checkpoints of the Hopfield layers in our layout, and back; the authors' options in our words.

The authors pack the projections of all inputs that are projected and equally wide into one matrix, and do not save the
inverse temperature, the updates and the stop test: those come from the constructor's options alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ConversionError
from zoo.naming import did_you_mean

#: Inputs in the order in which they are packed: our name, theirs in norms and options, theirs in projections.
_INPUTS = (
    ("state", "state_pattern", "q"),
    ("stored", "stored_pattern", "k"),
    ("value", "pattern_projection", "v"),
)
_CORE = "association_core."
_PACKED, _BIAS = f"{_CORE}in_proj_weight", f"{_CORE}in_proj_bias"
_RENAMED = {
    **{f"{_CORE}out_proj.{end}": f"out_proj.{end}" for end in ("weight", "bias")},
    **{f"{_CORE}p_norm_{end}": f"norm_association.{end}" for end in ("weight", "bias")},
    **{f"norm_{theirs}.{end}": f"norm_{ours}.{end}" for ours, theirs, _ in _INPUTS for end in ("weight", "bias")},
}
_DEAD = (f"{_CORE}bias_k", f"{_CORE}bias_v")
_SEPARATE = tuple(f"{_CORE}{letter}_proj_weight" for _, _, letter in _INPUTS)
_ASSOCIATION = {*_RENAMED, *_DEAD, *_SEPARATE, _PACKED, _BIAS}

#: Prefixes of associations: theirs, ours.
_PREFIXES = {
    "hopfield.": "hopfield.",
    "hopfield_association.": "association.",
    "hopfield_association_self.": "self_association.",
    "hopfield_association_cross.": "cross_association.",
    "": "",
}
_LEARNED = {
    "pooling_weights": "state_patterns",
    "lookup_weights": "stored_patterns",
    "target_weights": "target_patterns",
}
_LAYERS = {
    "linear_residual": "feed_forward.linear1",
    "linear_output": "feed_forward.linear2",
    "norm_output": "feed_forward.norm",
    "norm_residual": "norm",
    "norm_residual_self": "norm_self",
    "norm_residual_cross": "norm_cross",
}
_SHOWN = 10

#: Options that only change their name; the others are in `from_official_options`.
_OPTIONS = {
    "input_size": "dim",
    "hidden_size": "head_dim",
    "output_size": "out_dim",
    "pattern_size": "value_dim",
    "stored_pattern_size": "stored_dim",
    "pattern_projection_size": "value_in_dim",
    "num_heads": "num_heads",
    "scaling": "beta",
    "pattern_projection_as_connected": "connect_values",
    "association_activation": "activation",
    "dropout": "dropout",
    "input_bias": "bias",
    "add_zero_association": "zero_pattern",
    "batch_first": "batch_first",
    "quantity": "quantity",
    "trainable": "trainable",
    "lookup_weights_as_separated": "separate_targets",
    "lookup_targets_as_trainable": "trainable_targets",
    "association": "association",
    "alpha": "alpha",
}
_OTHERS = {
    *("update_steps_max", "update_steps_eps", "concat_bias_pattern", "disable_out_projection"),
    *(f"{theirs}_as_static" for _, theirs, _ in _INPUTS),
    *(f"normalize_{name}{end}" for _, name, _ in _INPUTS for end in ("", "_affine", "_eps")),
    *(f"normalize_hopfield_space{end}" for end in ("", "_affine", "_eps")),
}
_CLASSES = ("Hopfield", "HopfieldPooling", "HopfieldLayer")


def convert_official(
    state: Mapping[str, Tensor], options: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """Map a state dict of the released code to ours: `Hopfield`, `HopfieldPooling`, `HopfieldLayer`, an encoder or
    decoder layer.

    Args:
        state: official names, without `module.` or container keys.
        options: what the official module was built with, where shapes and norms do not tell which inputs it projects;
            for a decoder layer, of both associations.

    Returns:
        The new state dict, and notes for people, a line each.

    Raises:
        ConversionError: names that belong to none of these (at most ten are listed), or packed projections that can
            be split in several ways.
    """
    new: dict[str, Tensor] = {}
    notes: list[str] = []
    if not state and options is None:
        notes.append("the state dict is empty, which is right for a layer without parameters alone")
    strange = []
    associations: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        prefix = next(prefix for prefix in _PREFIXES if key.startswith(prefix))
        layer, _, end = key.rpartition(".")
        if key.removeprefix(prefix) in _ASSOCIATION:
            associations.setdefault(prefix, {})[key.removeprefix(prefix)] = value
        elif key in _LEARNED and value.ndim == 3 and value.shape[0] == 1:
            new[_LEARNED[key]] = value[0]
        elif layer in _LAYERS and end in ("weight", "bias"):
            new[f"{_LAYERS[layer]}.{end}"] = value
        else:
            strange.append(key)
    if strange:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise ConversionError(
            f"{len(strange)} of {len(state)} names are not those of a Hopfield layer: {', '.join(strange[:_SHOWN])}"
            f"{more}; is this a checkpoint of another model, or does it carry a prefix?"
        )
    for prefix, tensors in associations.items():
        states = state["pooling_weights"].shape[-1] if "pooling_weights" in state else None
        stored = state["lookup_weights"].shape[-1] if "lookup_weights" in state else None
        found = _association(prefix, tensors, {"state": states, "stored": stored}, options, notes)
        new |= {f"{_PREFIXES[prefix]}{name}": value for name, value in found.items()}
    return new, notes


def _association(
    prefix: str,
    tensors: Mapping[str, Tensor],
    learned: Mapping[str, int | None],
    options: Mapping[str, Any] | None,
    notes: list[str],
) -> dict[str, Tensor]:
    new = {_RENAMED[name]: value for name, value in tensors.items() if name in _RENAMED}
    dead = [f"{prefix}{name}" for name in _DEAD if name in tensors]
    if dead:
        notes.append(f"dropped {', '.join(dead)}: the option concat_bias_pattern had no effect in the released code")
    weights = _weights(prefix, tensors, learned, options, notes)
    new |= {f"proj_{ours}.weight": value for ours, value in weights.items()}
    if _BIAS not in tensors:
        return new
    bias, start = tensors[_BIAS], 0
    for ours, weight in weights.items():
        new[f"proj_{ours}.bias"] = bias[start : start + weight.shape[0]]
        start += weight.shape[0]
    if "value" not in weights:
        notes.append(f"dropped the last {bias.shape[0] - start} of {prefix}{_BIAS}: the values are not projected")
    elif start != bias.shape[0]:
        raise ConversionError(f"{prefix}{_BIAS} has {bias.shape[0]} numbers, its projections have {start} outputs")
    return new


def _weights(
    prefix: str,
    tensors: Mapping[str, Tensor],
    learned: Mapping[str, int | None],
    options: Mapping[str, Any] | None,
    notes: list[str],
) -> dict[str, Tensor]:
    """The weights of the inputs that are projected, in the order of the packed matrix."""
    if _PACKED not in tensors:
        names = {ours: f"{_CORE}{letter}_proj_weight" for ours, _, letter in _INPUTS}
        return {ours: tensors[name] for ours, name in names.items() if name in tensors}
    packed = tensors[_PACKED]
    if options is not None:
        static = {ours for ours, theirs, _ in _INPUTS if options.get(f"{theirs}_as_static")}
    else:
        static = _static(prefix, tensors, learned, notes)
    projected = [ours for ours, _, _ in _INPUTS if ours not in static]
    if not projected or packed.shape[0] % len(projected):
        raise ConversionError(
            f"{prefix}{_PACKED} has {packed.shape[0]} rows, which are not those of {len(projected)} projections"
        )
    # Copies: as views of one tensor they could not be saved.
    return {ours: part.clone() for ours, part in zip(projected, packed.chunk(len(projected)), strict=True)}


def _static(
    prefix: str, tensors: Mapping[str, Tensor], learned: Mapping[str, int | None], notes: list[str]
) -> set[str]:
    """Inputs without a projection, from shapes, and where these leave a choice from the norms that are missing."""
    rows, columns = tensors[_PACKED].shape
    out, bias = tensors.get(f"{_CORE}out_proj.weight"), tensors.get(_BIAS)
    static = {ours for ours, width in learned.items() if width not in (None, columns)}
    norms = {ours: tensors.get(f"norm_{theirs}.weight") for ours, theirs, _ in _INPUTS}
    static |= {ours for ours, norm in norms.items() if norm is not None and norm.shape[0] != columns}
    if bias is not None and bias.shape[0] != rows:
        static.add("value")
    known = out.shape[1] if out is not None else None  # heads times width: every projection has as many rows
    if known is None and bias is not None and bias.shape[0] != rows:
        known = bias.shape[0] - rows
    if known is None:
        if (parts := 3 - len(static)) > 1:
            notes.append(f"{prefix}{_PACKED} was split in {parts}: nothing says whether all these inputs are projected")
        return static
    count, left = divmod(rows, known)
    if left or not 1 <= count <= 3:
        raise ConversionError(f"{prefix}{_PACKED} has {rows} rows, which are not 1, 2 or 3 projections of {known}")
    if 3 - count == len(static):
        return static
    fixed = {"value"} if bias is not None and "value" not in static else set()  # its bias is used
    bare = {ours for ours, norm in norms.items() if norm is None} - fixed
    if len(static | bare) != 3 - count:
        raise ConversionError(
            f"{prefix}{_PACKED} holds {count} projections, and neither shapes nor norms say of which inputs; pass the "
            "options that the official module was built with"
        )
    return static | bare


def export_official(
    state: Mapping[str, Tensor], *, packed: bool | None = None, read: int | None = None
) -> dict[str, Tensor]:
    """A state dict of ours in the released code's layout; what that never reads is 0.

    Args:
        state: of a `Hopfield`, `HopfieldPooling`, `HopfieldLayer`, encoder or decoder layer.
        packed: the projections in one matrix, which the released code has unless values are connected or a size of
            the stored patterns or values was given; None: wherever they fit into one.
        read: what all heads read out, num_heads * value_dim, where that is not num_heads * head_dim and neither a
            projection of the values nor one of the output tells.

    Raises:
        ConversionError: names that have no place there, such as a learned beta or a bias pattern.
    """
    official: dict[str, Tensor] = {}
    ours_of = {ours: theirs for theirs, ours in _PREFIXES.items()}
    learned = {ours: theirs for theirs, ours in _LEARNED.items()}
    layers = {ours: theirs for theirs, ours in _LAYERS.items()}
    own = re.compile(r"(proj_(state|stored|value)|out_proj|norm_(state|stored|value|association))\.(weight|bias)")
    associations: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        prefix = next(prefix for prefix in ours_of if key.startswith(prefix))
        layer, _, end = key.rpartition(".")
        if own.fullmatch(key.removeprefix(prefix)):
            associations.setdefault(prefix, {})[key.removeprefix(prefix)] = value
        elif key in learned:
            official[learned[key]] = value.unsqueeze(0)
        elif layer in layers:
            official[f"{layers[layer]}.{end}"] = value
        else:
            raise ConversionError(f"the released code has no place for {key}")
    for prefix, tensors in associations.items():
        official |= {f"{ours_of[prefix]}{name}": value for name, value in _exported(tensors, packed, read).items()}
    return official


def _exported(tensors: Mapping[str, Tensor], packed: bool | None, read: int | None) -> dict[str, Tensor]:
    theirs = {ours: name for name, ours in _RENAMED.items()}
    new = {theirs[name]: value for name, value in tensors.items() if name in theirs}
    letters = {ours: letter for ours, _, letter in _INPUTS}
    weights = {ours: tensors[f"proj_{ours}.weight"] for ours in letters if f"proj_{ours}.weight" in tensors}
    if not weights:
        return new
    one = len({weight.shape for weight in weights.values()}) == 1
    if packed and not one:
        shapes = ", ".join(f"{ours} {tuple(weight.shape)}" for ours, weight in weights.items())
        raise ConversionError(f"projections of different shapes do not fit into one matrix: {shapes}")
    if one if packed is None else packed:
        new[_PACKED] = torch.cat(list(weights.values()))
    else:
        new |= {f"{_CORE}{letters[ours]}_proj_weight": weight for ours, weight in weights.items()}
    biases = [tensors[f"proj_{ours}.bias"] for ours in weights if f"proj_{ours}.bias" in tensors]
    if biases:
        if "value" not in weights:
            out = tensors.get("out_proj.weight")
            unread = (read or biases[0].shape[0]) if out is None else out.shape[1]
            biases.append(biases[0].new_zeros(unread))
        new[_BIAS] = torch.cat(biases)
    return new


def from_official_options(cls: str = "Hopfield", /, **options: Any) -> dict[str, Any]:
    """Keywords of our class from those of the authors' class of the same name.

    Args:
        cls: "Hopfield", "HopfieldPooling" or "HopfieldLayer".
        options: theirs; also `association` and `alpha` as we have them, for the sparse relatives of their code.

    Raises:
        ValueError: an unknown class or option, with the nearest name; a norm that is off and has scale and shift; an
            input_size that does not give hidden_size.
    """
    for given, known in ((cls, _CLASSES), *((name, {*_OPTIONS, *_OTHERS}) for name in options)):
        if given not in known:
            raise ValueError(f"the authors' code has no {given!r}{did_you_mean(given, known)}")
    new = {_OPTIONS[name]: _plain(value) for name, value in options.items() if name in _OPTIONS}
    new |= {f"project_{ours}": False for ours, theirs, _ in _INPUTS if options.get(f"{theirs}_as_static")}
    for ours, theirs, _ in _INPUTS:
        new |= _norm(f"norm_{ours}", f"normalize_{theirs}", options, on=True)
    new |= _norm("norm_association", "normalize_hopfield_space", options, on=False)
    if options.get("disable_out_projection"):
        new["project_out"] = False
        new.pop("out_dim", None)
    if "update_steps_max" in options:
        new["num_updates"] = _updates(_plain(options["update_steps_max"]))
    if "update_steps_eps" in options:
        new["tol"] = _plain(options["update_steps_eps"])
    if new.get("dim") is not None and new.get("head_dim") is None:
        new["head_dim"], left = divmod(new["dim"], new.get("num_heads", 1))
        if left:
            sizes = f"{new['dim']} and {new['num_heads']}"
            raise ValueError(f"num_heads must divide input_size unless hidden_size is given, got {sizes}")
    if cls == "HopfieldPooling":
        new["reduce"] = "concat"
    return new


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor) else value


def _updates(extra: Any) -> Any:
    """The first association is not among the steps that the authors count; below 0 they have no limit."""
    counts = extra if isinstance(extra, list | tuple) else [extra]
    if any(count is not None and (isinstance(count, bool) or not isinstance(count, int)) for count in counts):
        raise ValueError(f"update_steps_max must be an integer, one a head, or None, got {extra!r}")
    endless = [count is None or count < 0 for count in counts]
    if all(endless):
        return None
    if any(endless):
        raise ValueError(f"update_steps_max must have a limit for all heads or for none, got {extra!r}")
    return [count + 1 for count in extra] if isinstance(extra, list | tuple) else extra + 1


def _norm(ours: str, theirs: str, options: Mapping[str, Any], *, on: bool) -> dict[str, Any]:
    wanted, affine = options.get(theirs, on), options.get(f"{theirs}_affine")
    if not wanted:
        if affine:
            raise ValueError(f"{theirs}_affine=True needs {theirs}=True")
        return {ours: False}
    norm = {"affine": on if affine is None else affine, "eps": options.get(f"{theirs}_eps", 1e-5)}
    return {} if on and norm == {"affine": True, "eps": 1e-5} else {ours: norm}
