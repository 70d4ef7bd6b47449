"""What passes through a model: one forward, mostly on the meta device, with every module watched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UnsupportedSurgery
from zoo.layers.modes import evaluating
from zoo.models.data_config import data_config

BATCH = 2


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        shape: of its first argument.
        out: shape of what it returned, `None` unless one tensor.
        extra: name -> value of the further arguments that were not None; tensors stand as their shapes.
    """

    shape: tuple[int, ...]
    out: tuple[int, ...] | None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Probe:
    """What one forward of a model showed.

    Attributes:
        calls: dotted path -> its calls, in order; a module that was not called is absent.
        features: shape of `forward_features`, `None` unless one tensor.
        logits: shape of the output, or those of several.
        image: (channels, height, width) of the input.
    """

    calls: dict[str, list[Call]]
    features: tuple[int, ...] | None
    logits: Any
    image: tuple[int, int, int]


def example_input(model: nn.Module, batch: int = BATCH, device: torch.device | None = None) -> Tensor:
    """Zeros of the shape that the model takes."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # statistics are of no concern here
        size = data_config(model)["input_size"]
    parameter = next(model.parameters(), None)
    dtype = parameter.dtype if parameter is not None and parameter.is_floating_point() else torch.float32
    device = device or (parameter.device if parameter is not None else torch.device("cpu"))
    return torch.zeros(batch, *size, dtype=dtype, device=device)


def probe(model: nn.Module) -> Probe:
    """Run a model once, in evaluation mode, and report what each of its modules was given and gave.

    Raises:
        UnsupportedSurgery: it is no image model of timm's form.
    """
    if hasattr(model, "instance_shape"):
        raise UnsupportedSurgery(
            f"{type(model).__name__} takes bags of instances; parts are replaced in models of images. Its "
            "pooling has options of its own, such as hopfield_mil's pooling={'association': 'sparsemax'}"
        )
    if not hasattr(model, "forward_features"):
        raise UnsupportedSurgery(
            f"{type(model).__name__} is no image model of timm's form (it has no forward_features), so that its parts "
            "cannot be found"
        )
    x = example_input(model)
    calls: dict[str, list[Call]] = {}
    with watched(model, calls), evaluating(model), torch.no_grad():
        features = model.forward_features(x)  # type: ignore[operator]
        logits = model.forward_head(features)  # type: ignore[operator]
    shape = tuple(x.shape[1:])
    return Probe(calls, shape_of(features), _shapes(logits), (shape[0], shape[1], shape[2]))


@contextmanager
def watched(model: nn.Module, calls: dict[str, list[Call]]) -> Iterator[None]:
    """Record every call of every module of `model` into `calls`."""
    handles = []

    def hook(path: str, names: list[str]) -> Any:
        def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            if args and isinstance(args[0], Tensor):
                extra = {**dict(zip(names, args[1:], strict=False)), **kwargs}
                kept = {k: shape_of(v) or v for k, v in extra.items() if v is not None}
                calls.setdefault(path, []).append(Call(tuple(args[0].shape), shape_of(out), kept))

        return record

    try:
        # One module may stand at several places; the first name is its own.
        for path, module in model.named_modules():
            handles.append(module.register_forward_hook(hook(path, argument_names(module)[1:]), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def argument_names(module: nn.Module) -> list[str]:
    """Names of the arguments of a module's forward, without `self`."""
    code = getattr(type(module).forward, "__wrapped__", type(module).forward).__code__
    return list(code.co_varnames[1 : code.co_argcount])


def shape_of(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _shapes(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_shapes(v) for v in value)
    return shape_of(value)


def grid_of(tokens: int, image: tuple[int, int], prefixes: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(rows, columns, prefix tokens) of a token sequence that was cut from an image of that height and width.

    The one way in which `tokens` less a number of `prefixes` is a grid of the image's proportions; `None` if there is
    none.
    """
    height, width = image
    for prefix in prefixes:
        for rows in range(1, tokens - prefix + 1):
            if rows * rows * width > (tokens - prefix) * height:
                break
            if rows * rows * width == (tokens - prefix) * height and (tokens - prefix) % rows == 0:
                return rows, (tokens - prefix) // rows, prefix
    return None
