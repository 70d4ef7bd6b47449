"""`load_weights`: everything compared first, then loaded, then reported."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn

from zoo.errors import ConversionError, MismatchError
from zoo.naming import near_names
from zoo.registry import is_model, model_entry
from zoo.weights.adapt import adapt_classifier, adapt_first_conv, classifier_names
from zoo.weights.bounds import grows
from zoo.weights.source import Checkpoint, open_checkpoint
from zoo.weights.state import Rename, rename_keys

ADAPTATIONS = ("head", "in_chans")


@dataclass
class LoadReport:
    """What became of every tensor.

    Attributes:
        origin: where the weights came from.
        loaded: names that were loaded.
        adapted: name -> how its values were changed, or why they were dropped.
        missing: names of the model that had no source; they keep (or were given) fresh values.
        unexpected: names of the source that the model does not have (only when `strict=False`).
        source: for a repository: {"repo", "revision", "commit", "sha256"}.
    """

    origin: str
    loaded: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    source: dict[str, Any] | None = None

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors from {self.origin}"]
        lines += [f"  adapted     {name}: {note}" for name, note in self.adapted.items()]
        lines += [f"  fresh       {name}: not in the source" for name in self.missing if name not in self.adapted]
        lines += [f"  left out    {name}: not in the model" for name in self.unexpected]
        return "\n".join(lines)


def load_weights(
    model: nn.Module,
    source: Any,
    *,
    strict: bool = True,
    adapt: Collection[str] = ADAPTATIONS,
    rename: Rename | None = None,
    allow_pickle: bool = False,
    check_finite: bool = True,
    sha256: str | None = None,
    assign: bool = False,
    **hub: Any,
) -> LoadReport:
    """Load weights into a model.

    Names and shapes are compared with the model's before anything is changed. A missing backbone tensor is an error
    even when the head is adapted; a head whose shapes fit is kept, whatever its configuration says. A module with a
    method `state_shapes(given) -> {name: shape, or None for a tensor that need not be there}` takes tensors in other
    shapes than it has: a KAN layer those of pruned edges and of knots for every input.

    Args:
        model: any module. The names of its classifier and first convolution come from its `pretrained_cfg`.
        source: a dict of tensors, a file, a folder, `"local-dir:FOLDER"`, `"hf-hub:USER/REPO[@REVISION]"`, or the name
            of a checkpoint of ours, `"arch.tag"`.
        strict: every tensor of the model must be in the source and the other way round. False: what is missing keeps
            its values, what is unexpected is left out; both are reported. Other shapes are an error in any case.
        adapt: what may be fitted: `"head"` (a classifier for other classes is dropped), `"in_chans"` (the first
            convolution is fitted to the model's channels). Empty: a difference is an error that names both counts.
        rename: ordered (regular expression, replacement) pairs applied to the names of the source.
        allow_pickle: read `.pth`, `.pt`, `.bin` and `.ckpt` too, by `torch.load(weights_only=True)`.
        check_finite: refuse NaN and infinity.
        sha256: expected sum of the file.
        assign: take the source's tensors themselves (mapped from the file) instead of copying their values into the
            model's; then the model's parameters are new objects.
        **hub: `token`, `cache_dir`, `local_files_only`, `timeout` for `hf-hub:`.

    Returns:
        A `LoadReport`; its text is a short table.

    Raises:
        MismatchError: tensors missing, unexpected or of other shapes; names them.
        WeightsError (with MissingFileError), UnknownModelError, HubError: as `open_checkpoint`.
    """
    checkpoint = open_checkpoint(source, allow_pickle=allow_pickle, check_finite=check_finite, sha256=sha256, **hub)
    tensors, report = prepare(model, checkpoint, strict=strict, adapt=adapt, rename=rename)
    assign_tensors(model, tensors, report, strict=strict, assign=assign)
    if checkpoint.known and not report.missing and not report.adapted and _is_as_registered(model, checkpoint):
        for name, value in checkpoint.known.items():
            setattr(model, name, value)
    return report


def _is_as_registered(model: nn.Module, checkpoint: Checkpoint) -> bool:
    """Whether a model is what its arguments make of a checkpoint's architecture, but for what says nothing of it."""
    with torch.device("meta"):
        like = timm.create_model(checkpoint.architecture)
    beside = {"stitch", *checkpoint.known}
    own, made = (
        {key: value for key, value in (getattr(net, "_model_args", None) or {}).items() if key not in beside}
        for net in (model, like)
    )
    return type(model) is type(like) and own == made


def prepare(
    model: nn.Module,
    checkpoint: Checkpoint,
    *,
    strict: bool = True,
    adapt: Collection[str] = ADAPTATIONS,
    rename: Rename | None = None,
) -> tuple[dict[str, Tensor], LoadReport]:
    """Fit the tensors of a checkpoint to a model and compare them; the model is not changed (it may be on meta).

    Returns:
        The tensors to load, and the report of what will be.

    Raises:
        MismatchError: as `load_weights`.
        ValueError: an unknown word in `adapt`.
    """
    adapt = {adapt} if isinstance(adapt, str) else set(adapt)
    if unknown := sorted(adapt - set(ADAPTATIONS)):
        raise ValueError(f"adapt takes {', '.join(map(repr, ADAPTATIONS))}, got {unknown[0]!r}")
    origin, config = checkpoint.origin, checkpoint.config
    report = LoadReport(origin, source=checkpoint.source)
    tensors = dict(checkpoint.tensors)
    if rename is not None:
        tensors = rename_keys(tensors, rename, origin)
    state = model.state_dict(keep_vars=True)
    _fill_aliases(tensors, state, checkpoint.metadata)
    shapes = _shapes(model, state, tensors)
    heads = tuple(f"{path}." for path in classifier_names(model))
    swollen = grows(state, {n: t for n, t in tensors.items() if not n.startswith(heads)})
    if _differs(tensors, shapes) and not swollen:
        tensors = _family_filter(model, tensors, origin)
        shapes = _shapes(model, state, tensors)
    notes = adapt_first_conv(
        model,
        tensors,
        shapes,
        allowed="in_chans" in adapt and not swollen,
        declared=config.in_chans if config else None,
        origin=origin,
    )
    fresh = {name for name, note in notes.items() if note.startswith("reinitialised")}
    for name in fresh:
        warnings.warn(f"{name} of {origin} could not be adapted and is random: {notes[name]}", stacklevel=3)
    head_notes, headless = adapt_classifier(
        model,
        tensors,
        shapes,
        allowed="head" in adapt,
        label_offset=int((config.pretrained_cfg.get("label_offset") if config else None) or 0),
        origin=origin,
    )
    report.adapted = notes | head_notes
    shapes = _shapes(model, state, tensors)
    _fill_counters(tensors, state)
    missing = [name for name in shapes if name not in tensors]
    unexpected = [name for name in tensors if name not in shapes]
    other = {n: (tensors[n].shape, shapes[n]) for n in shapes if n in tensors and tensors[n].shape != shapes[n]}
    _check_kinds(tensors, state, origin)
    refused = [name for name in missing if name not in fresh and name not in headless]
    hooked = _has_load_hooks(model)
    if other or (strict and (refused or unexpected) and not hooked):
        error = mismatch(model, origin, refused if strict else [], unexpected if strict else [], other, len(tensors))
        raise MismatchError(f"{error}{_explained(model, tensors)}")
    report.missing = [name for name in missing if name not in refused] if hooked and strict else missing
    report.unexpected = [] if hooked else unexpected
    report.loaded = [name for name in shapes if name in tensors]
    return (tensors if hooked else {name: tensors[name] for name in report.loaded}), report


def assign_tensors(
    model: nn.Module, tensors: Mapping[str, Tensor], report: LoadReport, *, strict: bool, assign: bool
) -> None:
    """Put prepared tensors into the model; with `assign`, as its own parameters, tied where the model ties them."""
    if assign:
        state = model.state_dict(keep_vars=True)
        tensors = {name: _like(tensor, state.get(name)) for name, tensor in tensors.items()}
    ties = _ties(model) if assign else []
    with torch.no_grad():
        result = model.load_state_dict(dict(tensors), strict=False, assign=assign)
    for names in ties:
        _tie(model, names)
    # Only modules with hooks of their own can still differ here: they may rename or drop what they find.
    expected = set(report.missing)
    missing = [name for name in result.missing_keys if name not in expected]
    unexpected = list(result.unexpected_keys)
    if strict and (missing or unexpected):
        raise mismatch(model, report.origin, missing, unexpected, {}, len(tensors))
    report.missing += missing
    report.unexpected += unexpected
    report.loaded = [name for name in model.state_dict() if name not in result.missing_keys]


def _like(tensor: Tensor, target: Any) -> Tensor:
    """The source's tensor in the type that the model was built with."""
    if isinstance(target, Tensor) and tensor.dtype != target.dtype:
        tensor = tensor.to(target.dtype)
    return tensor


def _ties(model: nn.Module) -> list[list[str]]:
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _tie(model: nn.Module, names: list[str]) -> None:
    shared = model.get_parameter(names[0])
    for name in names[1:]:
        path, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(path), leaf, shared)


def _fill_aliases(tensors: dict[str, Tensor], state: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Give names that share a tensor their value back: those the file records, and those the model ties."""
    for alias, kept in metadata.items():
        if alias in state and alias not in tensors and kept in tensors:
            tensors[alias] = tensors[kept]
    groups: dict[int, list[str]] = {}
    for name, value in state.items():
        groups.setdefault(id(value), []).append(name)
    for names in groups.values():
        if len(names) > 1 and (present := [n for n in names if n in tensors]):
            for name in names:
                tensors.setdefault(name, tensors[present[0]])


def _fill_counters(tensors: dict[str, Tensor], state: Mapping[str, Any]) -> None:
    """Checkpoints older than BatchNorm's step counter lack it; torch, too, starts it at 0 then."""
    for name, value in state.items():
        if name.endswith("num_batches_tracked") and name not in tensors and f"{name[:-20]}.running_mean" in tensors:
            tensors[name] = torch.zeros((), dtype=value.dtype)


def _check_kinds(tensors: Mapping[str, Tensor], state: Mapping[str, Any], origin: str) -> None:
    """Whole numbers are not weights, nor are complex ones real: torch would convert them without a word."""
    for name, tensor in tensors.items():
        target = state.get(name)
        if isinstance(target, Tensor) and _kind(tensor) != _kind(target):
            theirs, ours = (str(t.dtype).removeprefix("torch.") for t in (tensor, target))
            raise MismatchError(f"tensor {name!r} of {origin} is of type {theirs}, the model's is of {ours}")


def _kind(tensor: Tensor) -> str:
    if tensor.dtype == torch.bool:
        return "bool"
    return "complex" if tensor.is_complex() else "real" if tensor.is_floating_point() else "whole"


def _shapes(model: nn.Module, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """The shapes that tensors must have: the model's, but for what modules take in others, by their `state_shapes`."""
    shapes = {name: value.shape for name, value in state.items() if isinstance(value, Tensor)}
    for path, module in model.named_modules():
        state_shapes: Any = getattr(module, "state_shapes", None)
        if state_shapes is None:
            continue
        prefix = f"{path}." if path else ""
        given = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for name, shape in state_shapes(given).items():
            if shape is None:
                shapes.pop(prefix + name, None)
            else:
                shapes[prefix + name] = shape
    return shapes


def _differs(tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> bool:
    return tensors.keys() != shapes.keys() or any(tensors[name].shape != shape for name, shape in shapes.items())


def _family_filter(model: nn.Module, tensors: dict[str, Tensor], origin: str) -> dict[str, Tensor]:
    """Let the model's family rename and resample what it finds.

    By timm's convention, a `checkpoint_filter_fn` beside the model, or else by the converter of official checkpoints.
    """
    home = sys.modules.get(type(model).__module__)
    function = getattr(home, "checkpoint_filter_fn", None)
    if function is None:
        return _converted(model, tensors)
    try:
        with torch.no_grad():
            return dict(function(dict(tensors), model))
    except Exception as error:
        # The filter is written for the family's own old layouts; on anything else the comparison speaks more clearly.
        name = f"{type(model).__module__}.checkpoint_filter_fn"
        warnings.warn(f"{name} does not understand {origin}: {error!r}", stacklevel=4)
        return tensors


def _converted(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the converter of a registered model's family makes of tensors; as they are where it does not know them."""
    converter = _converter_of(model)
    if converter is None:
        return tensors
    try:
        return converter(tensors)[0]
    except ConversionError:
        return tensors  # the comparison with the model says what does not fit


def _converter_of(model: nn.Module) -> Callable[..., Any] | None:
    """The converter of official checkpoints of a registered model's family."""
    name = getattr(model, "zoo_name", None) or (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
    return model_entry(name).family.load_converter() if isinstance(name, str) and is_model(name) else None


def _explained(model: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """Why tensors are not this model's, where its family can tell: by `explain_mismatch` beside its converter."""
    converter = _converter_of(model)
    explain = getattr(sys.modules[converter.__module__], "explain_mismatch", None) if converter else None
    why = explain(tensors, model) if explain is not None else ""
    return f" {why[0].upper()}{why[1:]}." if why else ""


def _has_load_hooks(model: nn.Module) -> bool:
    return any(module._load_state_dict_pre_hooks for module in model.modules())


def mismatch(
    model: nn.Module,
    origin: str,
    missing: list[str],
    unexpected: list[str],
    other: Mapping[str, tuple[torch.Size, torch.Size]],
    total: int,
) -> MismatchError:
    """The error for tensors that do not fit, with a way out where one is visible."""
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing: {_some(missing)}")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected: {_some(unexpected)}")
    if other:
        shown = [f"{n} {tuple(a)} for {tuple(b)}" for n, (a, b) in other.items()]
        parts.append(f"{len(other)} of another shape: {_some(shown)}")
    name = getattr(model, "zoo_name", None) or type(model).__name__
    first = next((n for n in model.state_dict() if n in other or n in missing), "")
    if first in other:
        parts.append(f"first {first!r}: {tuple(other[first][0])} in the file, {tuple(other[first][1])} in the model")
    elif first and other:
        parts.append(f"first {first!r}: in the model alone")
    return MismatchError(f"{origin} does not fit {name}: {'; '.join(parts)}.{_way_out(missing, unexpected, total)}")


def _some(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _way_out(missing: list[str], unexpected: list[str], total: int) -> str:
    if not missing or not unexpected:
        return "" if not missing else " If a part may stay untrained, pass strict=False."
    head = unexpected[0].split(".", 1)[0] + "."
    if all(n.startswith(head) for n in unexpected) and {n[len(head) :] for n in unexpected} & set(missing):
        return f" All its names start with {head!r}: pass rename=[(r'^{head[:-1]}\\.', '')]."
    if len(unexpected) >= total // 2:
        return " It is laid out for another implementation: convert it first (zoo.weights.convert, zoo convert)."
    close = near_names(missing[0], unexpected, limit=1)
    return f" {missing[0]} may be {close[0]!r} there: pass rename=[(pattern, replacement)]." if close else ""
