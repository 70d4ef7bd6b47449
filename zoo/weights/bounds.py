"""A limit on what a constructor may make, taken from the weights that shall go into it.

A description from a stranger can ask for a million layers or for matrices of terabytes. The comparison with the file
would refuse the result, but only after it was made: here the making itself is watched, and ended.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn.modules import module as hooks

from zoo.errors import MismatchError

# What is counted for timm's models is at most twice the tensors, also for compositions, which are built more than once.
_PARAMETERS = (4, 3_000)
_MODULES = (6, 3_000)
_BYTES = (16, 2**28)


@contextmanager
def bounded_build(tensors: Mapping[str, Tensor], origin: str) -> Iterator[None]:
    """Within this block, modules that this thread makes must not exceed by far what `tensors` can fill.

    Args:
        tensors: the weights.
        origin: where they are from, for the message.

    Raises:
        MismatchError: in the middle of the construction, when it goes beyond.
    """
    thread = threading.get_ident()
    held = sum(t.numel() * t.element_size() for t in tensors.values())
    limits = {
        "parameters": _PARAMETERS[0] * len(tensors) + _PARAMETERS[1],
        "modules": _MODULES[0] * len(tensors) + _MODULES[1],
        "bytes": _BYTES[0] * held + _BYTES[1],
    }
    counts = dict.fromkeys(limits, 0)

    def count(what: str, number: int = 1) -> None:
        counts[what] += number
        if counts[what] > limits[what]:
            raise MismatchError(
                f"{origin} holds {len(tensors):,} tensors of {held:,} bytes, and the model that its configuration "
                f"describes has more than {limits[what]:,} {what}: they do not belong together"
            )

    def on_tensor(module: Any, name: str, value: Any) -> None:
        if threading.get_ident() == thread and isinstance(value, Tensor):
            count("parameters")
            if not value.is_meta:
                count("bytes", value.numel() * value.element_size())

    def on_module(module: Any, name: str, value: Any) -> None:
        if threading.get_ident() == thread:
            count("modules")

    handles = [
        hooks.register_module_parameter_registration_hook(on_tensor),
        hooks.register_module_buffer_registration_hook(on_tensor),
        hooks.register_module_module_registration_hook(on_module),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_computed(buffers: Iterable[Tensor], tensors: Mapping[str, Tensor], origin: str) -> None:
    """Refuse tables that a model computes for itself (positions, masks) when they exceed its weights by far.

    Raises:
        MismatchError: before they are given memory.
    """
    held = sum(t.numel() * t.element_size() for t in tensors.values())
    wanted = sum(b.numel() * b.element_size() for b in buffers)
    if wanted > (limit := _BYTES[0] * held + _BYTES[1]):
        raise MismatchError(
            f"{origin} holds {held:,} bytes, and the model that its configuration describes computes tables of "
            f"{wanted:,} bytes (limit {limit:,}): look at its img_size"
        )


def grows(state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """Whether a model's tensors are larger by far than those of the same names that are given.

    They are not of that model then, and nothing should be resampled or repeated to fill it.
    """
    held = sum(t.numel() * t.element_size() for t in tensors.values())
    wanted = sum(state[n].numel() * state[n].element_size() for n in tensors if isinstance(state.get(n), Tensor))
    return wanted > _BYTES[0] * held + _BYTES[1]
