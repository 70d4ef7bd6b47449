"""Models without memory, without the work of filling what has no values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_INITS = ("uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_")
_FILLS: set[Any] = {
    *(getattr(nn.init, name) for name in (*_INITS, "kaiming_normal_", "constant_", "zeros_", "ones_")),
    *(getattr(Tensor, name) for name in ("uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_")),
}


class _Unfilled(TorchFunctionMode):
    """Tensors on the meta device are given no values, as they would keep none."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _FILLS:
            target = args[0] if args else (kwargs or {}).get("tensor")
            if isinstance(target, Tensor) and target.is_meta:
                return target
        return func(*args, **(kwargs or {}))


@contextmanager
def without_values() -> Iterator[None]:
    """Within it, what is made is on the meta device, and initialisations there cost nothing."""
    with torch.device("meta"), _Unfilled():
        yield
