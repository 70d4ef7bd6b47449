"""Weights into a model that was built without memory: nothing is initialised to be thrown away.

The model is built on torch's meta device, where tensors have shapes but no values; the file's header is compared with
those shapes; then the tensors mapped from the file become the parameters. What no file holds is remade: computed
buffers by the modules' own `init_non_persistent_buffers()` (timm's convention, and ours), a new classifier by
`reset_parameters()`. A model that cannot be completed in this way is built the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import WeightsError, ZooError
from zoo.weights.adapt import classifier_names
from zoo.weights.bounds import bounded_build, check_computed
from zoo.weights.load import ADAPTATIONS, LoadReport, assign_tensors, prepare
from zoo.weights.safetensors_file import ALIGNMENT
from zoo.weights.source import open_checkpoint
from zoo.weights.state import Rename

_CONTAINERS = ("_parameters", "_buffers", "_modules")


class CannotMaterialiseError(WeightsError):
    """A model on the meta device with tensors that neither the file nor its own code can fill."""


def build_with_weights(
    build: Callable[[], nn.Module],
    source: Any,
    *,
    device: torch.device | str | None = None,
    strict: bool = True,
    adapt: Collection[str] = ADAPTATIONS,
    rename: Rename | None = None,
    **options: Any,
) -> tuple[nn.Module, LoadReport]:
    """Build a model and load weights into it, at the cost of the weights alone where the model allows it.

    Args:
        build: makes the model on torch's current default device; must be callable twice.
        source: as `load_weights`.
        device: where the model shall be. Default: torch's current default device.
        strict, adapt, rename: as `load_weights`.
        **options: of `open_checkpoint`.

    Returns:
        The model and the report.

    Raises:
        as `load_weights`, before memory is taken; and whatever `build` raises.
    """
    target = torch.device(device) if device is not None else torch.get_default_device()
    checkpoint = open_checkpoint(source, **options)
    fit: dict[str, Any] = {"strict": strict, "adapt": adapt, "rename": rename}
    try:
        with torch.device("meta"), bounded_build(checkpoint.tensors, checkpoint.origin):
            model = build()
    except ZooError:
        raise
    except Exception:  # a constructor that computes with values cannot run without them
        model = None
    if model is not None:
        try:
            return model, load_into_meta(model, checkpoint, device=target, **fit)
        except CannotMaterialiseError:
            pass
    with target, bounded_build(checkpoint.tensors, checkpoint.origin):
        model = build()
    tensors, report = prepare(model, checkpoint, **fit)
    tensors = {name: tensor.to(target) for name, tensor in tensors.items()}
    assign_tensors(model, tensors, report, strict=strict, assign=True)
    return model, report


def load_into_meta(
    model: nn.Module,
    source: Any,
    *,
    device: torch.device | str = "cpu",
    strict: bool = True,
    adapt: Collection[str] = ADAPTATIONS,
    rename: Rename | None = None,
    **options: Any,
) -> LoadReport:
    """Load weights into a model built on the meta device, making it real.

    Args:
        model: built under `torch.device("meta")`; afterwards every tensor of it is on `device`. On an error it is
            to be thrown away.
        source: as `load_weights`, or a `Checkpoint`.
        device: where the model shall be.
        strict, adapt, rename: as `load_weights`.
        **options: of `open_checkpoint`.

    Returns:
        The report; its `missing` names were given fresh values.

    Raises:
        CannotMaterialiseError: a tensor is neither in the source nor remade by the model's own code.
        and as `load_weights`.
    """
    device = torch.device(device)
    checkpoint = open_checkpoint(source, **options)
    tensors, report = prepare(model, checkpoint, strict=strict, adapt=adapt, rename=rename)
    if device.type != "cpu":
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    else:
        # The one matrix of nearly every model that meets single vectors: see the note on alignment in the reader.
        heads = tuple(f"{path}." for path in classifier_names(model))
        for name, tensor in tensors.items():
            if name.startswith(heads) and tensor.data_ptr() % ALIGNMENT:
                tensors[name] = tensor.clone()
    assign_tensors(model, tensors, report, strict=strict, assign=True)
    _remake_buffers(model, device, tensors, report.origin)
    _reset_missing(model, device)
    if left := next(_on_meta(model), None):
        raise CannotMaterialiseError(f"{left} of {type(model).__name__} has no values in {report.origin}")
    return report


def _on_meta(model: nn.Module) -> Iterator[str]:
    """Names of everything that still has no values: parameters, buffers, and tensors kept as plain attributes."""
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        attributes = {k: v for k, v in module.__dict__.items() if k not in _CONTAINERS}
        for key, value in {**module._parameters, **module._buffers, **attributes}.items():
            if _holds_meta(value):
                yield prefix + key


def _holds_meta(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.device.type == "meta"
    if isinstance(value, list | tuple | set):
        return any(_holds_meta(v) for v in value)
    if isinstance(value, dict):
        return any(_holds_meta(v) for v in value.values())
    return False


def _method(module: nn.Module, name: str) -> Callable[[], object] | None:
    method = getattr(module, name, None)
    return method if callable(method) else None


def _mark(tensor: Tensor) -> Tensor:
    """Fill with a value that no initialisation leaves, so that what was not filled can be told."""
    with torch.no_grad():
        if tensor.is_floating_point() or tensor.is_complex():
            tensor.fill_(float("nan"))
        elif tensor.dtype != torch.bool:
            tensor.fill_(torch.iinfo(tensor.dtype).min if tensor.dtype.is_signed else torch.iinfo(tensor.dtype).max)
    return tensor


def _still_marked(tensor: Tensor) -> bool:
    if tensor.numel() == 0 or tensor.dtype == torch.bool:
        return False
    if tensor.is_floating_point() or tensor.is_complex():
        return bool(tensor.isnan().any())
    info = torch.iinfo(tensor.dtype)
    return bool((tensor == (info.min if tensor.dtype.is_signed else info.max)).any())


def _remake_buffers(model: nn.Module, device: torch.device, held: Mapping[str, Tensor], origin: str) -> None:
    """Give computed buffers memory, and let the modules that own them compute them again."""
    check_computed([b for b in model.buffers() if b.is_meta], held, origin)
    for module in model.modules():
        owns = {key: buffer for key, buffer in module._buffers.items() if buffer is not None and buffer.is_meta}
        remake = _method(module, "init_non_persistent_buffers")
        loose = any(_holds_meta(value) for key, value in module.__dict__.items() if key not in _CONTAINERS)
        if remake is None or not (owns or loose):
            continue
        for key, buffer in owns.items():
            module._buffers[key] = _mark(torch.empty_like(buffer, device=device))
        with torch.no_grad(), device:
            remake()
        for key in owns:
            if (buffer := module._buffers[key]) is not None and _still_marked(buffer):
                raise CannotMaterialiseError(f"{type(module).__name__} does not remake its buffer {key!r}")


def _reset_missing(module: nn.Module, device: torch.device, path: str = "") -> None:
    """Initialise the modules that no tensor was found for, as their constructors would have."""
    parameters = list(module.parameters())
    if not any(p.device.type == "meta" for p in parameters):
        return
    reset = _method(module, "reset_parameters")
    if reset and all(p.is_meta for p in parameters):
        module.to_empty(device=device)
        for tensor in (*module.parameters(), *module.buffers()):
            _mark(tensor)
        with device:
            for inner in module.modules():
                if remake := _method(inner, "init_non_persistent_buffers"):
                    remake()
            reset()
        left = [n for n, t in (*module.named_parameters(), *module.named_buffers()) if _still_marked(t)]
        if left:
            raise CannotMaterialiseError(f"{type(module).__name__}.reset_parameters at {path!r} leaves {left[0]!r}")
        return
    if any(p is not None and p.device.type == "meta" for p in module._parameters.values()):
        raise CannotMaterialiseError(f"{type(module).__name__} at {path!r} cannot initialise a part of itself")
    for name, child in module.named_children():
        _reset_missing(child, device, f"{path}.{name}" if path else name)
