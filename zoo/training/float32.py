"""Modules that must compute in float32 when everything around them runs in a reduced precision."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

#: An attribute of a module or its class: True where bfloat16 or float16 is not enough.
FLAG = "zoo_keep_fp32"
_INNER = "_zoo_inner_forward"


@contextmanager
def float32_kept(*models: nn.Module | None) -> Iterator[None]:
    """While open, modules with `zoo_keep_fp32 = True` run without autocast, on float32 inputs.

    Their output has the dtype of their first floating-point input, so that whoever called them sees no difference in
    kind. What was put onto their `forward` is taken off at the end; a model may be opened twice.
    """
    changed: list[nn.Module] = []
    for model in models:
        for module in model.modules() if model is not None else ():
            if getattr(module, FLAG, False) and _INNER not in vars(module):
                vars(module)[_INNER] = vars(module).get("forward")
                # A bound method: a deep copy of the module gets one of its own.
                vars(module)["forward"] = types.MethodType(_forward, module)
                changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            before = vars(module).pop(_INNER)
            vars(module).pop("forward", None)
            if before is not None:
                vars(module)["forward"] = before


def _forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    first = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.is_floating_point()), None)
    if first is None:
        return _inner(module, args, kwargs)
    with torch.autocast(first.device.type, enabled=False):
        output = _inner(
            module,
            tuple(_cast(v, torch.float32) for v in args),
            {k: _cast(v, torch.float32) for k, v in kwargs.items()},
        )
    return _cast(output, first.dtype)


def _inner(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    own = module._zoo_inner_forward
    # Called through its class: the compiler does not follow methods that are made while it looks.
    return type(module).forward(module, *args, **kwargs) if own is None else own(*args, **kwargs)  # type: ignore[operator]


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Floating-point tensors in `dtype`, in tuples and lists too; float64 stays."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() and value.dtype != torch.float64 else value
    if type(value) in (tuple, list):
        return type(value)(_cast(v, dtype) for v in value)
    return value
