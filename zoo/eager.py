"""When a hand-written forward and backward pass can take the place of composed operations."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

_PLAIN = (Tensor, nn.Parameter)


def must_compose(*tensors: Tensor) -> bool:
    """True where only composed torch operations will do.

    That is under compilation, export, tracing, `torch.func` transforms and forward-mode differentiation, and for
    subclasses of tensors.
    """
    return (
        any(type(tensor) not in _PLAIN for tensor in tensors)
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    )


def autocasts(x: Tensor) -> bool:
    """Autocast is on for the device of x."""
    return torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type)


def no_autocast(x: Tensor) -> AbstractContextManager:
    """Autocast off for the device of x."""
    return torch.autocast(x.device.type, enabled=False) if autocasts(x) else nullcontext()
