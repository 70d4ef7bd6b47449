"""A model as a file that runs without this package: `torch.export` and ONNX, checked against the model itself."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo._version import __version__
from zoo.errors import ExportError, MissingExtraError
from zoo.files import atomic_path
from zoo.layers.hopfield import Hopfield
from zoo.layers.modes import evaluating
from zoo.models.class_scores import as_logits
from zoo.models.data_config import data_config, table_columns, words_of
from zoo.models.super_resolution.network import SuperResolutionNet
from zoo.models.varifocal.cases import CaseModel
from zoo.naming import did_you_mean, known_keywords

#: Format -> the ending that files of it have.
FORMATS = {"onnx": ".onnx", "torch-export": ".pt2"}
#: The ONNX operators that torch's exporter writes; older ones it cannot.
_FIRST_OPSET = 18
INPUT, OUTPUT = "image", "logits"
#: What a model gives that enlarges images.
ENLARGED = "enlarged"
#: What a model of bags takes, and one of tables.
BAG_INPUTS = ("instances", "padding_mask")
ROW_INPUT = "rows"
#: About the side of images that a model is tried on which takes any, and that of those where it takes one size.
_SMALL, _SIDE = 16, 32


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        format: "onnx" or "torch-export".
        inputs: names of what it takes: the image; of a model of bags, instances and padding mask; of tables, rows.
        output: the name of what it gives: logits, or the enlarged image.
        input_size: (channels, height, width) of an image, None for any height or width; the shape of an instance, or
            (columns,).
        batch: number of images, bags or rows at a time, `None` for any.
        opset: version of the ONNX operators, `None` for `torch.export`.
        size: bytes.
        error: the largest difference of an output to the model's, relative to the largest output; `None` if the file
            was not run.
    """

    path: Path
    format: str
    inputs: tuple[str, ...]
    output: str
    input_size: tuple[int | None, ...]
    batch: int | None
    opset: int | None
    size: int
    error: float | None


@known_keywords
def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    to: str | None = None,
    batch: int | None = None,
    opset: int | None = None,
    tolerance: float = 1e-3,
    verify: bool = True,
) -> Exported:
    """Write a model as an ONNX or `torch.export` file, and run that file to see that it computes what the model does.

    The file takes images as `zoo.data_config(model)` prepares them, (batch, channels, height, width) in float32, under
    the name `image`, and gives `logits`. How images are prepared, and the label names, are in it as JSON: in ONNX under
    the metadata key `zoo`, in a `.pt2` file as the extra file `zoo.json`.

    That of a model of bags takes `instances`, bags padded to the longest, (bags, instances, *shape of an instance), and
    `padding_mask`, (bags, instances), True where there is no instance. Features come standardised, by `mean` and `std`.
    That of a model of tables takes `rows`, (rows, columns), in their own units; `logits` of a regression are the
    targets, in theirs.

    That of a model that enlarges images takes them in [0, 1], of any height and width where the exporter can leave them
    open, else of 32 x 32, and gives `enlarged` at the model's own scale, by `policy="argmax"`; nothing is cut off at 0
    and 1.

    Of a model that says more than logits, as varifocal networks do, `logits` are those of its classes by the last stage
    that it runs, without its temperature, which is in the JSON (`temperature`, `temperature_applied`): the softmax of
    logits / temperature is what `zoo.predict` gives. What else it says, boxes and polarities, is not in the file.

    Where a Hopfield layer stops as soon as nothing changes (`tol`), the file makes every update, which the comparison
    with the model covers.

    Args:
        model: made by `zoo.create_model`; it is not changed.
        path: the file; it appears whole or not at all.
        to: "onnx" or "torch-export". Default: by the ending, `.onnx` or `.pt2`.
        batch: images, bags or rows at a time, if only so many; any number by default.
        opset: version of the ONNX operators, from 18; the exporter's default if not given.
        tolerance: the largest difference allowed, relative to the largest output; a number from 0.
        verify: run the written file, for one image and for several, and compare.

    Returns:
        What was written, with the difference found.

    Raises:
        ValueError: no such format, or an option out of range.
        TypeError: not a model.
        ExportError: the model cannot be exported, or the file computes something else; nothing is left behind.
        MissingExtraError: without the extra `export`, for ONNX.
        OSError: the file cannot be written.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"export takes a model, got {model!r}: zoo.export(zoo.create_model({model!r}), ...)")
    target = Path(path)
    form = format_of(target, to)
    check_options(target, form, batch=batch, opset=opset, tolerance=tolerance)
    described = hasattr(model, "pretrained_cfg") and isinstance(getattr(model, "num_classes", None), int)
    if not described and not _enlarges(model):
        raise ExportError(f"{type(model).__name__} is no model made by zoo.create_model: its input is not known")
    check_model(model)
    plain = copy.deepcopy(model).to(device="cpu", dtype=torch.float32).requires_grad_(False)
    facts, output = _facts(plain), ENLARGED if _enlarges(plain) else OUTPUT
    inputs = _inputs_of(plain, facts["input_size"])
    plain = _Scores(plain) if hasattr(plain, "as_logits") else plain
    with evaluating(plain), torch.no_grad(), atomic_path(target) as temporary:
        try:
            run, opset, inputs = _written(_without_tests(plain), inputs, batch, form, temporary, facts, opset, output)
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            raise ExportError(f"{type(model).__name__} cannot be exported to {form}: {first}") from error
        error = _difference(plain, run, inputs, batch, tolerance, form) if verify else None
        length = temporary.stat().st_size
    return Exported(target, form, inputs.names, output, inputs.size, batch, opset, length, error)


def _written(
    model: nn.Module,
    inputs: _Inputs,
    batch: int | None,
    form: str,
    path: Path,
    facts: dict[str, Any],
    opset: int | None,
    output: str,
) -> tuple[Callable[..., Tensor], int | None, _Inputs]:
    """What runs the file, the opset, and what it takes: images of one size where the exporter cannot leave it open."""
    example = inputs.draw(batch or 2, torch.Generator().manual_seed(0))
    free = inputs.any_number(of_batch=batch is None)
    try:
        program = torch.export.export(model, example, dynamic_shapes=free)
        facts = {**facts, "input_size": inputs.size}
        return *_write(program, form, path, facts, opset, inputs.names, output), inputs
    except Exception:
        if not (isinstance(inputs, _SmallImages) and None in inputs.size):
            raise
    fixed = _SmallImages((inputs.size[0], _SIDE, _SIDE))
    return _written(model, fixed, batch, form, path, facts, opset, output)


def check_model(model: nn.Module) -> None:
    """Refuse a model that no exporter can follow.

    Raises:
        ExportError: a model of sequences, one that enlarges images by no scale of its own, or a Hopfield layer without
            a number of updates.
    """
    name = type(model).__name__
    if words_of(model) is not None:
        raise ExportError(
            f"{name} cannot be exported: it takes sequences of letters, which a file has no tokenizer for; "
            "zoo.save_pretrained keeps the model with its own"
        )
    if None in (getattr(model, "instance_shape", None) or ()):
        raise ExportError(
            f"{name} cannot be exported: of each bag it keeps the share of sequences that it ranks highest, and how "
            "many these are a file cannot work out"
        )
    if _enlarges(model) and getattr(model, "scale", None) is None:
        raise ExportError(f"{name} cannot be exported: it has no scale of its own; make it with scale=4, say")
    for path, module in model.named_modules():
        if isinstance(module, Hopfield) and module.until_convergence:
            raise ExportError(f"{name} cannot be exported: {path} goes on until nothing changes; give it num_updates")


@dataclass(frozen=True)
class _PlainInputs:
    """Images (B, C, H, W), or rows (B, columns), which `in_units` spreads as those that the model was fitted to."""

    size: tuple[int, ...]
    names: tuple[str, ...] = (INPUT,)
    noun: str = "image"
    in_units: Callable[[Tensor], Tensor] | None = None

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        drawn = torch.randn(count, *self.size, generator=generator)
        return (drawn if self.in_units is None else self.in_units(drawn),)

    def any_number(self, *, of_batch: bool) -> Any:
        """The axes whose length is free, as `torch.export.export` wants them."""
        return ({0: torch.export.Dim("batch", min=1)},) if of_batch else None


@dataclass(frozen=True)
class _SmallImages:
    """Images (B, C, H, W) in [0, 1]; `size` is (C, None, None) for those of any height and width."""

    size: tuple[int | None, ...]
    names: tuple[str, ...] = (INPUT,)
    noun: str = "image"

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Of another height and width for every count, where these are free."""
        channels, *sides = self.size
        free = (_SMALL + 3 * count, _SMALL - count)
        shape = (given or side for given, side in zip(sides, free, strict=True))
        return (torch.rand(count, channels or 1, *shape, generator=generator),)

    def any_number(self, *, of_batch: bool) -> Any:
        """The axes whose length is free, as `torch.export.export` wants them."""
        names = {0: "batch"} if of_batch else {}
        names |= {2: "height", 3: "width"} if self.size[1] is None else {}
        return ({axis: torch.export.Dim(name, min=1) for axis, name in names.items()},)


@dataclass(frozen=True)
class _BagInputs:
    """Bags (B, N, *size), and their padding (B, N)."""

    size: tuple[int, ...]
    names: tuple[str, ...] = BAG_INPUTS
    noun: str = "bag"

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The first bag has all of count + 2 instances, each further one fewer, and one at least."""
        sizes = torch.arange(count + 2, 2, -1)
        padding = torch.arange(count + 2) >= sizes.unsqueeze(1)
        return torch.randn(count, count + 2, *self.size, generator=generator), padding

    def any_number(self, *, of_batch: bool) -> Any:
        """The axes whose length is free, as `torch.export.export` wants them."""
        free = {0: torch.export.Dim("bags", min=1)} if of_batch else {}
        free[1] = torch.export.Dim("instances", min=1)
        return (free, free)


_Inputs = _PlainInputs | _SmallImages | _BagInputs


def _enlarges(model: Any) -> bool:
    return getattr(model, "task", None) == SuperResolutionNet.task


def _inputs_of(model: Any, size: tuple[Any, ...]) -> _Inputs:
    if _enlarges(model):
        return _SmallImages(size)
    if table_columns(model) is not None:
        return _PlainInputs(size, (ROW_INPUT,), "row", model.scaling.back)
    return _BagInputs(size) if hasattr(model, "instance_shape") else _PlainInputs(size)


class _Scores(nn.Module):
    """A model with the logits that it makes of its output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return as_logits(self.model, self.model(x))


def _without_tests(model: nn.Module) -> nn.Module:
    """A copy that makes every update, for an exporter cannot follow one that stops where nothing changes."""
    made = copy.deepcopy(model)
    for module in made.modules():
        if isinstance(module, Hopfield):
            module.tol = None
    return made


def check_options(target: Path, form: str, *, batch: Any, opset: Any, tolerance: Any) -> None:
    """Refuse what cannot be exported before anything is computed.

    Raises:
        ValueError: an option out of range, or an opset for a format that has none.
        IsADirectoryError: the target is a folder.
        MissingExtraError: without the extra `export`, for ONNX.
    """
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise ValueError(f"batch must be a whole number from 1, or None for any, got {batch!r}")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be a number from 0, got {tolerance!r}")
    if opset is not None and form != "onnx":
        raise ValueError(f"opset is of ONNX; a {form} file has none")
    if target.is_dir():
        raise IsADirectoryError(
            f"{target} is a folder; give the file that shall be written, such as {target}/model.onnx"
        )
    if form != "onnx":
        return
    _need_onnx()
    import onnx

    last = onnx.defs.onnx_opset_version()
    if opset is not None and (type(opset) is not int or not _FIRST_OPSET <= opset <= last):
        raise ValueError(f"opset must be a whole number from {_FIRST_OPSET} to {last}, got {opset!r}")


def format_of(path: Path, to: str | None) -> str:
    """The format that is asked for, or that a file's ending says.

    Raises:
        ValueError: there is none of that name or ending, or the two differ.
    """
    if to is None:
        found = next((form for form, ending in FORMATS.items() if path.suffix == ending), None)
        if found is None:
            endings = ", ".join(f"{ending} ({form})" for form, ending in FORMATS.items())
            raise ValueError(f"{str(path)!r} ends in neither of {endings}: name it so, or give to=")
        return found
    if to not in FORMATS:
        raise ValueError(f"to must be one of {', '.join(map(repr, FORMATS))}, got {to!r}{did_you_mean(to, FORMATS)}")
    if path.suffix in FORMATS.values() and path.suffix != FORMATS[to]:
        raise ValueError(f"{str(path)!r} has the ending of another format; that of {to} is {FORMATS[to]}")
    return to


def _need_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtraError("export to ONNX", package, "export") from error


def _facts(model: nn.Module) -> dict[str, Any]:
    """What whoever runs the file must know of it."""
    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    name = getattr(model, "zoo_name", None) or cfg.get("architecture")
    facts: dict[str, Any] = {"architecture": name, "zoo": __version__}
    if _enlarges(model):
        size = (model.in_chans, None, None)
        return {**facts, "input_size": size, "input_range": (0, 1), "task": model.task, "scale": model.scale}
    facts |= {"label_names": cfg.get("label_names"), **data_config(model)}
    facts["input_size"] = tuple(facts["input_size"])
    if table_columns(model) is not None:
        facts |= {name: getattr(model, name) for name in ("task", "feature_names", "feature_units", "target_units")}
    if isinstance(model, CaseModel):
        facts |= {"temperature": model.temperature[0], "temperature_applied": False}
    return facts


def _write(
    program: Any, form: str, path: Path, facts: dict[str, Any], opset: int | None, names: tuple[str, ...], output: str
) -> tuple[Callable[..., Tensor], int | None]:
    """Write the file; returns what runs it, and the opset."""
    text = json.dumps(facts, sort_keys=True)
    if form == "torch-export":
        with path.open("wb") as file:  # by name it wants an ending that a temporary file has not
            torch.export.save(program, file, extra_files={"zoo.json": text})
        with path.open("rb") as file:
            return torch.export.load(file).module(), None
    import onnx
    import onnxruntime

    converted = torch.onnx.export(
        program,
        input_names=list(names),
        output_names=[output],
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )
    assert converted is not None  # the exporter with dynamo=True always returns a program
    proto = converted.model_proto
    onnx.helper.set_model_props(proto, {"zoo": text})
    onnx.save(proto, path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    version = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if opset not in (None, version):
        raise ValueError(f"torch's exporter cannot write it in opset {opset}, only in {version}")

    def run(*given: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {n: x.numpy() for n, x in zip(names, given, strict=True)})[0])

    return run, version


def _difference(
    model: nn.Module,
    run: Callable[..., Tensor],
    inputs: _Inputs,
    batch: int | None,
    most: float,
    form: str,
) -> float:
    """The largest relative difference over inputs and batches that the exporter has not seen.

    Raises:
        ExportError: larger than `most`, or another shape.
    """
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for count in (1, 3) if batch is None else (batch,):
        given = inputs.draw(count, generator)
        wanted = model(*given)
        try:
            got = run(*given)
        except Exception as error:
            raise ExportError(f"the {form} file does not run on {count} {inputs.noun}s: {error}") from error
        if got.shape != wanted.shape:
            raise ExportError(f"the {form} file gives {tuple(got.shape)}, the model {tuple(wanted.shape)}")
        worst = max(worst, float((got - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12)))
    if not worst <= most:
        raise ExportError(
            f"the {form} file differs from the model by {worst:.2g} of its largest output, more than tolerance={most}"
        )
    return worst
