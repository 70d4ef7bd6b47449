"""Official checkpoints of the papers in our layout: names and shapes mapped, every key accounted for."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ConversionError, UnknownModelError
from zoo.naming import did_you_mean
from zoo.weights.adapt import class_row_names, first_conv_names
from zoo.weights.config import CONFIG_NAME
from zoo.weights.description import describe, write_config
from zoo.weights.save import new_folder, save_safetensors
from zoo.weights.shards import is_weights_name
from zoo.weights.source import SAFE_NAME, open_checkpoint
from zoo.weights.state import unwrap

#: Endings of files, none of which is written here.
_OTHER_FILES = {
    *(".bin", ".pth", ".pt", ".pt2", ".ckpt", ".pkl", ".pickle", ".npz", ".npy", ".h5", ".hdf5", ".onnx", ".gguf"),
    *(".safetensor", ".safetensors", ".st", ".tensors", ".msgpack", ".json", ".txt", ".zip", ".tar", ".gz", ".tgz"),
}
Converter = Callable[[dict[str, Tensor]], tuple[dict[str, Tensor], list[str]]]


@dataclass
class ConversionReport:
    """What a conversion did.

    Attributes:
        name: the target: a registered model or a layer class.
        notes: the converter's remarks, a line each (renamed, reshaped, left out because unused).
        tensors: how many tensors came out.
        num_classes: classes of the classifier found in the checkpoint, for a model that has rows of them.
        in_chans: image channels found in the checkpoint, for a model.
        options: further constructor options that the checkpoint's tensors call for.
    """

    name: str
    notes: list[str] = field(default_factory=list)
    tensors: int = 0
    num_classes: int | None = None
    in_chans: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join([f"{self.tensors} tensors for {self.name}", *(f"  {note}" for note in self.notes)])


class ConvertedState(dict[str, Tensor]):
    """A state dict in our layout; `report` tells how it came about."""

    def __init__(self, tensors: Mapping[str, Tensor], report: ConversionReport):
        super().__init__(tensors)
        self.report = report


def convert(state_dict: Mapping[str, Any], name: str) -> ConvertedState:
    """Map an official checkpoint to our layout.

    Args:
        state_dict: the official state dict, or the training checkpoint that holds it.
        name: a registered model, a registered module (`kind/name`), or the name of a layer class of a family that has
            a converter.

    Returns:
        The state dict; its `report` lists what was renamed and what was left out. For a registered model it fits the
        model built with the report's `num_classes`, `in_chans` and `options` exactly.

    Raises:
        UnknownModelError, UnknownModuleError: no such model, layer or module; near names are in the message.
        ConversionError: keys that have no place in our layout, or tensors that our model misses; names the first
            of them and counts the rest.
    """
    from zoo.registry import is_model, model_entry, module_entry

    tensors = unwrap(state_dict, "the checkpoint")
    if not is_model(name):
        layer = module_entry(name).load().__name__ if "/" in name else name
        return _convert_layer(tensors, layer)
    entry = model_entry(name)
    converter = entry.family.load_converter()
    new, notes = converter(tensors) if converter else (tensors, [])
    new = _at_its_place(new, entry.name, _options(converter, new, entry.name))
    report = ConversionReport(entry.name, list(notes), len(new), options=_options(converter, new, entry.name))
    _check_against_model(new, report, _of_module(converter, "explain_mismatch"))
    return ConvertedState(new, report)


def _convert_layer(tensors: dict[str, Tensor], name: str) -> ConvertedState:
    """For a layer class; a converter that is told which one is wanted also reads off its options."""
    converter = _layer_converter(name)
    if "name" not in inspect.signature(converter).parameters:
        new, notes = converter(tensors)
        return ConvertedState(new, ConversionReport(name, notes, len(new)))
    new, notes = converter(tensors, name)  # pyright: ignore[reportCallIssue] - it takes the name
    infer = _of_module(converter, "infer_variant")
    options = infer(new) if infer else {}
    made = f"made by {name}({', '.join(f'{key}={value!r}' for key, value in options.items())})"
    return ConvertedState(new, ConversionReport(name, [*notes, made], len(new), options=options))


def _layer_converter(name: str) -> Converter:
    """The converter of the family in whose modules the layer class lives; the module that defines it comes first."""
    from zoo.registry import default_registry

    known: dict[str, Converter] = {}
    home: dict[str, Converter] = {}
    for entry in (*default_registry().models, *default_registry().modules):
        converter = entry.family.load_converter()
        if converter is None or not isinstance(entry.target, str):
            continue
        place = entry.target.partition(":")[0]
        for key, value in vars(import_module(place)).items():
            if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__.startswith("zoo."):
                (home if value.__module__ == place else known).setdefault(key, converter)
    known |= home
    if name not in known:
        candidates = [*default_registry().names(), *known]
        raise UnknownModelError(f"there is no model or layer {name!r} to convert to{did_you_mean(name, candidates)}")
    return known[name]


def _of_module(converter: Converter | None, name: str) -> Callable[..., Any] | None:
    """A function that stands beside a converter."""
    return getattr(sys.modules[converter.__module__], name, None) if converter else None


def _options(converter: Converter | None, tensors: dict[str, Tensor], name: str) -> dict[str, Any]:
    """What a converter's module reads off the tensors by its `infer_variant`, the sizes that a name fixes aside.

    One that takes a name, too, knows what that fixes, and gives exactly the options.
    """
    infer = _of_module(converter, "infer_variant")
    if infer is None:
        return {}
    sizes = ("name", "dims", "depths", "stem_chs", "num_classes", "in_chans")
    if "name" in inspect.signature(infer).parameters:
        return infer(tensors, name)
    try:
        return {key: value for key, value in infer(tensors).items() if key not in sizes and value}
    except ConversionError:
        return {}  # not one of the published sizes; the comparison with the model says what does not fit


def _at_its_place(tensors: dict[str, Tensor], name: str, options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors of a network that is a part of the model, under its name there; others as they are."""
    from timm import create_model

    with torch.device("meta"):
        model = create_model(name, **options)
    names = model.state_dict().keys()
    for part, _ in model.named_children():
        moved = {f"{part}.{key}": tensor for key, tensor in tensors.items()}
        if names.isdisjoint(tensors) and not names.isdisjoint(moved):
            return moved
    return tensors


def _check_against_model(
    tensors: Mapping[str, Tensor], report: ConversionReport, explain: Callable[..., str] | None = None
) -> nn.Module:
    """Compare with the registered model of the checkpoint's own class and channel counts, built without memory."""
    from timm import create_model

    with torch.device("meta"):
        model = create_model(report.name, **report.options)
        report.num_classes, report.in_chans = _counts(model, tensors)
        options: dict[str, Any] = {"num_classes": report.num_classes, "in_chans": report.in_chans, **report.options}
        model = create_model(report.name, **{k: v for k, v in options.items() if v is not None})
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    other = [
        f"{n} has shape {tuple(tensors[n].shape)}, the model's is {tuple(shapes[n])}"
        for n in shapes
        if n in tensors and tensors[n].shape != shapes[n]
    ]
    problems = [
        _some("no place for ", [n for n in tensors if n not in shapes]),
        _some("nothing for ", [n for n in shapes if n not in tensors]),
        _some("", other),
    ]
    if any(problems):
        if explain is not None:
            problems.insert(0, explain(tensors, model))
        said = "; ".join(problem for problem in problems if problem)
        raise ConversionError(f"the checkpoint is not one of {report.name} (is it another model's?): {said}")
    return model


def _some(what: str, names: list[str], limit: int = 5) -> str:
    if not names:
        return ""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{what}{', '.join(names[:limit])}{more}"


def _counts(model: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[int | None, int | None]:
    """Classes and image channels of a checkpoint, from the shapes of its first and last layers; None if none tells."""
    rows = class_row_names(model)
    classes = [tensors[f"{p}.weight"].shape[0] for p in rows if f"{p}.weight" in tensors]
    channels = None
    shapes = model.state_dict()
    for path in first_conv_names(model):
        name = f"{path}.weight"
        if name in tensors and name in shapes and tensors[name].ndim == shapes[name].ndim == 4:
            channels = tensors[name].shape[1] * model.in_chans // shapes[name].shape[1]  # type: ignore[operator]
    return (classes[0] if classes else 0 if rows else None), channels


def convert_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    name: str,
    *,
    allow_pickle: bool = False,
    sha256: str | None = None,
) -> ConversionReport:
    """Convert an official checkpoint on disk.

    Args:
        source: the official file; NumPy's `.npz` of arrays will do.
        target: a `.safetensors` file to write, or a folder: then `model.safetensors` and a config.json that
            `create_model("local-dir:...")` reads. Written whole or not at all. A folder that holds an earlier
            model alone is replaced.
        name: as `convert`.
        allow_pickle: read `.pth` and the like, too, by `torch.load(weights_only=True)`.
        sha256: expected sum of the source.

    Returns:
        The report; the last of its notes is the SHA-256 of the written file.

    Raises:
        as `convert` and `open_checkpoint`; ValueError for a folder when `name` is a layer, for a file of another
        ending, and for a folder with other files.
    """
    from zoo.registry import is_model

    _check_target(Path(target))
    checkpoint = open_checkpoint(source, allow_pickle=allow_pickle, sha256=sha256, copy=False)
    state = convert(checkpoint.tensors, name)
    path = Path(target)
    metadata = {"zoo_name": state.report.name}
    if path.suffix == ".safetensors":
        digest = save_safetensors(state, path, metadata=metadata)
    elif not is_model(name):
        raise ValueError(f"{name!r} is a layer, which has no config.json: write to a .safetensors file")
    else:
        with new_folder(path) as folder:
            digest = save_safetensors(state, folder / SAFE_NAME, metadata={"format": "pt"})
            model = _check_against_model(state, state.report)
            size = (folder / SAFE_NAME).stat().st_size
            content = describe(model, files={SAFE_NAME: {"sha256": digest, "size": size}})
            write_config(content, folder / CONFIG_NAME)
    state.report.notes.append(f"sha256 {digest}")
    return state.report


def _check_target(path: Path) -> None:
    """Refuse to write over what is not a model, and a name that looks like a file of another kind."""
    if path.suffix == ".safetensors":
        if path.is_dir():
            raise ValueError(f"{path} is a folder; name a file in it, or a folder without that ending")
        return
    if path.is_file():
        raise ValueError(f"{path} is a file; write to a folder, or to a .safetensors file")
    if path.suffix.lower() in _OTHER_FILES:
        raise ValueError(
            f"{path} looks like a file, and the only files written are .safetensors: write to "
            f"{path.with_suffix('.safetensors')}, or to a folder, {path.with_suffix('')}"
        )
    others = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    if others := [name for name in others if name != CONFIG_NAME and not is_weights_name(name)]:
        raise ValueError(
            f"{path} holds other files than those of a converted model ({', '.join(others[:5])}), and converting "
            f"replaces the folder: choose a new one"
        )
